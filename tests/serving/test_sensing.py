"""The controller with all its senses over the shipped fakes: rewards move weights, late ones count, silence freezes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taxiway_serving.controller.sensing import Sensing
from taxiway_serving.feedback import Event
from taxiway_serving.ledger.rewards import SqlRewards
from taxiway_serving.ledger.timeline import SqlTimeline
from taxiway_serving.rollout.spec import spec_from_json
from taxiway_serving.rollout.state import Outcome, RolloutState
from tests.serving.plane import HANDLE, Plane

BANDIT = {"kind": "bandit", "reward": "click", "update_s": 5, "window_s": 5, "min_units": 30, "min_s": 20}


@pytest.fixture
def sensing(tmp_path: Path) -> Iterator[Sensing]:
    url = f"sqlite:///{tmp_path / 'senses.db'}"
    made = Sensing(rewards=SqlRewards(url), timeline=SqlTimeline(url))
    yield made
    made.close()


@pytest.fixture
def market(plane: Plane, sensing: Sensing) -> Plane:
    """A plane with version 1 live, and versions 2 and 3 deployed."""
    plane.senses = sensing
    plane.restart()
    plane.go_live(1)
    for version in (2, 3):
        plane.deploy(version)
    plane.tick(3)
    return plane


def _begin(plane: Plane, rollout_id: str, **spec: Any) -> None:
    plane.commands.start(
        spec_from_json({"id": rollout_id, "handle": HANDLE, "version": 2, "warm_s": 60, **spec})
    )


def _reward(plane: Plane, sensing: Sensing, metric: str, rates: dict[int, int], since: int) -> int:
    """Let every n-th request of a version bring a reward; return where the log ends."""
    attempts = plane.source.read("").attempts[since:]
    events, counts = [], dict.fromkeys(rates, 0)
    for attempt in attempts:
        if attempt.number == 1 and attempt.assigned in rates:
            counts[attempt.assigned] += 1
            if counts[attempt.assigned] % rates[attempt.assigned] == 0:
                events.append(
                    Event(request_id=attempt.request_id, metric=metric, value=1.0, event_at_s=attempt.at_s)
                )
    if events:
        sensing.rewards.accept(events, now_s=plane.now_s)
    return since + len(attempts)


def _run(
    plane: Plane, sensing: Sensing, rollout_id: str, *, ticks: int, metric: str = "click", **rates: int
) -> RolloutState:
    every = {int(name.removeprefix("v")): n for name, n in rates.items()}
    place = len(plane.source.read("").attempts)
    for _ in range(ticks):
        plane.tick(requests=100)
        place = _reward(plane, sensing, metric, every, place)
        if plane.rollout(rollout_id).state.outcome is not None:
            break
    return plane.rollout(rollout_id).state


def test_bandit_sends_more_to_the_version_that_earns_more_and_makes_it_live(
    market: Plane, sensing: Sensing
) -> None:
    _begin(market, "earn", rivals=[3], strategy=BANDIT)
    state = _run(market, sensing, "earn", ticks=400, v1=3, v2=3, v3=1)
    market.tick(20, requests=100)
    assert (state.outcome, state.winner) == (Outcome.PROMOTED, 3)
    assert market.stable == 3


def test_bandit_keeps_its_split_when_rewards_fall_silent(market: Plane, sensing: Sensing) -> None:
    _begin(market, "silent", rivals=[3], strategy={**BANDIT, "silence_s": 15, "min_s": 9999})
    before = _run(market, sensing, "silent", ticks=60, v1=20, v2=20, v3=4)
    market.tick(20, requests=100)
    frozen = market.rollout("silent").state.weights
    market.tick(60, requests=100)
    after = market.rollout("silent").state
    assert after.weights == frozen
    assert after.weights[3] > 50
    assert before.outcome is after.outcome is None
    assert "no reward for" in after.reason


def test_feedback_that_falls_rolls_a_canary_back(market: Plane, sensing: Sensing) -> None:
    steps = [{"setWeight": 50}, {"analysis": {"units": 100_000}}, {"setWeight": 100}]
    _begin(market, "worse", strategy={"kind": "canary", "steps": steps}, metrics=["click"])
    state = _run(market, sensing, "worse", ticks=120, v1=2, v2=10)
    assert state.outcome is Outcome.ROLLED_BACK
    assert "click" in state.reason


def test_experiment_names_the_winner_and_leaves_stable_live(market: Plane, sensing: Sensing) -> None:
    strategy = {"kind": "ab", "metric": "click", "units": 1500, "window_s": 5}
    _begin(market, "ab", strategy=strategy, metrics=["click"])
    state = _run(market, sensing, "ab", ticks=200, v1=10, v2=2)
    assert (state.outcome, state.winner, market.stable) == (Outcome.COMPLETED, 2, 1)
    assert state.arms[2].mean > 2 * state.arms[1].mean


def test_timeline_joins_requests_and_rewards_of_each_version(market: Plane, sensing: Sensing) -> None:
    _run(market, sensing, "to-1", ticks=1)
    since_s = market.now_s
    place = len(market.source.read("").attempts)
    for _ in range(20):
        market.tick(requests=10)
    _reward(market, sensing, "click", {1: 4}, place)
    rows = sensing.timeline.rows(HANDLE, since_s=since_s - 10, until_s=market.now_s + 10)
    assert sum(row.requests for row in rows if row.version == 1) >= 200
    earned = sensing.rewards.history(HANDLE, since_s=since_s - 10, until_s=market.now_s + 10, step_s=10)
    assert sum(metrics["click"]["n"] for metrics in earned.values()) == 50
