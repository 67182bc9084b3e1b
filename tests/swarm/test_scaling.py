"""How many replicas are wanted: bounds, doubt, restlessness, as properties; and the whole of it over the fakes."""

from collections.abc import Callable
from dataclasses import replace
from threading import RLock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway_serving.controller.scaling import DOWN_S, LOOK_S, UP_S, Bounds, Look, Scaler, wanted
from taxiway_serving.names import VariantId
from tests.serving.conftest import plane
from tests.serving.plane import HANDLE, Plane

__all__ = ["plane"]

LOADS = st.lists(st.one_of(st.none(), st.integers(0, 500)), max_size=150)
BOUNDS = st.builds(
    lambda fewest, more, per_replica: Bounds(fewest=fewest, most=fewest + more, per_replica=per_replica),
    st.integers(1, 10),
    st.integers(0, 20),
    st.floats(0.5, 50),
)
FIRST = VariantId(handle=HANDLE, version=1)
FOUR = Bounds(fewest=1, most=10, per_replica=4)


def looks(loads: list[int | None]) -> list[Look]:
    return [Look(at_s=1_000_000.0 + LOOK_S * place, in_flight=load) for place, load in enumerate(loads)]


def steady(load: int | None, seconds: float) -> list[int | None]:
    return [load] * round(seconds / LOOK_S)


@given(LOADS, st.integers(1, 40), BOUNDS)
def test_wanted_is_between_the_bounds(loads: list[int | None], current: int, bounds: Bounds) -> None:
    assert bounds.fewest <= wanted(looks(loads), current, bounds) <= bounds.most


@given(LOADS, BOUNDS, st.data())
def test_doubt_within_the_minute_takes_no_replica_away(
    loads: list[int | None], bounds: Bounds, data: st.DataObject
) -> None:
    current = data.draw(st.integers(bounds.fewest, bounds.most))
    place = data.draw(st.integers(0, round(DOWN_S / LOOK_S) - 1))
    doubtful = [*loads, None, *steady(0, place)]
    assert wanted(looks(doubtful), current, bounds) >= current


@given(LOADS, st.integers(1, 40), BOUNDS)
def test_a_controller_that_has_just_started_takes_no_replica_away(
    loads: list[int | None], current: int, bounds: Bounds
) -> None:
    within = min(max(current, bounds.fewest), bounds.most)
    young = looks(loads)[: round(DOWN_S / LOOK_S)]
    assert wanted(young, current, bounds) >= within


@given(st.lists(st.integers(0, 500), max_size=150), st.integers(0, 100), st.integers(1, 40), BOUNDS)
def test_more_load_wants_no_fewer(loads: list[int], more: int, current: int, bounds: Bounds) -> None:
    light = wanted(looks([*loads]), current, bounds)
    assert wanted(looks([load + more for load in loads]), current, bounds) >= light


@given(st.integers(0, 500), st.integers(1, 40), BOUNDS)
def test_a_steady_load_comes_to_rest(load: int, current: int, bounds: Bounds) -> None:
    history = looks(steady(load, DOWN_S + 5))
    first = wanted(history, current, bounds)
    second = wanted(history, first, bounds)
    assert wanted(history, second, bounds) == second
    assert second * bounds.per_replica >= load or second == bounds.most


def test_load_counts_within_seconds_and_a_single_spike_does_not() -> None:
    assert wanted(looks([*steady(0, 60), *steady(12, UP_S)]), 1, FOUR) == 3
    assert wanted(looks([*steady(0, 60), 12]), 1, FOUR) == 1


def test_load_that_is_gone_is_believed_after_a_minute() -> None:
    gone = [*steady(12, 5), *steady(1, DOWN_S)]
    assert wanted(looks(gone[:-3]), 3, FOUR) == 3
    assert wanted(looks([*gone, 1, 1]), 3, FOUR) == 1


def test_a_load_just_below_the_step_keeps_what_there_is() -> None:
    assert wanted(looks(steady(7, 100)), 3, FOUR) == 3
    assert wanted(looks(steady(5, 100)), 3, FOUR) == 2


@pytest.fixture
def scaler(plane: Plane) -> Scaler:
    return Scaler(plane.store, plane.router.in_flight, lambda: plane.now_s, per_replica=4)


@pytest.fixture
def passing(plane: Plane, scaler: Scaler) -> Callable[[int], None]:
    """Return a function that lets seconds pass."""

    def passed(seconds: int) -> None:
        for _ in range(seconds):
            plane.tick()
            scaler.look(RLock())

    return passed


def test_load_brings_replicas_and_takes_them_away_and_the_ledger_says_why(
    plane: Plane, passing: Callable[[int], None]
) -> None:
    plane.commands.deploy(replace(plane.spec(1), most_replicas=4), actor="ann")
    passing(10)
    assert plane.runtime.specs[FIRST].replicas == 1
    plane.router.active[FIRST] = 11
    passing(8)
    assert plane.runtime.specs[FIRST].replicas == 3
    plane.router.is_reachable = False
    passing(100)
    assert plane.runtime.specs[FIRST].replicas == 3
    plane.router.is_reachable = True
    plane.router.active[FIRST] = 0
    plane.restart()
    passing(50)
    assert plane.runtime.specs[FIRST].replicas == 3
    passing(20)
    assert plane.runtime.specs[FIRST].replicas == 1
    entries = [each for each in plane.store.entries(HANDLE, after=0, limit=1000) if each.kind == "scaled"]
    assert [(each.body["from"], each.body["to"]) for each in entries] == [(1, 2), (2, 3), (3, 1)]
    assert "11 at most" in entries[0].reason
    assert entries[0].body["in_flight_peak"] == 11


def test_what_may_not_grow_is_not_asked_about(plane: Plane, passing: Callable[[int], None]) -> None:
    plane.deploy(1)
    plane.router.active[FIRST] = 100
    passing(20)
    assert plane.runtime.specs[FIRST].replicas == 1
    assert [each for each in plane.store.entries(HANDLE, after=0, limit=1000) if each.kind == "scaled"] == []
