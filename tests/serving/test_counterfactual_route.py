"""What a version would do at 100 %, asked of the controller: from logged decisions, each unit once, windows closed."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from taxiway_serving.feedback import Event, Exposure, How, Metric
from taxiway_serving.ledger.rewards import SqlRewards
from taxiway_serving.split import Split
from taxiway_serving.statistics.counterfactual import counterfactual

CLICK = Metric(name="click", window_s=10.0)


@pytest.fixture
def rewards(tmp_path: Path) -> Iterator[SqlRewards]:
    store = SqlRewards(f"sqlite:///{tmp_path / 'rewards.db'}")
    yield store
    store.close()


def _exposure(number: int, version: int, share: float, unit: str = "", at_s: float | None = None) -> Exposure:
    return Exposure(
        request_id=f"r{number}",
        handle="digits",
        version=version,
        unit=unit or f"request:r{number}",
        at_s=1000.0 + number if at_s is None else at_s,
        share=share,
    )


def test_decisions_are_each_unit_once_inside_the_time_of_the_version(rewards: SqlRewards) -> None:
    rewards.record(
        [
            _exposure(1, 1, 1.0),
            _exposure(2, 2, 0.25, unit="user:ada"),
            _exposure(3, 1, 0.75),
            _exposure(4, 2, 0.25, unit="user:ada"),
            _exposure(5, 2, 0.25),
            _exposure(6, 1, 1.0),
        ]
    )
    rewards.accept(
        [
            Event(request_id="r5", metric="click", value=1.0, event_at_s=1006.0),
            Event(request_id="r3", metric="click", value=1.0, event_at_s=1900.0),
        ],
        now_s=1900.0,
    )
    found = rewards.drawn("digits", CLICK, version=2, since_s=0.0, now_s=2000.0)
    assert found == [(2, 0.25, 0.0), (1, 0.75, 0.0), (2, 0.25, 1.0)]


def test_decisions_with_an_open_window_are_left_out(rewards: SqlRewards) -> None:
    rewards.record([_exposure(1, 2, 0.5), _exposure(2, 2, 0.5), _exposure(8, 2, 0.5)])
    found = rewards.drawn("digits", CLICK, version=2, since_s=0.0, now_s=1015.0)
    assert len(found) == 2


def test_version_that_was_never_drawn_has_no_decisions(rewards: SqlRewards) -> None:
    rewards.record([_exposure(1, 1, 1.0)])
    assert rewards.drawn("digits", CLICK, version=2, since_s=0.0, now_s=5000.0) == []


@pytest.mark.parametrize(("how", "value"), [("first", 2.0), ("max", 5.0), ("sum", 7.0)])
def test_decision_brought_what_its_events_come_to(rewards: SqlRewards, how: How, value: float) -> None:
    rewards.record([_exposure(1, 2, 0.5)])
    told = [("a", 2.0, 1002.0), ("b", 5.0, 1003.0)]
    events = [
        Event(request_id="r1", metric="click", value=value, event_id=name, event_at_s=at_s)
        for name, value, at_s in told
    ]
    rewards.accept(events, now_s=1010.0)
    metric = replace(CLICK, how=how)
    assert rewards.drawn("digits", metric, version=2, since_s=0.0, now_s=2000.0) == [(2, 0.5, value)]


def _run(rewards: SqlRewards, chance: np.random.Generator, first: int) -> None:
    """Let a tenth of 1,000 requests go to version 2, and then 3,000 to version 1 alone."""
    rewards.note_splits({"digits": Split.of(1, {2: 10})}, now_s=1000.0 + first)
    rewards.record(
        [
            _exposure(n, 2 if is_drawn else 1, 0.1 if is_drawn else 0.9)
            for n, is_drawn in enumerate(chance.random(1000) < 0.1, first)
        ]
    )
    rewards.note_splits({"digits": Split.whole(1)}, now_s=2000.0 + first)
    rewards.record([_exposure(n, 1, 1.0) for n in range(first + 1000, first + 4000)])


@pytest.mark.parametrize("restarts", [False, True], ids=["one controller", "restarted"])
def test_time_without_a_share_between_two_runs_is_left_out(tmp_path: Path, restarts: bool) -> None:
    url, chance = f"sqlite:///{tmp_path / 'rewards.db'}", np.random.default_rng(3)
    with ExitStack() as stack:
        rewards = stack.enter_context(closing(SqlRewards(url)))
        _run(rewards, chance, 1)
        if restarts:
            rewards = stack.enter_context(closing(SqlRewards(url)))
        _run(rewards, chance, 5001)
        rows = rewards.drawn("digits", CLICK, version=2, since_s=0.0, now_s=99_999.0)
        later = rewards.drawn("digits", CLICK, version=2, since_s=6000.0, now_s=99_999.0)
    assert 1900 < len(rows) <= 2000
    assert len(later) <= 1000
    assert counterfactual(rows, 2).reason == ""


def test_estimate_of_a_tenth_of_the_traffic_foretells_the_whole(rewards: SqlRewards) -> None:
    """Version 2 earns 0.3 at 10 %, version 1 earns 0.1: the estimate is of version 2 alone."""
    chance = np.random.default_rng(7)
    versions = np.where(chance.random(4000) < 0.1, 2, 1)
    clicks = chance.random(4000) < np.where(versions == 2, 0.3, 0.1)
    rewards.record([_exposure(n, int(v), 0.1 if v == 2 else 0.9) for n, v in enumerate(versions)])
    events = [
        Event(request_id=f"r{n}", metric="click", value=1.0, event_at_s=1001.0 + n)
        for n in np.flatnonzero(clicks).tolist()
    ]
    for start in range(0, len(events), 1000):
        rewards.accept(events[start : start + 1000], now_s=9000.0)
    rows = rewards.drawn("digits", CLICK, version=2, since_s=0.0, now_s=9000.0)
    found = counterfactual(rows, 2)
    assert found.value is not None
    assert found.low < 0.3 < found.high
    assert abs(found.value - 0.3) < 0.08
    assert found.low > 0.1
