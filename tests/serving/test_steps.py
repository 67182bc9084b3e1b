"""The steps' JSON form: what a caller writes, what is stored, and what is refused."""

from typing import Any

import pytest

from taxiway_serving.criterion import Criterion
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.rollout.plans import plan_faults, plan_from_json, step_to_json
from taxiway_serving.rollout.steps import (
    Analysis,
    Bake,
    Compare,
    Experiment,
    Explore,
    Pause,
    SetHeaderRoute,
    SetMirrorRoute,
    SetWeight,
    Step,
)

STEPS: dict[str, tuple[Any, Step]] = {
    "weight": ({"setWeight": 5}, SetWeight(weight_pct=5)),
    "weights": ({"setWeight": {"weights": {"2": 5, "3": 7.5}}}, SetWeight(weights={2: 5, 3: 7.5})),
    "pause": ({"pause": {}}, Pause()),
    "pause for": ({"pause": {"duration_s": 5}}, Pause(duration_s=5)),
    "bake": ({"bake": 60}, Bake(duration_s=60)),
    "analysis": ({"analysis": {"units": 9, "certify": True}}, Analysis(units=9, certify=True)),
    "header": (
        {"setHeaderRoute": {"header": "x-beta", "value": "1"}},
        SetHeaderRoute(header="x-beta", value="1"),
    ),
    "cookie": (
        {"setHeaderRoute": {"cookie": "c", "values": {"a": 2}}},
        SetHeaderRoute(cookie="c", values={"a": 2}),
    ),
    "no header": ({"setHeaderRoute": {}}, SetHeaderRoute()),
    "mirror": ({"setMirrorRoute": {"sample_pct": 10}}, SetMirrorRoute(sample_pct=10)),
    "compare": ({"compare": {"samples": 50}}, Compare(samples=50)),
    "explore": ({"explore": {"reward": "click", "floor": 0.1}}, Explore(reward="click", floor=0.1)),
    "experiment": ({"experiment": {"metric": "click"}}, Experiment(metric="click")),
}


@pytest.mark.parametrize("case", STEPS.values(), ids=STEPS)
def test_steps_are_read_and_written_alike(case: tuple[Any, Step]) -> None:
    written, step = case
    assert plan_from_json([written]) == (step,)
    assert plan_from_json([step_to_json(step)]) == (step,)


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        ("setWeight", "give an object with one of"),
        ({"setWeight": 5, "pause": {}}, "give an object with one of"),
        ({"fly": {}}, "give an object with one of"),
        ({"setWeight": None}, "must be a number"),
        ({"setWeight": True}, "must be a number"),
        ({"setWeight": 101}, "0 or lie in 0.01 to 100"),
        ({"setWeight": 0.001}, "0 or lie in 0.01 to 100"),
        ({"setWeight": {"weight_pct": 5, "weights": {"2": 5}}}, "give one of them"),
        ({"setWeight": {"weights": {"two": 5}}}, "must be an object"),
        ({"setWeight": {"weights": {"2": 60, "3": 60}}}, "add up to 120"),
        ({"bake": None}, "must be a number"),
        ({"bake": {}}, "duration_s: missing"),
        ({"pause": {"duration_s": "long"}}, "must be a number or null"),
        ({"pause": {"duration_s": -1}}, "must lie in 0"),
        ({"analysis": {"units": float("nan")}}, "must be a whole number"),
        ({"analysis": {"units": 5.5}}, "must be a whole number"),
        ({"analysis": {"certifi": True}}, "certifi: unknown"),
        ({"analysis": {"deadline_s": None}}, "must be a number"),
        ({"setHeaderRoute": {"header": "a", "cookie": "b", "value": "1"}}, "give one of them"),
        ({"setHeaderRoute": {"header": "a", "value": "1", "values": {"b": 2}}}, "give one of them"),
        ({"setHeaderRoute": {"header": "a"}}, "value: missing"),
        ({"setHeaderRoute": {"value": "1"}}, "header: missing"),
        ({"setMirrorRoute": {"sample_pct": 0.001}}, "0 or at least 0.01"),
        ({"setMirrorRoute": {}}, "sample_pct: missing"),
        ({"compare": {"most_different_pct": 0}}, "must lie in"),
        ({"compare": {"tolerance": -1}}, "tolerance"),
        ({"compare": {"pointer": "label"}}, "pointer"),
        ({"compare": {"pointer": "/label", "function": "boxes"}}, "function"),
        ({"compare": {"leeway": 0.1}}, "leeway: unknown"),
    ],
    ids=str,
)
def test_step_with_a_fault_says_which_and_where(step: Any, fault: str) -> None:
    with pytest.raises(InvalidSpecError, match=f"step 2: .*{fault}"):
        plan_from_json([{"setWeight": 5}, step])


def test_faults_of_all_steps_come_together() -> None:
    with pytest.raises(InvalidSpecError) as caught:
        plan_from_json([{"bake": None}, {"setWeight": 5}, {"analysis": {"units": -1, "deadline_s": 0}}])
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["step 1", "step 3", "step 3"]


@pytest.mark.parametrize("steps", ["setWeight", {"setWeight": 5}, 7])
def test_plan_is_a_list(steps: Any) -> None:
    with pytest.raises(InvalidSpecError, match="give a list"):
        plan_from_json(steps)


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        ([{"setWeight": 50}], "the last setWeight must be 100"),
        ([{"pause": {}}], "the last setWeight must be 100"),
        ([{"setWeight": 50}, {"setWeight": 20}, {"setWeight": 100}], "fall"),
        ([{"compare": {}}, {"setWeight": 100}], "nothing to compare"),
        ([{"explore": {}}, {"setWeight": 100}], "explore is no step of a caller's plan"),
        ([{"setWeight": {"weights": {"2": 5}}}, {"setWeight": 100}], "for several candidates"),
    ],
    ids=str,
)
def test_callers_plan_brings_one_candidate_to_all_traffic(steps: list[Any], fault: str) -> None:
    assert any(fault in each for each in plan_faults(plan_from_json(steps)))


def test_sound_plan_has_no_faults() -> None:
    alike = {"compare": {"pointer": "/label", "tolerance": 0.1, "relative": 0.0}}
    mirrored = [{"setMirrorRoute": {"sample_pct": 5}}, alike, {"setWeight": 5}, {"setWeight": 100}]
    read = plan_from_json(mirrored)
    assert plan_faults(read) == []
    assert [step.criterion for step in read if isinstance(step, Compare)] == [
        Criterion(pointer="/label", tolerance=0.1, relative=0.0)
    ]
