"""The bandit's walk: shares follow rewards, and stay where rewards are silent, guards cut, and arms come and go."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.rollout.observation import Observation, Rewards
from taxiway_serving.rollout.state import Outcome, RolloutState, Status, Verdict
from tests.serving.rollouts import Walk, asked, earned, seen, units

OPTIONS: dict[str, Any] = {"kind": "bandit", "reward": "click", "update_s": 10, "min_s": 60}
VERSIONS = (1, 2, 3)


class Market:
    """Users who reward versions at their own rates, by the shares that the rollout gives."""

    def __init__(self, rates: dict[int, float], *, per_look: int = 500) -> None:
        self._rng, self.rates, self._per_look = np.random.default_rng(1), rates, per_look
        self.shown, self.sums = dict.fromkeys(rates, 0), dict.fromkeys(rates, 0)

    def look(self, walk: Walk, *, are_rewards_lost: bool = False, **more: Any) -> RolloutState:
        state = walk.state
        for version, rate in self.rates.items():
            pct = state.weights.get(version, 0.0) if version != 1 else 100 - state.weight_pct
            shown = int(self._rng.binomial(self._per_look, pct / 100))
            self.shown[version] += shown
            self.sums[version] += 0 if are_rewards_lost else int(self._rng.binomial(shown, rate))
        self._last_at_s = getattr(self, "_last_at_s", 0.0) if are_rewards_lost else walk.now_s
        return walk.look(self.seen(**more))

    def seen(self, **more: Any) -> Observation:
        versions = tuple(version for version in self.rates if version != 1)
        rewards = {
            version: earned(self.shown[version], self.sums[version], at_s=self._last_at_s)
            for version in self.rates
        }
        return seen(versions=versions, rewards=rewards, **more)


def _walk(rivals: tuple[int, ...] = (3,), **options: Any) -> Walk:
    return Walk(asked(strategy={**OPTIONS, **options}, rivals=list(rivals)))


def test_bandit_begins_with_even_shares() -> None:
    walk = _walk()
    walk.look(seen(versions=(2, 3)), times=5)
    assert walk.state.weights == pytest.approx({2: 33.33, 3: 33.33}, abs=0.02)


def test_best_arm_gets_more_and_wins() -> None:
    walk, market = _walk(), Market({1: 0.10, 2: 0.10, 3: 0.20})
    shares = []
    for _ in range(400):
        market.look(walk)
        shares.append(walk.state.weights.get(3, 0.0))
    assert (walk.state.outcome, walk.state.winner) == (Outcome.PROMOTED, 3)
    assert 34 < max(shares[:40]) <= 98
    assert walk.state.weights == {3: 100}
    assert Verdict.SHIFT in {each.verdict for each in walk.decisions}


def test_live_version_that_earns_most_stays() -> None:
    walk, market = _walk(), Market({1: 0.20, 2: 0.10, 3: 0.10})
    for _ in range(400):
        market.look(walk)
    assert (walk.state.outcome, walk.state.winner, walk.state.weights) == (Outcome.COMPLETED, 1, {})


def test_winner_is_only_named_where_nobody_is_to_be_promoted() -> None:
    walk, market = _walk(promote=False), Market({1: 0.10, 2: 0.10, 3: 0.20})
    for _ in range(400):
        market.look(walk)
    assert (walk.state.outcome, walk.state.winner, walk.state.weights) == (Outcome.COMPLETED, 3, {})


def _log(values: dict[int, tuple[float, float, float]]) -> list[dict[int, Rewards]]:
    """Return the sums of a log of even traffic, look by look; values are mean and mean square and number a look."""
    return [
        {
            version: earned(number * look, mean * number * look, squares=square * number * look, at_s=look)
            for version, (mean, square, number) in values.items()
        }
        for look in range(1, 200)
    ]


def test_same_log_under_another_reward_has_another_winner() -> None:
    """Version 2 is clicked more often, version 3 brings more money: what the user asks for decides."""
    clicks = _log({1: (0.10, 0.10, 300), 2: (0.20, 0.20, 300), 3: (0.05, 0.05, 300)})
    money = _log({1: (1.0, 10.0, 300), 2: (0.5, 5.0, 300), 3: (3.0, 30.0, 300)})
    winners = {}
    for reward, kind, log in (("click", "binary", clicks), ("money", "continuous", money)):
        walk = _walk(reward=reward, reward_kind=kind)
        for rewards in log:
            walk.look(seen(versions=(2, 3), rewards=rewards))
        winners[reward] = walk.state.winner
    assert winners == {"click": 2, "money": 3}


def test_rewards_below_zero_count() -> None:
    """A reward may be a cost: sums that fall are no correction to be ignored."""
    walk = _walk(reward_kind="continuous")
    for rewards in _log({1: (-2.0, 8.0, 300), 2: (-1.0, 8.0, 300), 3: (-3.0, 8.0, 300)}):
        walk.look(seen(versions=(2, 3), rewards=rewards))
    assert walk.state.winner == 2
    assert walk.state.arms[3].mean == pytest.approx(-3)


@pytest.mark.parametrize("algorithm", ["thompson", "epsilon_greedy", "ucb"])
def test_every_algorithm_prefers_the_best_arm(algorithm: str) -> None:
    walk, market = _walk(algorithm=algorithm, min_s=1e6), Market({1: 0.05, 2: 0.05, 3: 0.30})
    for _ in range(100):
        market.look(walk)
    weights = walk.state.weights
    assert weights[3] > 1.2 * max(weights[2], 100 - walk.state.weight_pct)


def test_share_stays_between_floor_and_maximum() -> None:
    walk = _walk(floor=0.05, max_weight_pct=60, min_s=1e6)
    market = Market({1: 0.05, 2: 0.05, 3: 0.50})
    for _ in range(100):
        market.look(walk)
    assert walk.state.weights[3] == 60
    assert walk.state.weights[2] >= 5
    assert 100 - walk.state.weight_pct >= 5


def test_correction_of_a_sum_leaves_the_arms_as_the_sums_are() -> None:
    walk = _walk(min_s=1e6)
    walk.look(seen(versions=(2, 3)), times=2)
    for exposures, total in ((300, 40), (280, 20), (400, 50)):
        rewards = {version: earned(exposures, total, at_s=walk.now_s) for version in VERSIONS}
        walk.look(seen(versions=(2, 3), rewards=rewards), after_s=11)
    assert (walk.state.arms[2].exposures, walk.state.arms[2].total) == (400, 50)


def test_older_rewards_count_less_with_a_half_life() -> None:
    walk = _walk(half_life_s=20, update_s=20, min_s=1e6)
    walk.look(seen(versions=(2, 3)), times=2)
    for exposures, total in ((200, 100), (400, 100)):
        rewards = {version: earned(exposures, total, at_s=total) for version in VERSIONS}
        rewards[1] = earned(exposures, exposures / 2, at_s=exposures)
        walk.look(seen(versions=(2, 3), rewards=rewards), after_s=20)
    assert walk.state.arms[2].exposures == pytest.approx(300)
    assert walk.state.arms[2].total == pytest.approx(50)


def test_silence_freezes_the_split_and_lost_rewards_are_no_failures() -> None:
    walk, market = _walk(silence_s=60, min_s=1e6), Market({1: 0.10, 2: 0.10, 3: 0.20})
    for _ in range(60):
        market.look(walk)
    for _ in range(11):
        market.look(walk, are_rewards_lost=True)
    before = walk.state
    for _ in range(200):
        market.look(walk, are_rewards_lost=True)
    assert walk.state.weights == before.weights
    assert walk.state.arms == before.arms
    frozen = walk.state
    assert (frozen.is_frozen, "no reward for 60 s" in frozen.reason) == (True, True)
    for _ in range(60):
        market.look(walk)
    assert not walk.state.is_frozen
    assert walk.state.arms[3].mean == pytest.approx(0.2, abs=0.02)
    assert walk.state.weights[3] > 50


def test_rewards_that_are_rare_are_not_taken_for_lost() -> None:
    walk = _walk(silence_s=30, min_s=1e6, min_units=10)
    walk.look(seen(versions=(2, 3)), times=2)
    for place in range(1, 20):
        rewards = {
            version: earned(5 * place, place // 10, at_s=100.0 * (place // 10)) for version in VERSIONS
        }
        walk.look(seen(versions=(2, 3), rewards=rewards), after_s=10)
    assert not walk.state.is_frozen
    assert walk.state.arms[2].exposures == pytest.approx(50)


def test_no_traffic_at_all_is_no_silence_once_something_was_earned() -> None:
    walk, market = _walk(silence_s=60, min_s=1e6), Market({1: 0.10, 2: 0.10, 3: 0.20})
    for _ in range(30):
        market.look(walk)
    walk.look(market.seen(), times=300)
    assert not walk.state.is_frozen


def test_guard_cuts_the_arm_that_earns_most() -> None:
    walk = _walk(min_s=1e6, floor=0.1, max_weight_pct=70)
    market = Market({1: 0.10, 2: 0.10, 3: 0.60})
    for _ in range(60):
        market.look(walk)
    assert walk.state.weights[3] > 60
    market.look(walk, errors={3: units(canary=60, control=30, bad=40)})
    assert 3 not in walk.state.weights
    assert "version 3 is out" in walk.state.reason
    assert walk.decisions[-1].verdict is Verdict.ROLL_BACK
    for _ in range(60):
        market.look(walk)
    assert 3 not in walk.state.weights
    assert walk.state.weights[2] > 20
    assert walk.state.outcome is None


def test_last_arm_that_fails_takes_the_rollout_back() -> None:
    walk, market = _walk(), Market({1: 0.1, 2: 0.1, 3: 0.1})
    for _ in range(5):
        market.look(walk)
    harm = units(canary=60, control=30, bad=40)
    market.look(walk, errors={2: harm})
    market.look(walk, errors={3: harm})
    assert walk.look(market.seen()).outcome is Outcome.ROLLED_BACK


def test_winner_that_fails_at_full_traffic_is_taken_back() -> None:
    walk, market = _walk(), Market({1: 0.10, 2: 0.10, 3: 0.30})
    while walk.state.winner is None:
        market.look(walk)
    market.look(walk)
    assert walk.state.weights == {3: 100}
    market.look(walk, errors={3: units(canary=60, control=0, bad=40)})
    assert walk.look(market.seen()).outcome is Outcome.ROLLED_BACK


def test_rival_that_dies_after_the_winner_is_named_stops_nothing() -> None:
    walk, market = _walk(), Market({1: 0.10, 2: 0.10, 3: 0.30})
    while walk.state.winner is None:
        market.look(walk)
    dead = replace(market.seen(), candidates={2: Answer.NO, 3: Answer.YES})
    assert walk.look(dead, times=20).outcome is Outcome.PROMOTED


def test_arm_that_joins_gets_an_even_share_until_it_is_known() -> None:
    walk, market = _walk(rivals=(), min_s=1e6), Market({1: 0.10, 2: 0.30, 4: 0.30}, per_look=50)
    for _ in range(100):
        market.look(walk)
    assert walk.state.weights[2] > 60
    walk.say("add", 4)
    assert 4 not in walk.state.weights
    for _ in range(11):
        market.look(walk)
    assert walk.state.weights[4] == pytest.approx(33.33, abs=0.05)
    assert walk.state.weights[2] > 45
    for _ in range(100):
        market.look(walk)
    assert walk.state.weights[4] > 10


def test_arm_that_was_removed_gets_nothing_until_it_is_added_again() -> None:
    walk, market = _walk(min_s=1e6), Market({1: 0.10, 2: 0.10, 3: 0.30})
    for _ in range(30):
        market.look(walk)
    walk.say("remove", 3)
    for _ in range(30):
        market.look(walk)
    assert 3 not in walk.state.weights
    known = walk.state.arms[3]
    walk.say("add", 3)
    for _ in range(12):
        market.look(walk)
    assert walk.state.weights[3] > 30
    assert walk.state.arms[3].exposures >= known.exposures


def test_arm_that_was_cut_by_its_guard_comes_back_with_a_guard_that_begins_anew() -> None:
    walk, market = _walk(min_s=1e6), Market({1: 0.1, 2: 0.1, 3: 0.1})
    for _ in range(5):
        market.look(walk)
    market.look(walk, errors={3: units(canary=60, control=30, bad=40)})
    assert 3 in walk.state.dropped
    walk.say("add", 3)
    for _ in range(15):
        market.look(walk)
    assert 3 in walk.state.weights
    market.look(walk, errors={3: units(canary=60, control=30, bad=40)})
    assert 3 in walk.state.dropped


def test_arm_that_never_earns_does_not_keep_the_others_waiting() -> None:
    walk, market = _walk(min_s=1e6), Market({1: 0.10, 2: 0.0, 3: 0.20})
    for _ in range(100):
        market.look(walk)
    assert walk.state.weights[2] < 5


def test_rewards_that_never_come_hold_even_shares() -> None:
    walk = _walk(silence_s=60)
    for place in range(1, 200):
        rewards = {version: earned(100 * place, 0) for version in VERSIONS}
        walk.look(seen(versions=(2, 3), rewards=rewards))
    assert walk.state.weights == pytest.approx({2: 33.33, 3: 33.33}, abs=0.02)
    assert walk.state.is_frozen


def test_exploration_without_a_winner_asks_a_person_at_its_deadline() -> None:
    walk, market = _walk(deadline_s=100, min_s=1e6), Market({1: 0.1, 2: 0.1, 3: 0.1})
    for _ in range(120):
        market.look(walk)
    assert (walk.state.status, walk.state.outcome) == (Status.PAUSED, None)
    assert "inconclusive after 100 s" in walk.state.reason


def test_promotion_takes_the_arm_that_earns_most_or_the_one_that_was_named() -> None:
    market = Market({1: 0.30, 2: 0.10, 3: 0.20})
    for named, version in ((None, 3), (2, 2)):
        walk = _walk(min_s=1e6)
        for _ in range(30):
            market.look(walk)
        walk.say("promote-full", named)
        assert walk.state.weights == {version: 100}
        assert walk.look(market.seen(), times=15).outcome is Outcome.FAST_PROMOTED


def test_promotion_before_anything_is_known_needs_a_name() -> None:
    walk = _walk()
    walk.look(seen(versions=(2, 3)), times=3)
    with pytest.raises(InvalidSpecError, match="nothing is known yet"):
        walk.say("promote")
    assert walk.say("promote", 2).weights == {2: 100}


def test_candidate_that_is_never_ready_is_left_behind() -> None:
    walk = _walk()
    half = replace(seen(versions=(2, 3)), candidates={2: Answer.YES, 3: Answer.UNKNOWN})
    walk.look(half, times=7, after_s=60)
    assert walk.state.weights == pytest.approx({2: 66.67})
    assert "not ready" in walk.state.dropped[3]


@pytest.mark.parametrize("missing", [Answer.UNKNOWN, Answer.NO])
def test_nothing_moves_while_the_log_cannot_be_read(missing: Answer) -> None:
    walk, market = _walk(min_s=1e6), Market({1: 0.05, 2: 0.05, 3: 0.50})
    for _ in range(5):
        market.look(walk)
    before = walk.state.weights
    for _ in range(40):
        market.look(walk, evidence=missing)
    assert walk.state.weights == before
