"""The stop rule of a bandit: each of its conditions can hold it back."""

from collections.abc import Sequence

import numpy as np

from taxiway_serving.statistics.posterior import Arm, RewardKind, beta_posterior, posterior
from taxiway_serving.statistics.stopping import DEFAULT_RULE, StopRule, holds

CLEAR = Arm(exposures=5000, total=500), Arm(exposures=20_000, total=2600)


def is_decided(
    arms: Sequence[Arm], *, kind: RewardKind = "binary", control: int = 0, rule: StopRule = DEFAULT_RULE
) -> bool:
    seen = np.array([arm.total if kind == "binary" else arm.exposures for arm in arms])
    return bool(holds(posterior(arms, kind), seen, control=control, rule=rule))


def test_clear_winner_is_decided() -> None:
    assert is_decided(CLEAR)


def test_close_race_goes_on() -> None:
    assert not is_decided([CLEAR[0], Arm(exposures=5000, total=510)])


def test_little_reward_holds_back() -> None:
    rare = Arm(exposures=5000, total=20), Arm(exposures=5000, total=200)
    assert not is_decided(rare, control=0)
    assert is_decided(rare, control=1)
    assert is_decided(rare, rule=StopRule(successes=20))


def test_gain_still_possible_holds_back() -> None:
    """The leader is probably the best, but a third arm is hardly known."""
    arms = *CLEAR, Arm(exposures=300, total=36)
    assert not is_decided(arms, rule=StopRule(p_best=0.6))
    assert is_decided(arms, rule=StopRule(p_best=0.6, remaining=0.5))


def test_continuous_rewards_count_exposures() -> None:
    few = Arm(exposures=30, total=60, squares=121), Arm(exposures=300, total=900, squares=2710)
    small = Arm(exposures=300, total=3, squares=0.04), Arm(exposures=300, total=6, squares=0.13)
    assert not is_decided(few, kind="continuous")
    assert is_decided(few, kind="continuous", rule=StopRule(successes=30))
    assert is_decided(small, kind="continuous")


def test_many_bandits_are_judged_at_once() -> None:
    close = CLEAR[0], Arm(exposures=5000, total=510)
    shown = np.array([[arm.exposures for arm in arms] for arms in (CLEAR, close)])
    seen = np.array([[arm.total for arm in arms] for arms in (CLEAR, close)])
    assert holds(beta_posterior(shown, seen), seen).tolist() == [True, False]
