"""Bugs that users of other delivery tools hit, as their trackers tell, held against this controller over the fakes.

Each test is named after what must be true here; its docstring names the tracker's issue. What needs a real gateway is
in `tests/delivery`.
"""

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.names import VariantId
from taxiway_serving.rollout.state import Outcome, Status
from taxiway_serving.split import Split
from taxiway_serving.strategies import rollout_from_json
from tests.serving.plane import HANDLE, Plane
from tests.serving.stories import (
    HALF,
    begin,
    entries,
    fail,
    observed_pct,
    state,
    stepped,
    until_live,
    until_pct,
    with_candidate,
)

STABLE, CANDIDATE = (VariantId(handle=HANDLE, version=version) for version in (1, 2))


@pytest.fixture
def live(plane: Plane) -> Plane:
    """Version 1 live, version 2 deployed and ready."""
    return with_candidate(plane)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Plane]:
    """The same behind a gateway that takes a table only when it is stepped."""
    with closing(Plane(tmp_path / "slow", applies_at_once=False)) as made:
        made.deploy(1)
        stepped(made, 4)
        made.roll_out(1)
        for _ in range(12):
            made.tick(requests=20)
            made.router.step()
        made.deploy(2)
        stepped(made, 4)
        assert made.stable == 1
        yield made


# Ready before weight, drained before stop


def test_no_weight_before_the_candidate_is_ready_and_the_gateway_finds_it_healthy(plane: Plane) -> None:
    """kserve#5983: traffic went to a canary whose pods were not ready."""
    plane.go_live(1)
    plane.runtime.break_(CANDIDATE)
    plane.deploy(2)
    begin(plane)
    plane.tick(20, requests=50)
    assert observed_pct(plane) == 0
    plane.runtime._broken.clear()
    plane.router.healthy = lambda variant: variant != CANDIDATE
    plane.tick(20, requests=50)
    assert (plane.phase(2), observed_pct(plane)) == ("ready", 0)
    plane.router.healthy = lambda _: True
    plane.tick(3, requests=50)
    assert observed_pct(plane) == 5


def test_stable_runs_until_the_gateway_sends_it_nothing(live: Plane) -> None:
    """kserve#5983: stable was scaled down before the canary that replaced it was ready."""
    begin(live, warm_s=0)
    for _ in range(120):
        live.tick(requests=100)
        route = live.router.running.route(HANDLE)
        assert route is not None
        assert route.split is not None
        if 1 in route.split.parts:
            assert live.phase(1) == "ready"
    assert (live.stable, live.phase(1)) == (2, "stopped")


def test_aborted_candidate_is_not_stopped_while_traffic_is_left_on_it(slow: Plane) -> None:
    """argo-rollouts#4390: a canary was scaled down while routes still pointed at it."""
    begin(slow, steps=HALF, warm_s=0)
    while observed_pct(slow) != 50:
        slow.tick(requests=10)
        slow.router.step()
    slow.commands.act(HANDLE, "canary", "abort", actor="ann")
    slow.tick(30, requests=10)
    assert (observed_pct(slow), slow.phase(2)) == (50, "ready")
    slow.router.step()
    slow.router.active[CANDIDATE] = 1
    for _ in range(30):
        slow.tick(requests=10)
        slow.router.step()
    assert (observed_pct(slow), slow.phase(2)) == (0, "ready")
    slow.router.active.clear()
    for _ in range(6):
        slow.tick(requests=10)
        slow.router.step()
    assert slow.phase(2) == "stopped"


def test_step_is_not_done_before_its_weight_is_read_back(slow: Plane) -> None:
    """Others assume that a weight has landed; only one router of Argo Rollouts verifies it."""
    begin(slow, steps=({"setWeight": 10}, {"setWeight": 50}, {"setWeight": 100}))
    for _ in range(10):
        slow.tick(requests=10)
    assert state(slow).status in (Status.PREPARING, Status.PROGRESSING)
    routes = [table.route(HANDLE) for table in slow.router.published]
    assert {route.split.weight_pct(2) for route in routes if route and route.split} == {0, 10}


def test_controller_that_lost_its_state_takes_no_endpoint_away(live: Plane, tmp_path: Path) -> None:
    """An xDS server that restarts with an empty set deletes every cluster: 503 for everybody."""
    running = live.router.running
    with closing(Plane(tmp_path / "empty")) as empty:
        empty.router = live.router
        empty.restart()
        empty.tick(5)
    assert live.router.running == running


# Abort


def test_abort_with_no_rollout_under_way_changes_nothing(live: Plane) -> None:
    """argo-rollouts#1292: abort when idle scaled stable to zero. #2982: it began a hot loop."""
    live.tick(3)
    before = entries(live)
    for _ in range(3):
        live.commands.act(HANDLE, "to-1", "abort", actor="ann")
        live.tick(5)
    assert (live.phase(1), live.stable) == ("ready", 1)
    assert live.router.observed(HANDLE) == Split.whole(1)
    assert entries(live) == before


def test_abort_brings_the_weight_to_zero_and_it_stays_there(live: Plane) -> None:
    """argo-rollouts#4841: after an abort the weight parked above 0. #4973, #1665: it rose again when pods came back."""
    begin(live, steps=HALF)
    until_pct(live, 50)
    live.commands.act(HANDLE, "canary", "abort", actor="ann")
    live.tick(3, requests=20)
    assert (state(live).outcome, observed_pct(live)) == (Outcome.ABORTED, 0)
    live.runtime.kill(CANDIDATE)
    for _ in range(30):
        live.tick(requests=20)
        assert observed_pct(live) == 0


def test_abort_in_a_timed_pause_ends_the_rollout(live: Plane) -> None:
    """argo-rollouts#1152: an aborted rollout went on with its pause and was promoted."""
    begin(live, steps=({"setWeight": 20}, {"pause": {"duration_s": 20}}, {"setWeight": 100}))
    until_pct(live, 20)
    live.commands.act(HANDLE, "canary", "abort", actor="ann")
    live.tick(60, requests=50)
    assert (live.stable, state(live).outcome) == (1, Outcome.ABORTED)


def test_aborted_rollout_is_not_tried_again_by_itself(live: Plane) -> None:
    """argo-rollouts#2929: a rollout retried by itself, because its spec still named the new version."""
    begin(live, steps=HALF)
    until_pct(live, 50)
    live.commands.act(HANDLE, "canary", "abort", actor="ann")
    live.tick(3, requests=20)
    live.restart()
    live.tick(30, requests=50)
    assert (live.stable, observed_pct(live), live.store.fleet().rollouts) == (1, 0, ())


def test_second_abort_keeps_the_candidate_warm_as_the_first_did(live: Plane) -> None:
    """argo-rollouts#3774: after a retry the delay before scaling down was lost."""
    for name in ("first", "second"):
        begin(live, name=name, steps=HALF)
        until_pct(live, 50)
        live.commands.act(HANDLE, name, "abort", actor="ann")
        live.tick(40, requests=20)
        assert live.phase(2) == "ready"
    live.tick(40, requests=20)
    assert live.phase(2) == "stopped"


def test_candidate_that_never_gets_ready_can_be_aborted_at_once(plane: Plane) -> None:
    """flagger#1268, #724: rolling back was looked at only after the readiness check, so it waited for the deadline."""
    plane.go_live(1)
    plane.runtime.break_(CANDIDATE)
    plane.deploy(2)
    begin(plane)
    plane.tick(3)
    plane.commands.act(HANDLE, "canary", "abort", actor="ann")
    assert state(plane).outcome is Outcome.ABORTED


# Rollback outranks every gate


@pytest.mark.parametrize("gate", ["pause step", "paused by hand"])
def test_bad_candidate_is_rolled_back_behind_a_gate(live: Plane, gate: str) -> None:
    """flagger#1432, #1801: rollback was not checked while the rollout waited for an approval."""
    steps = HALF if gate == "pause step" else ({"setWeight": 50}, {"bake": {"duration_s": 900}}, HALF[2])
    begin(live, steps=steps)
    until_pct(live, 50)
    if gate == "paused by hand":
        live.commands.act(HANDLE, "canary", "pause", actor="ann")
    live.tick(2, requests=20)
    assert state(live).status is Status.PAUSED
    fail(live, 2)
    live.tick(6, requests=50)
    assert (state(live).outcome, observed_pct(live)) == (Outcome.ROLLED_BACK, 0)


def test_rollback_under_way_is_held_up_by_no_verb(slow: Plane) -> None:
    """flagger#1801: a rollback waited behind what was asked for meanwhile."""
    begin(slow, steps=HALF)
    while observed_pct(slow) != 50:
        slow.tick(requests=10)
        slow.router.step()
    fail(slow, 2)
    slow.tick(6, requests=50)
    assert state(slow).status is Status.ROLLING_BACK
    for verb in ("pause", "promote", "promote-full", "resume"):
        slow.commands.act(HANDLE, "canary", verb, actor="ann")
    slow.router.step()
    slow.tick(3, requests=50)
    slow.router.step()
    assert (state(slow).outcome, observed_pct(slow)) == (Outcome.ROLLED_BACK, 0)


# Evidence


def test_no_traffic_is_too_little_evidence_and_no_failure(live: Plane) -> None:
    """argo-rollouts#1905, flagger#361: with few requests, "no data" counted as a failed check."""
    begin(live)
    until_pct(live, 5, requests=0)
    live.tick(200)
    assert (state(live).status, observed_pct(live)) == (Status.PROGRESSING, 5)
    assert "too little evidence" in state(live).reason


def test_too_little_evidence_by_the_deadline_pauses(live: Plane) -> None:
    """Flagger rolls back and Kayenta fails where a metric has no data."""
    analysis = {"analysis": {"units": 1000, "deadline_s": 30}}
    begin(live, steps=({"setWeight": 5}, analysis, {"setWeight": 100}))
    live.tick(60, requests=10)
    assert (state(live).status, observed_pct(live)) == (Status.PAUSED, 5)
    assert "inconclusive" in state(live).reason


def test_metrics_that_cannot_be_asked_neither_fail_nor_promote(live: Plane) -> None:
    """Flagger: an unreachable metric server is a failed check."""
    begin(live, steps=({"setWeight": 5}, {"bake": {"duration_s": 10}}, {"setWeight": 100}))
    until_pct(live, 5)
    live.source.is_reachable = False
    live.tick(120, requests=100)
    assert (state(live).outcome, observed_pct(live)) == (None, 5)


@pytest.mark.slow
def test_errors_that_stable_has_too_never_add_up_to_a_rollback(live: Plane) -> None:
    """Flagger counts failed checks over the whole run; a fixed threshold fails where stable's own rate nears it."""
    live.fails = lambda _version, number: number % 50 == 0
    begin(live, steps=({"setWeight": 20}, {"pause": {"duration_s": 900}}, {"setWeight": 100}))
    live.tick(300, requests=50)
    assert (state(live).status, observed_pct(live)) == (Status.PROGRESSING, 20)


# What is asked for is done or refused, and what is done is told


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"canaryTrafficPercent": 10}, "canaryTrafficPercent"),
        ({"strategy": {"kind": "canary", "steps": [{"setWeigth": 5}]}}, "setWeigth"),
        ({"strategy": {"kind": "canary", "steps": [{"pause": {"durationS": 5}}]}}, "durationS"),
        ({"strategy": {"kind": "rolling"}}, "rolling"),
    ],
    ids=["field", "step", "option of a step", "strategy"],
)
def test_field_that_is_not_known_is_refused_by_its_name(body: Mapping[str, Any], named: str) -> None:
    """kserve#4074, #5335: a canary field was silently ignored, and all traffic moved."""
    with pytest.raises(InvalidSpecError, match=named):
        rollout_from_json({"id": "canary", "handle": HANDLE, "version": 2, **body})


@pytest.mark.parametrize("steps", [[], list(HALF)], ids=["preset", "steps of the caller's own"])
def test_option_that_the_strategy_does_not_have_is_refused_by_its_name(live: Plane, steps: Any) -> None:
    """The same, once the plan is made: also where the caller's own steps take the place of the preset."""
    strategy = {"kind": "canary", "stepWeigth": 5, "steps": steps}
    with pytest.raises(InvalidSpecError, match="stepWeigth"):
        begin(live, strategy=strategy)


@pytest.mark.parametrize("end", ["rolled back", "never ready", "undone"])
def test_every_way_back_is_in_the_ledger_with_who_and_why(live: Plane, end: str) -> None:
    """flagger#1816, #1663, argo-rollouts#3721: rolled back silently when never ready, or by hand."""
    actor, why = "controller", "errors"
    if end == "rolled back":
        fail(live, 2)
        begin(live)
        live.tick(40, requests=100)
    elif end == "never ready":
        why = "not ready"
        live.runtime.break_(VariantId(handle=HANDLE, version=3))
        live.deploy(3)
        begin(live, version=3)
        live.tick(320)
    else:
        actor, why = "eve", ""
        begin(live)
        until_live(live, 2)
        live.commands.undo(HANDLE, actor="eve", rollout_id="undo")
        live.tick(4)
    told = [entry for entry in live.store.entries(HANDLE, after=0, limit=9999) if entry.actor == actor]
    assert any(why in entry.reason for entry in told)
