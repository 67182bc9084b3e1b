"""The experiment's walk: fixed shares or segments, and a winner only where one is proven."""

from typing import Any

import numpy as np
import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.rollout.machine import readings_of
from taxiway_serving.rollout.observation import Observation
from taxiway_serving.rollout.state import Outcome, Status
from tests.serving.rollouts import Walk, asked, earned, seen, units

AB: dict[str, Any] = {"kind": "ab", "metric": "click", "units": 2000, "window_s": 5}


def _walk(rivals: tuple[int, ...] = (), **options: Any) -> Walk:
    return Walk(asked(strategy={**AB, **options}, rivals=list(rivals)))


def _look(rng: np.random.Generator, mine: dict[int, float], control: float, share: float) -> Observation:
    """Return a look with 100 units of each arm, rewarded at these rates."""
    values = {
        f"{version}/click": tuple(
            [(True, float(rng.random() < rate), share) for _ in range(100)]
            + [(False, float(rng.random() < control), share) for _ in range(100)]
        )
        for version, rate in mine.items()
    }
    errors = {version: units(canary=100, control=100) for version in mine}
    return seen(versions=tuple(mine), errors=errors, values=values)


def _run(walk: Walk, mine: dict[int, float], control: float, *, share: float = 0.5) -> None:
    rng = np.random.default_rng(5)
    for _ in range(80):
        walk.look(_look(rng, mine, control, share))


def test_experiment_holds_its_shares_and_names_who_earns_more() -> None:
    walk = _walk(weights={"2": 30, "3": 20}, rivals=(3,))
    walk.look(seen(versions=(2, 3)))
    assert walk.state.weights == {2: 30, 3: 20}
    _run(walk, {2: 0.10, 3: 0.40}, 0.10)
    assert (walk.state.outcome, walk.state.winner, walk.state.weights) == (Outcome.COMPLETED, 3, {})


def test_report_of_an_experiment_holds_the_evidence_on_those_who_lost() -> None:
    walk = _walk(rivals=(3,))
    _run(walk, {2: 0.1, 3: 0.4}, 0.1)
    gains = {
        reading.version: reading.answer
        for reading in readings_of(walk.spec, walk.steps, walk.state)
        if reading.name == "click_gain"
    }
    assert (walk.state.winner, gains) == (3, {2: Answer.NO, 3: Answer.YES})


def test_experiment_without_a_difference_names_the_live_version() -> None:
    walk = _walk(promote=True)
    _run(walk, {2: 0.2}, 0.2)
    assert (walk.state.outcome, walk.state.winner, walk.state.weights) == (Outcome.COMPLETED, 1, {})


def test_experiment_promotes_a_proven_winner_where_it_was_told_to() -> None:
    walk = _walk(promote=True, rivals=(3,))
    _run(walk, {2: 0.1, 3: 0.4}, 0.1)
    assert (walk.state.outcome, walk.state.winner, walk.state.weights) == (Outcome.PROMOTED, 3, {3: 100})


def test_metric_that_should_be_low_is_won_by_the_lower() -> None:
    cost = {"name": "click", "kind": "feedback", "direction": "down", "dry_run": False}
    walk = Walk(asked(strategy=AB, metrics=[cost]))
    _run(walk, {2: 0.1}, 0.4)
    assert walk.state.winner == 2


def test_experiment_by_header_reports_and_compares_nothing() -> None:
    walk = _walk(by={"header": "x-segment", "values": {"beta": 2}}, units=300)
    walk.look(seen())
    assert (walk.state.header is not None, walk.state.weights) == (True, {})
    rewards = {1: earned(1000, 100, at_s=1), 2: earned(1000, 900, at_s=1)}
    walk.look(seen(errors=units(canary=100, control=100), rewards=rewards), times=20)
    assert (walk.state.outcome, walk.state.winner, walk.state.header) == (Outcome.COMPLETED, 1, None)
    assert walk.state.arms[2].mean == pytest.approx(0.9)


def test_experiment_waits_for_the_units_of_each_candidate() -> None:
    walk = _walk(rivals=(3,), units=50)
    walk.look(seen(versions=(2, 3), errors={2: units(), 3: units(canary=1)}), times=20)
    assert walk.state.outcome is None
    assert "version 3: " in walk.state.reason
    assert "version 2: " not in walk.state.reason


def test_experiment_ends_at_its_deadline_with_what_it_has() -> None:
    walk = _walk(deadline_s=20)
    walk.look(seen(errors=units()), times=40)
    assert (walk.state.outcome, walk.state.winner) == (Outcome.COMPLETED, 1)


def test_candidate_that_harms_is_out_and_the_others_go_on() -> None:
    walk = _walk(rivals=(3,), units=300)
    walk.look(seen(versions=(2, 3)), times=3)
    walk.look(seen(versions=(2, 3), errors={2: units(bad=20), 3: units()}))
    assert list(walk.state.dropped) == [2]
    walk.look(seen(versions=(2, 3), errors={3: units()}), times=20)
    assert walk.state.outcome is Outcome.COMPLETED


def test_candidate_that_harms_those_who_chose_it_loses_its_route() -> None:
    walk = _walk(rivals=(3,), by={"header": "x-segment", "values": {"a": 2, "b": 3}}, units=300)
    walk.look(seen(versions=(2, 3)), times=2)
    walk.look(seen(versions=(2, 3), errors={2: units(bad=20), 3: units()}))
    assert walk.state.header is not None
    assert dict(walk.state.header.versions) == {"b": 3}
    assert list(walk.state.dropped) == [2]


def test_candidate_joins_an_experiment_with_an_even_share() -> None:
    walk = _walk(rivals=(3,), units=300)
    walk.look(seen(versions=(2, 3)), times=3)
    walk.say("add", 4)
    assert walk.state.weights == pytest.approx({2: 22.22, 3: 22.22, 4: 22.22}, abs=0.02)
    walk.look(seen(versions=(2, 3, 4), errors={2: units(), 3: units()}), times=20)
    assert "version 4: 0 of 300 units" in walk.state.reason


@pytest.mark.parametrize(
    "options",
    [{"weights": {"2": 50}}, {"by": {"header": "x-segment", "values": {"beta": 2}}}],
    ids=["weights", "header"],
)
def test_candidate_cannot_join_where_shares_are_fixed(options: dict[str, Any]) -> None:
    walk = _walk(**options)
    walk.look(seen(), times=3)
    with pytest.raises(InvalidSpecError, match="fixed shares"):
        walk.say("add", 4)


def test_live_version_cannot_be_added_and_the_last_candidate_cannot_be_removed() -> None:
    walk = _walk()
    before = walk.look(seen(), times=3)
    assert walk.say("add", 1) == before
    with pytest.raises(InvalidSpecError, match="last candidate"):
        walk.say("remove", 2)


def test_nobody_joins_after_the_winner_is_named() -> None:
    walk = _walk(promote=True)
    rng = np.random.default_rng(5)
    while walk.state.winner is None:
        walk.look(_look(rng, {2: 0.4}, 0.1, 0.5))
    with pytest.raises(InvalidSpecError, match="has won already"):
        walk.say("add", 4)


def test_paused_experiment_moves_nothing() -> None:
    walk = _walk()
    walk.look(seen(), times=3)
    walk.say("pause")
    walk.look(seen(errors=units(canary=100)), times=50)
    assert (walk.state.status, walk.state.weight_pct) == (Status.PAUSED, 50)
