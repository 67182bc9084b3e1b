"""Strategies that a project forbids: the controller refuses them, whoever asks, and whatever they are called."""

from dataclasses import replace
from typing import Any

import pytest

from taxiway_serving.errors import ConflictError, InvalidSpecError
from taxiway_serving.rollout.state import Outcome
from taxiway_serving.runtimes.runtime import VariantSpec
from taxiway_serving.strategies import plan, rollout_from_json
from taxiway_serving.strategies.policy import is_switch
from tests.serving.plane import HANDLE, Plane

WHY = "patients would all see it"
PROOF = {"analysis": {"units": 10, "certify": True}}
WHOLE = {"setWeight": 100}


def forbid(plane: Plane, version: int, *names: str) -> None:
    spec = replace(plane.spec(version), forbid=names, forbid_reason=WHY)
    plane.commands.deploy(spec, actor="ann")


@pytest.fixture
def live(plane: Plane) -> Plane:
    """Version 1 live, version 2 deployed with a policy."""
    plane.go_live(1)
    forbid(plane, 2, "blue_green", "all_at_once")
    plane.tick(3)
    return plane


EVASIONS: list[dict[str, Any]] = [
    {"kind": "blue_green"},
    {"kind": "all_at_once"},
    {"kind": "linear", "step_pct": 100},
    {"kind": "canary", "steps": [WHOLE]},
    {"kind": "canary", "steps": [{"setWeight": 99.99}, PROOF, WHOLE]},
    {"kind": "canary", "steps": [{"setWeight": 5}, {"pause": {"duration_s": 1}}, WHOLE]},
    {"kind": "canary", "steps": [{"setWeight": 5}, {"analysis": {"units": 10}}, WHOLE]},
    {"kind": "canary", "steps": [WHOLE, PROOF]},
    {"kind": "ab", "weights": {"2": 100}},
]


@pytest.mark.parametrize("strategy", EVASIONS, ids=str)
def test_forbidden_switch_is_refused_whatever_it_is_called(live: Plane, strategy: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpecError, match=rf"digits/2 forbids .*{WHY}.*no traffic moved"):
        live.begin(2, name="r", strategy=strategy)
    assert live.store.fleet().active(HANDLE) is None


def test_undo_is_no_way_to_a_version_that_was_never_live(live: Plane) -> None:
    with pytest.raises(ConflictError, match="has to prove itself anew"):
        live.begin(2, name="r", strategy={"kind": "undo"})


GRADUAL: list[dict[str, Any]] = [
    {"kind": "canary"},
    {"kind": "linear"},
    {"kind": "canary", "steps": [{"setWeight": 5}, PROOF, WHOLE]},
    {"kind": "canary", "steps": [{"setMirrorRoute": {"sample_pct": 5}}, {"compare": {}}, WHOLE]},
    {"kind": "bandit"},
    {"kind": "shadow"},
    {"kind": "ab"},
]


@pytest.mark.parametrize("strategy", GRADUAL, ids=str)
def test_what_proves_a_version_first_is_not_forbidden(live: Plane, strategy: dict[str, Any]) -> None:
    assert live.begin(2, name="r", strategy=strategy).spec.version == 2


def test_version_whose_project_forbids_nothing_may_switch(live: Plane) -> None:
    live.deploy(3)
    assert live.begin(3, name="r", strategy={"kind": "blue_green"}).spec.version == 3


def test_policy_is_of_each_candidate(live: Plane) -> None:
    forbid(live, 3, "bandit")
    with pytest.raises(InvalidSpecError, match="digits/3 forbids the strategy bandit"):
        live.begin(2, name="r", rivals=[3], strategy={"kind": "bandit"})


def test_policy_of_a_version_that_runs_already_is_renewed(live: Plane) -> None:
    """It is no part of what the process runs: deployed again, the same process goes on."""
    live.deploy(3)
    live.tick(3)
    variant = live.spec(3).variant
    before = live.runtime.observe()[variant]
    forbid(live, 3, "blue_green")
    live.tick(1)
    after = live.runtime.observe()[variant]
    assert (after.pid, after.phase) == (before.pid, "ready")
    with pytest.raises(InvalidSpecError, match="digits/3 forbids"):
        live.begin(3, name="r", strategy={"kind": "blue_green"})


def test_first_version_has_nobody_to_leave_a_share_with(plane: Plane) -> None:
    forbid(plane, 1, "all_at_once")
    plane.tick(3)
    plane.begin(1, name="r", strategy={"kind": "canary", "steps": [WHOLE]})
    plane.tick(5, requests=50)
    assert plane.state("r").outcome is Outcome.PROMOTED


def test_switch_does_not_pass_by_waiting_behind_the_first_version(plane: Plane) -> None:
    """When its turn comes there is a live version, and it would be a switch."""
    plane.deploy(1)
    forbid(plane, 2, "all_at_once")
    plane.tick(3)
    plane.begin(1, name="first")
    with pytest.raises(InvalidSpecError, match="digits/2 forbids"):
        plane.begin(2, name="r", on_running="queue", strategy={"kind": "canary", "steps": [WHOLE]})


def test_way_back_is_never_forbidden(plane: Plane) -> None:
    forbid(plane, 1, "blue_green", "all_at_once")
    plane.tick(3)
    plane.begin(1, name="first")
    plane.tick(5, requests=50)
    plane.go_live(2)
    undone = plane.commands.undo(HANDLE, actor="ann")
    assert undone.spec.version == 1


def test_policy_travels_with_the_variant_and_not_with_its_digest(plane: Plane) -> None:
    spec = replace(plane.spec(1), forbid=("blue_green",), forbid_reason=WHY)
    assert VariantSpec.from_json(spec.to_json()) == spec
    assert spec.digest() == plane.spec(1).digest()
    assert "forbid" not in plane.spec(1).to_json()


@pytest.mark.parametrize("strategy", GRADUAL, ids=str)
def test_plan_that_proves_first_is_no_switch(strategy: dict[str, Any]) -> None:
    spec = rollout_from_json({"id": "r", "handle": HANDLE, "version": 2, "strategy": strategy})
    assert not is_switch(plan(spec, 1), 1)
