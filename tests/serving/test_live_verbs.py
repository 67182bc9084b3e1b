"""Verbs and failures over the whole controller: idempotent, no-ops when idle, and what a person may still do."""

import pytest

from taxiway_serving.names import VariantId
from taxiway_serving.rollout.state import Outcome, Status
from tests.serving.operating import (
    GATED,
    entries,
    fail,
    heal,
    outcome,
    until,
    until_pct,
)
from tests.serving.plane import HANDLE, Plane


@pytest.mark.parametrize("verb", ["abort", "pause", "resume", "promote-full"])
@pytest.mark.parametrize("status", [Status.QUEUED, Status.PREPARING, Status.PROGRESSING, Status.PAUSED])
def test_verb_twice_is_verb_once(live: Plane, status: Status, verb: str) -> None:
    _bring_to_status(live, status)
    once = live.act("r", verb)
    before = entries(live)
    assert live.act("r", verb) == once
    assert entries(live) == before


def _bring_to_status(plane: Plane, status: Status) -> None:
    steps = [{"setWeight": 50}, {"bake": {"duration_s": 900}}, {"setWeight": 100}]
    if status is Status.QUEUED:
        plane.begin(3, name="ahead", strategy=GATED)
    if status is Status.PAUSED:
        steps = GATED["steps"]  # type: ignore[assignment]
    plane.begin(2, name="r", strategy={"kind": "canary", "steps": steps}, on_running="queue")
    if status in (Status.PROGRESSING, Status.PAUSED):
        until(plane, "r", status)
    assert plane.state("r").status is status


@pytest.mark.parametrize("verb", ["abort", "pause", "resume", "promote", "promote-full"])
@pytest.mark.parametrize("status", [Status.ROLLING_BACK, Status.ENDED])
def test_verb_does_nothing_to_a_rollout_that_is_over(slow: Plane, status: Status, verb: str) -> None:
    slow.begin(2, name="r", strategy=GATED)
    until_pct(slow, 50)
    slow.act("r", "abort")
    if status is Status.ENDED:
        until(slow, "r", status)
    before = entries(slow)
    assert slow.act("r", verb).state == slow.state("r")
    assert (slow.state("r").status, entries(slow)) == (status, before)


def test_promote_of_a_step_that_is_over_does_nothing(live: Plane) -> None:
    steps = [{"setWeight": 50}, {"pause": {}}, {"setWeight": 60}, {"pause": {}}, {"setWeight": 100}]
    live.begin(2, name="r", strategy={"kind": "canary", "steps": steps})
    until(live, "r", Status.PAUSED)
    step = live.state("r").step
    for _ in range(2):
        live.commands.act(HANDLE, "r", "promote", actor="ann", step=step)
    assert live.state("r").step == step + 1


def test_promote_full_goes_to_the_last_weight_and_says_that_it_was_fast(live: Plane) -> None:
    live.begin(2, name="r")
    until(live, "r", Status.PROGRESSING)
    live.act("r", "promote-full")
    live.tick(15, requests=20)
    assert (live.stable, outcome(live, "r")) == (2, Outcome.FAST_PROMOTED)


def test_promote_full_is_fast_also_when_only_one_step_is_skipped(live: Plane) -> None:
    live.begin(2, name="r", strategy=GATED)
    until(live, "r", Status.PAUSED)
    live.act("r", "promote-full")
    live.tick(5, requests=20)
    assert outcome(live, "r") is Outcome.FAST_PROMOTED


def test_on_failure_pause_stops_and_lets_a_person_resume(live: Plane) -> None:
    steps = [{"setWeight": 50}, {"bake": {"duration_s": 40}}, {"setWeight": 100}]
    live.begin(2, name="r", strategy={"kind": "canary", "steps": steps}, on_failure="pause")
    fail(live, 2)
    until(live, "r", Status.PAUSED, requests=50)
    assert (live.weight_pct(2), outcome(live, "r")) == (50, None)
    live.tick(20, requests=50)
    heal(live)
    live.tick(2, requests=50)
    live.act("r", "resume")
    live.tick(3, requests=50)
    assert live.state("r").status is Status.PROGRESSING
    live.tick(50, requests=50)
    assert (live.stable, outcome(live, "r")) == (2, Outcome.PROMOTED)


def test_on_failure_pause_lets_a_person_abort(live: Plane) -> None:
    live.begin(2, name="r", strategy=GATED, on_failure="pause")
    until_pct(live, 50)
    live.act("r", "resume")
    fail(live, 2)
    until(live, "r", Status.PAUSED, requests=50)
    live.act("r", "abort")
    live.tick(3, requests=20)
    assert (live.weight_pct(2), outcome(live, "r")) == (0, Outcome.ABORTED)


def test_process_that_dies_is_taken_back_even_where_failures_pause(live: Plane) -> None:
    live.begin(2, name="r", strategy=GATED, on_failure="pause")
    until(live, "r", Status.PAUSED)
    live.runtime.kill(VariantId(handle=HANDLE, version=2))
    live.tick(4, requests=20)
    assert (live.weight_pct(2), outcome(live, "r")) == (0, Outcome.ROLLED_BACK)
