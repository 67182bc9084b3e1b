"""What is searched and for what: the short form and the long one, every fault at once, what a caller lays over it."""

from collections.abc import Mapping
from typing import Any

import pytest

from taxiway.errors import InvalidSpecError, OutputFaultsError
from taxiway.project.tuning import faults
from taxiway.tuning.goal import Constraint, Goal, Objective, goal_of

SPACE = {"c": {"type": "float", "low": 0.0, "high": 1.0}}
SHORT = {"space": SPACE, "metric": "score", "direction": "maximize"}
LONG = {
    "space": SPACE,
    "objectives": [{"metric": "score", "direction": "maximize"}, {"metric": "ms", "direction": "minimize"}],
    "constraints": [{"metric": "size", "at_most": 3}, {"metric": "recall", "at_least": 0.5}],
}


def test_short_and_long_form_are_the_same_goal() -> None:
    listed = {"space": SPACE, "objectives": [{"metric": "score", "direction": "maximize"}]}
    assert goal_of(SHORT, {}) == goal_of(listed, {})


def test_goal_survives_json() -> None:
    goal, _ = goal_of(LONG, {})
    assert Goal.from_json(goal.to_json()) == goal


@pytest.mark.parametrize(
    ("table", "pruner"), [(SHORT, "median"), (SHORT | {"pruner": "none"}, "none"), (LONG, "none")], ids=str
)
def test_pruner_is_none_for_several_objectives(table: Mapping[str, Any], pruner: str) -> None:
    assert goal_of(table, {})[1] == pruner


@pytest.mark.parametrize(
    ("given", "laid_over", "objectives"),
    [
        (SHORT, {"direction": "minimize"}, [("score", "minimize")]),
        (SHORT, {"objectives": LONG["objectives"]}, [("score", "maximize"), ("ms", "minimize")]),
        (LONG, {"metric": "ms", "direction": "minimize"}, [("ms", "minimize")]),
        ({}, SHORT, [("score", "maximize")]),
    ],
    ids=["one key", "long over short", "short over long", "nothing below"],
)
def test_caller_lays_keys_over_the_project(
    given: Mapping[str, Any], laid_over: Mapping[str, Any], objectives: list[tuple[str, str]]
) -> None:
    goal, _ = goal_of(given, laid_over)
    assert [(each.metric, each.direction) for each in goal.objectives] == objectives


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"objectives": []}, "not both"),
        ({"constraints": [{"metric": "size"}]}, "either at_most or at_least"),
        ({"constraints": [{"metric": "size", "at_most": 1, "at_least": 2}]}, "either at_most or at_least"),
        ({"constraints": [{"metric": "size", "at_most": float("nan")}]}, "finite"),
        ({"constraints": [{"at_most": 1}]}, "metric must be a text"),
        ({"constraints": [{"metric": "size", "at_most": 1, "below": 1}]}, "unknown key 'below'"),
        ({"constraints": {"size": 1}}, "must be a list"),
        ({"pruner": "hyperband"}, "pruner must be one of"),
        ({"metric": ""}, "metric must be a text"),
        ({"direction": "up"}, "maximize or minimize"),
        ({"space": {}}, "at least one parameter"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_table_that_is_wrong_is_told(change: Mapping[str, Any], part: str) -> None:
    found = faults({**SHORT, **change})
    assert len(found) == 1
    assert part in found[0]


@pytest.mark.parametrize(
    ("objectives", "part"),
    [
        ([], "not empty"),
        ("score", "must be a list"),
        ([{"metric": "a", "direction": "maximize"}] * 2, "twice"),
        ([{"metric": "a", "direction": "maximize", "weight": 1}], "unknown key 'weight'"),
        (["score"], "must be {metric, direction}"),
    ],
    ids=str,
)
def test_objectives_that_are_wrong_are_told(objectives: Any, part: str) -> None:
    found = faults({"space": SPACE, "objectives": objectives})
    assert len(found) == 1
    assert part in found[0]


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(InvalidSpecError) as caught:
        goal_of({}, {"space": {"c": {"type": "guess"}}, "direction": "up", "speed": 1})
    assert len(caught.value.faults) == 4


def test_pruner_over_several_objectives_is_refused() -> None:
    with pytest.raises(InvalidSpecError, match="several objectives"):
        goal_of(LONG, {"pruner": "median"})


def test_goal_measures_values_and_violations() -> None:
    goal, _ = goal_of(LONG, {})
    values, violations = goal.measured({"score": 0.9, "ms": 5.0, "size": 4.0, "recall": 0.75})
    assert values == [0.9, 5.0]
    assert violations == {"size at most 3": 1.0, "recall at least 0.5": -0.25}


def test_missing_metrics_are_named_with_those_that_are_there() -> None:
    goal = Goal(
        space=SPACE,
        objectives=(Objective(metric="score", direction="maximize"),),
        constraints=(Constraint(metric="size", bound="at_most", limit=1),),
    )
    with pytest.raises(OutputFaultsError) as caught:
        goal.measured({"loss": 1.0})
    assert len(caught.value.faults) == 2
    assert "loss" in caught.value.faults[0]
