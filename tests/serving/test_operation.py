"""Many rollouts and few hands: queues, superseding, groups, limits, caps and verbs, over the fakes."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from taxiway_serving.errors import ConflictError, InvalidSpecError, NotFoundError
from taxiway_serving.names import VariantId
from taxiway_serving.rollout.machine import GROUP_DEADLINE_S
from taxiway_serving.rollout.state import Outcome, Status
from taxiway_serving.routing.router import Route
from taxiway_serving.routing.side_routes import SideRoutes
from taxiway_serving.split import Split
from tests.serving.plane import HANDLE, Plane

QUICK = {"kind": "canary", "steps": [{"setWeight": 50}, {"setWeight": 100}]}
GATED = {"kind": "canary", "steps": [{"setWeight": 50}, {"pause": {}}, {"setWeight": 100}]}
VERSIONS = {"A": 2, "B": 3, "C": 4}
OTHER = "faces"


@pytest.fixture
def live(plane: Plane) -> Plane:
    """Version 1 live, 2, 3 and 4 deployed and ready."""
    return with_candidates(plane)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Plane]:
    """The same behind a gateway that takes a table only when it is stepped."""
    with closing(Plane(tmp_path / "slow")) as made:
        with_candidates(made)
        made.router._applies_at_once = False
        yield made


def with_candidates(plane: Plane) -> Plane:
    plane.go_live(1)
    for version in VERSIONS.values():
        plane.deploy(version)
    plane.tick(3)
    return plane


def until(plane: Plane, name: str, *statuses: Status, requests: int = 20, ticks: int = 60) -> None:
    for _ in range(ticks):
        if plane.state(name).status in statuses:
            return
        plane.tick(requests=requests)
        if not plane.router._applies_at_once:
            plane.router.step()
    raise AssertionError(f"never {statuses}: {plane.state(name)}")


def until_pct(plane: Plane, weight_pct: float, *, version: int = 2) -> None:
    for _ in range(60):
        if plane.weight_pct(version) == weight_pct:
            return
        plane.tick(requests=20)
        plane.router.step()
    raise AssertionError(f"version {version} is never at {weight_pct} %")


def fail(plane: Plane, *versions: int) -> None:
    plane.fails = lambda asked, number: asked in versions and number % 2 == 0


def heal(plane: Plane) -> None:
    plane.fails = lambda _version, _number: False


def routes(plane: Plane) -> list[Route]:
    """Return every route of the handle that was ever published."""
    found = [table.route(HANDLE) for table in plane.router.published]
    return [route for route in found if route]


def entries(plane: Plane) -> int:
    return len(plane.store.entries(None, after=0, limit=10_000))


def outcome(plane: Plane, name: str) -> Outcome | None:
    return plane.state(name).outcome


# A new rollout while one runs


@pytest.mark.parametrize("policy", ["queue", "supersede"])
@pytest.mark.parametrize("moment", ["early", "late", "rolling back"])
@pytest.mark.parametrize("order", ["ABA", "ABAB", "ABAC"])
def test_rollouts_asked_for_while_one_runs_come_in_order(
    slow: Plane, order: str, moment: str, policy: str
) -> None:
    names = [f"{place}-{letter}" for place, letter in enumerate(order)]
    slow.begin(2, name=names[0], strategy=GATED if policy == "supersede" else QUICK)
    _bring_to(slow, names[0], moment)
    for name, letter in zip(names[1:], order[1:], strict=True):
        slow.begin(VERSIONS[letter], name=name, strategy=QUICK, on_running=policy)
    _run(slow, names[-1])
    first = Outcome.ROLLED_BACK if moment == "rolling back" else None
    rest = Outcome.SUPERSEDED if policy == "supersede" else Outcome.PROMOTED
    expected = [first or rest, *[rest] * (len(names) - 2), Outcome.PROMOTED]
    assert [outcome(slow, name) for name in names] == expected
    assert slow.router.observed(HANDLE) == Split.whole(VERSIONS[order[-1]])
    assert _begun(slow) == [names[0], *(names[1:] if policy == "queue" else names[-1:])]


def _bring_to(plane: Plane, name: str, moment: str) -> None:
    if moment == "early":
        return
    until_pct(plane, 50)
    if moment == "rolling back":
        fail(plane, 2)
        for _ in range(20):
            if plane.state(name).status is Status.ROLLING_BACK:
                break
            plane.tick(requests=50)
        assert plane.state(name).status is Status.ROLLING_BACK
        heal(plane)


def _run(plane: Plane, last: str) -> None:
    for _ in range(120):
        plane.tick(requests=20)
        plane.router.step()
        _check_routed(plane)
        if plane.state(last).status is Status.ENDED and not plane.store.fleet().rollouts:
            break
    plane.tick(2)
    plane.router.step()


def _check_routed(plane: Plane) -> None:
    """Every version that may get traffic runs, whatever follows whatever."""
    split = plane.router.observed(HANDLE)
    assert split is not None
    assert all(plane.phase(version) == "ready" for version in split.parts)


def _begun(plane: Plane) -> list[str]:
    found = plane.store.entries(HANDLE, after=0, limit=10_000)
    return [entry.body["rollout"] for entry in found if entry.kind == "rollout"][1:]


@pytest.mark.parametrize("moment", ["early", "late", "rolling back"])
def test_rollout_is_rejected_while_one_runs_whatever_that_one_does(slow: Plane, moment: str) -> None:
    slow.begin(2, name="first", strategy=GATED)
    _bring_to(slow, "first", moment)
    with pytest.raises(ConflictError, match="first of version 2"):
        slow.begin(3, name="second")
    assert slow.store.rollout("second") is None


def test_rollout_that_waits_is_in_the_way_of_one_that_would_not(live: Plane) -> None:
    live.begin(2, name="first", strategy=GATED)
    live.begin(3, name="second", strategy=GATED, on_running="queue")
    live.act("first", "abort")
    with pytest.raises(ConflictError, match="a rollout is running"):
        live.begin(4, name="third")


def test_superseded_rollout_gives_its_traffic_back_before_the_next_one_begins(slow: Plane) -> None:
    slow.begin(2, name="first", strategy=GATED)
    until_pct(slow, 50)
    slow.begin(3, name="second", strategy=QUICK, on_running="supersede")
    slow.tick(5, requests=20)
    assert (slow.state("first").status, slow.state("second").status) == (
        Status.ROLLING_BACK,
        Status.QUEUED,
    )
    assert slow.weight_pct(2) == 50
    _run(slow, "second")
    splits = [route.split for route in routes(slow)]
    assert not [split for split in splits if split and {2, 3} <= set(split.parts)]
    assert slow.live(HANDLE) == 3


def test_queue_goes_on_behind_a_rollback(live: Plane) -> None:
    fail(live, 2)
    live.begin(2, name="first")
    live.begin(3, name="second", strategy=QUICK, on_running="queue")
    live.tick(40, requests=100)
    assert (outcome(live, "first"), outcome(live, "second")) == (Outcome.ROLLED_BACK, Outcome.PROMOTED)


def test_queued_rollout_can_be_aborted_and_its_successor_comes(live: Plane) -> None:
    live.begin(2, name="first", strategy=GATED)
    live.begin(3, name="second", strategy=QUICK, on_running="queue")
    live.begin(4, name="third", strategy=QUICK, on_running="queue")
    assert live.act("second", "abort").state.outcome is Outcome.ABORTED
    live.act("first", "abort")
    live.tick(20, requests=20)
    assert (live.stable, outcome(live, "third")) == (4, Outcome.PROMOTED)


def test_version_that_waits_in_the_queue_is_not_stopped(live: Plane) -> None:
    live.begin(2, name="first", strategy=GATED)
    live.begin(3, name="second", strategy=QUICK, on_running="queue")
    live.runtime.step(4000)
    live.tick(4)
    assert (live.phase(3), live.phase(4)) == ("ready", "stopped")
    with pytest.raises(ConflictError, match="has traffic or a rollout"):
        live.commands.retire(HANDLE, 3, actor="ann")
    with pytest.raises(ConflictError, match="another content"):
        live.commands.deploy(live.spec(3, CODE="other"), actor="ann")


def test_version_that_was_stopped_is_started_again_for_its_rollout(live: Plane) -> None:
    live.runtime.step(4000)
    live.tick(6)
    assert live.phase(2) == "stopped"
    live.begin(2, name="late", strategy=QUICK)
    live.tick(10, requests=20)
    assert (live.stable, outcome(live, "late")) == (2, Outcome.PROMOTED)


# A limit on how many run at once


def test_rollouts_beyond_the_limit_wait_for_room(plane: Plane) -> None:
    two_handles(plane)
    plane.most_rollouts = 1
    plane.restart()
    plane.begin(2, name="first", strategy=GATED)
    plane.begin(12, name="second", handle=OTHER, strategy=QUICK)
    plane.tick(5, requests=20)
    assert plane.state("second").status is Status.QUEUED
    plane.act("first", "abort")
    plane.tick(8, requests=20)
    assert plane.live(OTHER) == 12


def test_way_back_waits_for_no_room(plane: Plane) -> None:
    two_handles(plane)
    plane.begin(12, name="promoted", handle=OTHER, strategy=QUICK)
    plane.tick(8, requests=20)
    plane.most_rollouts = 1
    plane.restart()
    plane.begin(2, name="first", strategy=GATED)
    plane.commands.undo(OTHER, actor="ann", rollout_id="undo")
    plane.tick(5, requests=20)
    assert plane.router.observed(OTHER) == Split.whole(11)


def two_handles(plane: Plane) -> Plane:
    """Versions 1 and 11 live, 2 and 12 deployed and ready."""
    plane.go_live(1)
    plane.go_live(11, handle=OTHER)
    plane.deploy(2)
    plane.deploy(12, handle=OTHER)
    plane.tick(3)
    return plane


# Groups


@pytest.fixture
def pair(plane: Plane) -> Plane:
    return two_handles(plane)


def begin_pair(plane: Plane, *names: str, steps: Sequence[Any] = QUICK["steps"], **body: Any) -> None:
    group = {"name": "release", "handles": [HANDLE, OTHER]}
    strategy = {"kind": "canary", "steps": steps}
    for name in names or ("mine", "other"):
        version, handle = (2, HANDLE) if name == "mine" else (12, OTHER)
        plane.begin(version, name=name, handle=handle, strategy=strategy, group=group, **body)


def test_group_is_promoted_at_one_moment(pair: Plane) -> None:
    begin_pair(pair, "mine")
    pair.tick(10, requests=20)
    assert (pair.live(HANDLE), "waits for" in pair.state("mine").reason) == (1, True)
    begin_pair(pair, "other")
    pair.tick(10, requests=20)
    ends = [pair.state(name).ended_at_s for name in ("mine", "other")]
    assert ends[0] == ends[1] is not None
    assert (pair.live(HANDLE), pair.live(OTHER)) == (2, 12)


def test_group_is_taken_back_when_one_of_it_fails(pair: Plane) -> None:
    fail(pair, 12)
    begin_pair(pair, steps=GATED["steps"])
    pair.tick(20, requests=50)
    assert [outcome(pair, name) for name in ("mine", "other")] == [Outcome.ROLLED_BACK] * 2
    assert (pair.weight_pct(2), pair.weight_pct(12, handle=OTHER)) == (0, 0)
    assert f"its group fails together: {OTHER}" in pair.state("mine").reason


@pytest.mark.parametrize("how", ["abort", "supersede"])
def test_group_is_taken_back_when_one_of_it_is_given_up(pair: Plane, how: str) -> None:
    begin_pair(pair, steps=GATED["steps"])
    until(pair, "mine", Status.PAUSED)
    if how == "abort":
        pair.act("other", "abort")
    else:
        pair.deploy(13, handle=OTHER)
        pair.begin(13, name="newer", handle=OTHER, strategy=QUICK, on_running="supersede")
    pair.tick(4, requests=20)
    assert (outcome(pair, "mine"), pair.weight_pct(2)) == (Outcome.ROLLED_BACK, 0)


def test_group_waits_for_a_member_that_nobody_starts_and_says_so_in_the_end(pair: Plane) -> None:
    begin_pair(pair, "mine")
    pair.tick(8, requests=20)
    pair.runtime.step(GROUP_DEADLINE_S + 1)
    pair.tick(2, requests=20)
    state = pair.state("mine")
    assert (state.status, state.outcome, pair.live(HANDLE)) == (Status.PAUSED, None, 1)
    assert "inconclusive" in state.reason
    assert OTHER in state.reason
    begin_pair(pair, "other")
    pair.act("mine", "resume")
    pair.tick(10, requests=20)
    assert (pair.live(HANDLE), pair.live(OTHER)) == (2, 12)


def test_group_waits_for_a_member_that_cannot_be_judged_at_the_last_look(pair: Plane) -> None:
    begin_pair(pair, "mine")
    pair.tick(8, requests=20)
    begin_pair(pair, "other")
    for _ in range(20):
        pair.tick(requests=20)
        if pair.state("other").is_ready:
            break
    pair.router.healthy = lambda variant: variant != VariantId(handle=OTHER, version=12)
    pair.tick(5, requests=20)
    assert (pair.live(HANDLE), pair.live(OTHER)) == (1, 11)
    pair.router.healthy = pair.is_healthy
    pair.tick(5, requests=20)
    assert (pair.live(HANDLE), pair.live(OTHER)) == (2, 12)


def test_group_waits_for_a_member_that_a_person_has_paused(pair: Plane) -> None:
    begin_pair(pair, "mine")
    pair.tick(8, requests=20)
    assert pair.state("mine").is_ready
    pair.act("mine", "pause")
    begin_pair(pair, "other")
    pair.tick(10, requests=20)
    assert pair.live(OTHER) == 11
    pair.act("mine", "resume")
    pair.tick(5, requests=20)
    assert (pair.live(HANDLE), pair.live(OTHER)) == (2, 12)


def test_group_name_is_for_one_use(pair: Plane) -> None:
    begin_pair(pair)
    pair.tick(12, requests=20)
    pair.deploy(3)
    group = {"name": "release", "handles": [HANDLE, OTHER]}
    with pytest.raises(ConflictError, match="give this one another"):
        pair.begin(3, name="next", group=group)


def test_group_of_other_handles_under_the_same_name_is_refused(pair: Plane) -> None:
    begin_pair(pair, "mine")
    with pytest.raises(ConflictError, match=f"is of {HANDLE}, {OTHER}"):
        pair.begin(12, name="x", handle=OTHER, group={"name": "release", "handles": [OTHER]})


# Undo


@pytest.fixture
def aged(plane: Plane) -> Plane:
    """Version 3 live, 1 and 2 before it, all still warm."""
    for version in (1, 2, 3):
        plane.go_live(version)
    return plane


def test_undo_goes_to_the_version_that_is_named(aged: Plane) -> None:
    aged.commands.undo(HANDLE, actor="ann", version=1)
    aged.tick(4, requests=20)
    assert aged.router.observed(HANDLE) == Split.whole(1)


def test_undo_goes_to_what_was_live_at_a_time(aged: Plane) -> None:
    begun = {version: aged.state(f"to-{version}").ended_at_s or 0.0 for version in (1, 2, 3)}
    undone = aged.commands.undo(HANDLE, actor="ann", at_s=begun[2])
    assert undone.spec.version == 2
    aged.tick(4, requests=20)
    assert aged.live(HANDLE) == 2
    assert aged.commands.undo(HANDLE, actor="ann", at_s=begun[2] - 1).spec.version == 1
    aged.tick(4, requests=20)
    with pytest.raises(NotFoundError, match="went live later"):
        aged.commands.undo(HANDLE, actor="ann", at_s=begun[1] - 1)


def test_undo_refuses_two_targets_and_times_to_come(aged: Plane) -> None:
    with pytest.raises(InvalidSpecError, match="give one of them") as caught:
        aged.commands.undo(HANDLE, actor="ann", version=1, at_s=aged.now_s + 5)
    assert "yet to come" in str(caught.value)


def test_undo_wakes_a_version_that_was_stopped(plane: Plane) -> None:
    plane.go_live(1)
    plane.go_live(2)
    plane.tick(80, requests=10)
    assert plane.phase(1) == "stopped"
    plane.commands.undo(HANDLE, actor="ann", rollout_id="undo")
    assert plane.router.observed(HANDLE) == Split.whole(2)
    plane.tick(6, requests=10)
    assert (plane.router.observed(HANDLE), plane.phase(1)) == (Split.whole(1), "ready")


def test_undo_starts_a_version_anew_that_has_failed_meanwhile(plane: Plane) -> None:
    plane.go_live(1)
    plane.go_live(2)
    plane.runtime._broken.add(VariantId(handle=HANDLE, version=1))
    plane.runtime.kill(VariantId(handle=HANDLE, version=1))
    plane.runtime._broken.clear()
    plane.runtime.step()
    plane.commands.undo(HANDLE, actor="ann")
    plane.tick(6, requests=10)
    assert plane.router.observed(HANDLE) == Split.whole(1)


def test_undo_beyond_the_window_is_refused_with_the_next_step(plane: Plane) -> None:
    for version in (1, 2, 3, 4, 5):
        plane.go_live(version)
    with pytest.raises(ConflictError, match=r"not among the last 3.*prove itself anew"):
        plane.commands.undo(HANDLE, actor="ann", version=1)
    assert plane.commands.undo(HANDLE, actor="ann", version=2).spec.version == 2


def test_undo_that_is_refused_wakes_nobody(plane: Plane) -> None:
    plane.go_live(1)
    plane.go_live(2)
    plane.tick(80, requests=10)
    plane.deploy(3)
    plane.begin(3, name="running", strategy=GATED)
    with pytest.raises(ConflictError, match="abort it"):
        plane.commands.undo(HANDLE, actor="ann")
    plane.tick(4)
    assert plane.phase(1) == "stopped"


# Verbs


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


# What a failure leads to


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


# The cap on users


@pytest.fixture
def capped(live: Plane) -> Plane:
    """Half of 200 users may meet version 2, at most 20 of them."""
    live.users = 200
    steps = [{"setWeight": 20}, {"bake": {"duration_s": 900}}, {"setWeight": 100}]
    live.begin(2, name="r", strategy={"kind": "canary", "steps": steps}, max_users=20)
    until(live, "r", Status.PAUSED, requests=9)
    live.tick(2, requests=9)
    return live


def test_cap_keeps_the_candidate_for_exactly_those_who_have_met_it(capped: Plane) -> None:
    met = {a.unit for a in capped.source.read("").attempts if a.assigned == 2 and a.at_s > capped.now_s - 900}
    route = capped.router.running.route(HANDLE)
    assert route is not None
    assert route.members is not None
    assert set(route.members.units) == met
    assert (len(met) <= 20, capped.weight_pct(2)) == (True, 0)
    capped.tick(60, requests=50)
    later = {a.unit for a in capped.source.read("").attempts if a.assigned == 2}
    assert later == met


@pytest.mark.parametrize("verb", ["promote", "resume"])
def test_cap_is_lifted_by_a_person(capped: Plane, verb: str) -> None:
    capped.act("r", verb)
    capped.tick(3, requests=9)
    assert capped.router.observed_routes(HANDLE) == SideRoutes()
    assert capped.weight_pct(2) == (100 if verb == "promote" else 20)
    assert capped.state("r").is_open


def test_lifting_the_cap_is_no_sample_ratio_mismatch(capped: Plane) -> None:
    capped.users = 0
    capped.tick(20, requests=100)
    capped.act("r", "resume")
    capped.tick(20, requests=100)
    assert capped.state("r").status is Status.PROGRESSING


def test_abort_behind_the_cap_takes_the_candidate_from_everybody(capped: Plane) -> None:
    capped.act("r", "abort")
    capped.tick(3, requests=9)
    assert capped.router.observed_routes(HANDLE) == SideRoutes()
    assert capped.router.observed(HANDLE) == Split.whole(1)


def test_candidate_that_fails_those_who_keep_it_is_taken_back(capped: Plane) -> None:
    fail(capped, 2)
    capped.tick(30, requests=200)
    assert (outcome(capped, "r"), capped.router.observed_routes(HANDLE)) == (
        Outcome.ROLLED_BACK,
        SideRoutes(),
    )


def test_closed_door_proves_nothing_by_comparison(capped: Plane) -> None:
    """Twenty listed users beside everybody else are no pair: fewer failures among them are no proof."""
    before = capped.state("r")
    capped.fails = lambda version, number: version == 1 and number % 9 == 0
    capped.tick(30, requests=100)
    after = capped.state("r")
    assert after.totals["2/errors"].bad_control > before.totals["2/errors"].bad_control
    for name in ("2/error_ratio", "2/ratio_certificate"):
        assert after.guards.get(name) == before.guards.get(name)


# Routes and presets


def test_header_route_is_there_for_its_steps_and_goes_with_the_rollout(live: Plane) -> None:
    route = {"setHeaderRoute": {"header": "x-beta", "value": "1"}}
    steps = [route, {"pause": {}}, {"setWeight": 50}, {"pause": {}}, {"setWeight": 100}]
    live.begin(2, name="r", strategy={"kind": "canary", "steps": steps})
    until(live, "r", Status.PAUSED)
    live.headers = {"x-beta": "1"}
    live.tick(1, requests=1)
    assert live.source.read("").attempts[-1].assigned == 2
    assert live.weight_pct(2) == 0
    live.act("r", "promote")
    until_pct(live, 50)
    assert live.router.observed_routes(HANDLE).headers[0].version == 2
    live.act("r", "abort")
    live.tick(3)
    assert live.router.observed_routes(HANDLE) == SideRoutes()


def test_header_route_is_taken_away_by_its_step(live: Plane) -> None:
    steps = [
        {"setHeaderRoute": {"header": "x-beta", "value": "1"}},
        {"setHeaderRoute": {}},
        {"pause": {}},
        {"setWeight": 100},
    ]
    live.begin(2, name="r", strategy={"kind": "canary", "steps": steps})
    until(live, "r", Status.PAUSED)
    published = [bool(route.headers) for route in routes(live)]
    assert published[-2:] == [True, False]


@pytest.mark.parametrize(
    ("strategy", "shares"),
    [
        ({"kind": "linear", "step_pct": 30, "interval_s": 3}, [0, 30, 60, 90, 100]),
        ({"kind": "all_at_once", "bake_s": 2}, [0, 100]),
    ],
    ids=["linear", "all at once"],
)
def test_preset_moves_the_traffic_in_its_steps(
    live: Plane, strategy: dict[str, Any], shares: list[float]
) -> None:
    live.begin(2, name="r", strategy=strategy, availability=0.9)
    seen = []
    for _ in range(80):
        live.tick(requests=100)
        seen.append(live.weight_pct(2))
    assert list(dict.fromkeys([0, *seen])) == shares
    assert outcome(live, "r") is Outcome.PROMOTED
