"""One rollout after another, and one into another: what users of other delivery tools met there, over the fakes.

Each test's docstring names the tracker's issue, or the tool whose own test matrix it repeats.
"""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxiway_serving.controller.commands import Commands
from taxiway_serving.controller.events import Event
from taxiway_serving.errors import ConflictError
from taxiway_serving.evidence.source import Attempt
from taxiway_serving.names import VariantId
from taxiway_serving.rollout.state import Outcome, Status
from taxiway_serving.split import Split
from taxiway_serving.strategies import rollout_from_json
from taxiway_serving.testing import attempt
from tests.serving.plane import HANDLE, Plane
from tests.serving.stories import (
    HALF,
    begin,
    fail,
    observed_pct,
    state,
    until_ended,
    until_live,
    until_pct,
    with_candidate,
)

STABLE = VariantId(handle=HANDLE, version=1)
LATE = ({"setWeight": 50}, {"setWeight": 100}, {"bake": {"duration_s": 900}})


@pytest.fixture
def live(plane: Plane) -> Plane:
    """Version 1 live, versions 2 and 3 deployed and ready."""
    with_candidate(plane)
    plane.deploy(3)
    plane.tick(3)
    return plane


def test_canary_after_a_rollback_begins_anew(live: Plane) -> None:
    """argo-rollouts#2048, #3120: what an aborted canary left got the next one stuck. No evidence leaks either."""
    fail(live, 2)
    begin(live, name="first")
    live.tick(40, requests=100)
    assert state(live, "first").outcome is Outcome.ROLLED_BACK
    live.fails = lambda _version, _number: False
    begin(live, name="second")
    weights = []
    for _ in range(120):
        live.tick(requests=100)
        weights.append(observed_pct(live))
    assert list(dict.fromkeys(weights)) in ([0, 5, 25, 100], [5, 25, 100])
    assert (live.stable, state(live, "second").outcome) == (2, Outcome.PROMOTED)


def test_canary_is_not_judged_by_what_the_log_still_holds_of_an_earlier_one(live: Plane) -> None:
    """The leak of canary, rollback, canary: attempts that end late are of the rollout in which they began."""
    fail(live, 2)
    begin(live, name="first")
    live.tick(40, requests=100)
    live.fails = lambda _version, _number: False
    before_s = live.now_s - 1
    live.tick(5, requests=10)
    begin(live, name="second", steps=HALF)
    live.source.add(*failures(before_s, users=200))
    live.tick(20, requests=50)
    assert (state(live, "second").outcome, observed_pct(live)) == (None, 50)


def test_user_who_met_an_error_in_one_canary_counts_again_in_the_next(live: Plane) -> None:
    """The other side of the leak: a user marked in the first rollout is evidence in the second."""
    for name in ("first", "second"):
        begin(live, name=name, steps=HALF)
        until_pct(live, 50)
        live.source.add(*failures(live.now_s, users=20))
        assert until_ended(live, name).outcome is Outcome.ROLLED_BACK
        live.tick(3)


def failures(at_s: float, *, users: int) -> list[Attempt]:
    """Return failed requests of the candidate, one for each user."""
    return [
        attempt(at_s=at_s, assigned=2, answered=2, status=500, request_id=f"bad-{n}", unit=f"user:{n}")
        for n in range(users)
    ]


def test_promoted_version_is_undone_without_loading_anything(live: Plane) -> None:
    """flagger#453: no instant rollback after a promotion, since the old version was gone at once."""
    begin(live)
    until_live(live, 2)
    started = live.runtime.logs(STABLE, tail=99).count("starting")
    live.commands.undo(HANDLE, actor="ann", rollout_id="undo")
    live.tick(3, requests=10)
    assert live.router.observed(HANDLE) == Split.whole(1)
    assert live.runtime.logs(STABLE, tail=99).count("starting") == started


@pytest.mark.parametrize(("steps", "weight_pct"), [(HALF, 50), (LATE, 100)], ids=["early", "late"])
@pytest.mark.parametrize("then", [(1,), (1, 2), (1, 3)], ids=["ABA", "ABAB", "ABAC"])
def test_newer_rollout_supersedes_the_one_that_runs(
    live: Plane, then: tuple[int, ...], steps: Any, weight_pct: float
) -> None:
    """KubeRay's rollback matrix ABA, ABAB, ABAC; argo-rollouts#4390 left traffic on the version that was superseded."""
    begin(live, 2, name="first", steps=steps)
    until_pct(live, weight_pct)
    for number, version in enumerate(then):
        begin(live, version, name=f"next-{number}", on_running="supersede")
        live.tick(4, requests=20)
    assert state(live, "first").outcome is Outcome.SUPERSEDED
    last = f"next-{len(then) - 1}"
    assert until_ended(live, last, requests=100).outcome is Outcome.PROMOTED
    live.tick(3, requests=20)
    assert live.stable == then[-1]
    assert live.router.observed(HANDLE) == Split.whole(then[-1])
    assert live.store.fleet().rollouts == ()


def test_superseding_rollout_begins_at_its_own_first_weight(live: Plane) -> None:
    """argo-rollouts#4612: mid-way to another version, the last weight went to the wrong one."""
    begin(live, 2, name="first", steps=LATE)
    until_pct(live, 100)
    begin(live, 3, name="second", on_running="supersede", steps=({"setWeight": 10}, *HALF))
    seen = []
    for _ in range(20):
        live.tick(requests=20)
        seen.append((observed_pct(live, 2), observed_pct(live, 3)))
    assert all(second == 0 or first == 0 for first, second in seen)
    assert list(dict.fromkeys(pct for _, pct in seen)) == [0, 10, 50]


@pytest.mark.parametrize("moment", range(0, 16, 3))
def test_newest_version_is_the_one_that_goes_live_whenever_it_comes(live: Plane, moment: int) -> None:
    """argo-rollouts#1690, #1372, #2726: what came in the middle of a canary was not rolled out, or moved its weight."""
    steps = ({"setWeight": 20}, {"pause": {"duration_s": 3}}, *LATE)
    begin(live, 2, name="first", steps=steps)
    live.tick(moment, requests=20)
    begin(live, 3, name="second", on_running="supersede", steps=steps[:-1])
    seen = []
    for _ in range(30):
        live.tick(requests=20)
        seen.append((observed_pct(live, 2), observed_pct(live, 3)))
    assert (state(live, "first").outcome, live.stable) == (Outcome.SUPERSEDED, 3)
    gone = next(place for place, (first, _) in enumerate(seen) if first == 0)
    assert all(first == 0 for first, _ in seen[gone:])
    weights = [second for _, second in seen]
    assert list(dict.fromkeys(weights)) == [0, 20, 50, 100]
    assert weights == sorted(weights)


def test_rollback_under_way_is_not_superseded(tmp_path: Path) -> None:
    """flagger#1801: rolling back gave way to what came next."""
    with closing(Plane(tmp_path / "slow")) as plane:
        with_candidate(plane)
        plane.deploy(3)
        begin(plane, name="first", steps=HALF)
        until_pct(plane, 50)
        plane.router.refuse_next("a gateway that does not follow")
        plane.commands.act(HANDLE, "first", "abort", actor="ann")
        begin(plane, 3, name="second", on_running="supersede")
        plane.tick()
        assert (state(plane, "first").outcome, state(plane, "second").status) == (
            Outcome.ABORTED,
            Status.QUEUED,
        )


@pytest.mark.slow
def test_queued_rollouts_run_in_their_order(live: Plane) -> None:
    """Knative drains newest first; a team that queues expects its order."""
    begin(live, 2, name="first", on_running="queue")
    begin(live, 3, name="second", on_running="queue")
    begin(live, 1, name="third", on_running="queue")
    live.tick(3, requests=20)
    assert [state(live, name).status for name in ("second", "third")] == [Status.QUEUED, Status.QUEUED]
    ends = [until_ended(live, name, requests=100) for name in ("first", "second", "third")]
    assert [end.outcome for end in ends] == [Outcome.PROMOTED] * 3
    assert live.stable == 1


def test_failed_analysis_can_pause_and_ask_a_person(live: Plane) -> None:
    """argo-rollouts#2866: a failed analysis could only abort."""
    begin(live, steps=(*HALF[:1], {"bake": {"duration_s": 900}}, HALF[2]), on_failure="pause")
    until_pct(live, 50)
    fail(live, 2)
    live.tick(6, requests=50)
    assert (state(live).status, observed_pct(live)) == (Status.PAUSED, 50)
    live.commands.act(HANDLE, "canary", "abort", actor="ann")
    assert until_ended(live).outcome is Outcome.ABORTED
    assert observed_pct(live) == 0


def test_failed_analysis_behind_a_gate_is_told_and_nobody_promotes_it_unawares(live: Plane) -> None:
    """argo-rollouts#2866 at a gate: who approved what they had seen approved what had failed meanwhile."""
    begin(live, steps=HALF, on_failure="pause")
    until_pct(live, 50)
    live.tick(2, requests=20)
    assert state(live).status is Status.PAUSED
    fail(live, 2)
    live.tick(6, requests=50)
    assert (state(live).status, state(live).failed, observed_pct(live)) == (
        Status.PAUSED,
        ("2/error_ratio",),
        50,
    )
    assert live.told("canary").count(Event.INCONCLUSIVE) == 1
    for verb in ("promote", "promote-full"):
        with pytest.raises(ConflictError, match="more errors than the control"):
            live.commands.act(HANDLE, "canary", verb, actor="ann")
    live.fails = lambda _version, _number: False
    live.commands.act(HANDLE, "canary", "resume", actor="ann")
    live.commands.act(HANDLE, "canary", "promote-full", actor="ann")
    assert until_ended(live).outcome is Outcome.FAST_PROMOTED


@pytest.mark.slow
def test_group_is_promoted_together_or_not_at_all(live: Plane) -> None:
    """argo-rollouts#2088, #2737: several rollouts could not be promoted, or given up, as one."""
    for version in (1, 2):
        live.commands.deploy(replace(live.spec(version), handle="letters"), actor="ann")
        if version == 1:
            live.tick(3)
            begin_on(live, "letters", 1, name="letters-1")
            live.tick(10)
            live.runtime.break_(VariantId(handle="letters", version=2))
    group = {"name": "both", "handles": [HANDLE, "letters"]}
    begin(live, steps=({"setWeight": 50}, {"setWeight": 100}), group=group)
    begin_on(live, "letters", 2, name="letters-2", group=group)
    live.tick(30, requests=50)
    assert (state(live).status, live.stable) == (Status.PROGRESSING, 1)
    live.tick(320, requests=5)
    assert state(live, "letters-2").outcome is Outcome.ABORTED
    assert (state(live).outcome, observed_pct(live)) == (Outcome.ROLLED_BACK, 0)


def begin_on(plane: Plane, handle: str, version: int, *, name: str, **body: Any) -> None:
    asked = {"id": name, "handle": handle, "version": version, "actor": "ann", **body}
    plane.commands.start(rollout_from_json({"strategy": "canary", **asked}))


def test_no_more_rollouts_run_at_once_than_allowed(live: Plane) -> None:
    """flagger#1069, #638: fifty canaries at once slowed each other down, and nothing limited them."""
    live.commands.deploy(replace(live.spec(1), handle="letters"), actor="ann")
    live.commands = Commands(
        store=live.store,
        lock=live.reconciler.lock,
        home=live.home,
        clock=lambda: live.now_s,
        most_rollouts=1,
    )
    begin(live, steps=HALF)
    begin_on(live, "letters", 1, name="letters-1")
    assert (state(live).status, state(live, "letters-1").status) == (Status.PREPARING, Status.QUEUED)
