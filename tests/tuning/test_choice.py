"""Which trial is taken, and when a search is stuck."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.tuning.choice import Outcome, choose, front_of, is_stuck
from taxiway.tuning.goal import Constraint, Goal, Objective

UP = Objective(metric="score", direction="maximize")
DOWN = Objective(metric="ms", direction="minimize")
ONE = Goal(space={}, objectives=(UP,))
TWO = Goal(space={}, objectives=(UP, DOWN))
LIMITED = Goal(space={}, objectives=(UP,), constraints=(Constraint(metric="size", bound="at_most", limit=1),))


def outcomes(*losses: tuple[float, ...], broken: tuple[float, ...] = ()) -> list[Outcome]:
    pairs = itertools.zip_longest(losses, broken, fillvalue=0.0)
    return [
        Outcome(number=at, losses=each, violation=violation)  # type: ignore[arg-type]
        for at, (each, violation) in enumerate(pairs)
    ]


def test_best_value_is_taken_and_why_is_said() -> None:
    taken = choose(outcomes((-0.1,), (-0.9,), (-0.5,)), ONE)
    assert taken is not None
    assert (taken.number, taken.reason, taken.front) == (1, "highest score", (1,))


def test_best_that_keeps_the_constraints_is_taken() -> None:
    taken = choose(outcomes((-0.1,), (-0.9,), (-0.5,), broken=(0, 2.0, 0)), LIMITED)
    assert taken is not None
    assert taken.number == 2
    assert "size at most 1" in taken.reason


@pytest.mark.parametrize(
    "found", [[], outcomes(()), outcomes((-1.0,), broken=(1,))], ids=["none", "pruned", "broken"]
)
def test_nothing_is_taken_where_nothing_is_acceptable(found: list[Outcome]) -> None:
    assert choose(found, LIMITED) is None


def test_of_equals_the_first_is_taken() -> None:
    taken = choose(outcomes((-1.0,), (-1.0,)), ONE)
    assert taken is not None
    assert taken.number == 0


def test_front_holds_what_no_other_beats_and_the_middle_is_taken() -> None:
    found = outcomes((-1.0, 10.0), (-0.9, 2.0), (-0.1, 1.0), (-0.8, 9.0))
    taken = choose(found, TWO)
    assert taken is not None
    assert taken.front == (0, 1, 2)
    assert taken.number == 1
    assert "of 3 that no other trial beats" in taken.reason


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    found = outcomes(*(tuple(map(float, point)) for point in points))
    front = {each.losses for each in front_of(found)}
    expected = {
        one
        for one in points
        if not any(other != one and other[0] <= one[0] and other[1] <= one[1] for other in points)
    }
    assert front == {tuple(map(float, point)) for point in expected}
    assert len(front) == len(front_of(found))


@pytest.mark.parametrize(
    ("losses", "patience", "stuck"),
    [
        ([3.0, 2.0, 1.0], 1, False),
        ([3.0, 2.0, 2.0], 1, True),
        ([1.0, 2.0, 3.0], 2, True),
        ([1.0, 2.0, 3.0], 3, False),
        ([1.0, 2.0, 0.5], 2, False),
        ([], 1, False),
    ],
    ids=str,
)
def test_search_is_stuck_after_trials_without_improvement(
    losses: list[float], patience: int, *, stuck: bool
) -> None:
    assert is_stuck(outcomes(*((loss,) for loss in losses)), patience) is stuck


def test_trials_that_were_ended_early_or_break_a_constraint_improve_nothing() -> None:
    assert is_stuck(outcomes((1.0,), (), (0.5,), broken=(0, 0, 1.0)), 2)


def test_search_that_comes_nearer_to_its_constraints_is_not_stuck() -> None:
    nearing = outcomes((1.0,), (2.0,), (3.0,), (4.0,), broken=(3.0, 2.0, 1.0, 0.5))
    assert not is_stuck(nearing, 1)
    away = outcomes((1.0,), (0.5,), (0.4,), broken=(1.0, 2.0, 3.0))
    assert is_stuck(away, 2)
