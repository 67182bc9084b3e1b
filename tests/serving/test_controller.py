"""The controller over the shipped fakes: rollouts, crashes at any moment, and orders that would drop requests."""

from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taxiway_serving.errors import ConflictError, InvalidSpecError, NotFoundError
from taxiway_serving.ledger.chain import broken_at
from taxiway_serving.ledger.store import Wish
from taxiway_serving.names import VariantId
from taxiway_serving.rollout.machine import replay
from taxiway_serving.rollout.observation import observation_from_json
from taxiway_serving.rollout.state import Outcome, Status, state_from_json
from taxiway_serving.split import Split
from tests.serving.plane import HANDLE, Plane


def _fails_half_of(version: int) -> object:
    return lambda asked, number: asked == version and number % 2 == 0


def test_deployed_version_gets_no_traffic_before_its_rollout(plane: Plane) -> None:
    plane.deploy(1)
    plane.tick(3)
    assert plane.phase(1) == "ready"
    assert plane.router.observed(HANDLE) is None


def test_first_rollout_goes_live_at_once(plane: Plane) -> None:
    plane.go_live(1)
    assert plane.router.observed(HANDLE) == Split.whole(1)
    assert plane.rollout("to-1").state.outcome is Outcome.PROMOTED


def test_good_canary_is_promoted_over_its_steps(plane: Plane) -> None:
    plane.go_live(1)
    plane.deploy(2)
    plane.roll_out(2)
    plane.tick(200, requests=100)
    seen = [e.body["observed"] for e in plane.store.entries(HANDLE, after=0, limit=9999) if e.kind == "split"]
    shares = [split["parts"].get("2", 0) for split in seen if split]
    assert plane.stable == 2
    assert shares == [0, 500, 2500, 10_000, 10_000]


def test_bad_canary_is_rolled_back_in_its_first_step(plane: Plane) -> None:
    plane.go_live(1)
    plane.deploy(2)
    plane.fails = _fails_half_of(2)  # type: ignore[assignment]
    plane.roll_out(2)
    plane.tick(30, requests=100)
    state = plane.rollout("to-2").state
    assert (state.outcome, state.step) == (Outcome.ROLLED_BACK, 1)
    assert plane.router.observed(HANDLE) == Split.whole(1)
    assert state.first_bad_at_s is not None
    assert state.rolled_back_at_s is not None
    assert state.rolled_back_at_s - state.first_bad_at_s <= 10


def test_bad_version_at_full_traffic_is_rolled_back_by_blue_green(plane: Plane) -> None:
    plane.go_live(1)
    plane.deploy(2)
    plane.roll_out(2, strategy="blue_green")
    plane.tick(8, requests=20)
    assert plane.router.observed(HANDLE) == Split.of(1, {2: 100})
    plane.fails = _fails_half_of(2)  # type: ignore[assignment]
    plane.tick(5, requests=20)
    assert plane.router.observed(HANDLE) == Split.whole(1)


def test_undo_returns_to_warm_version_without_starting_it_again(plane: Plane) -> None:
    plane.go_live(1)
    plane.go_live(2)
    starts = plane.runtime.logs(VariantId(handle=HANDLE, version=1), tail=99).count("starting")
    plane.commands.undo(HANDLE, actor="ann", rollout_id="undo")
    plane.tick(4, requests=10)
    assert plane.router.observed(HANDLE) == Split.whole(1)
    assert plane.runtime.logs(VariantId(handle=HANDLE, version=1), tail=99).count("starting") == starts


def test_version_left_behind_is_stopped_after_its_warm_time_and_drained_first(plane: Plane) -> None:
    plane.go_live(1)
    plane.deploy(2)
    plane.roll_out(2)
    plane.router.active[VariantId(handle=HANDLE, version=1)] = 1
    plane.tick(120, requests=100)
    assert plane.phase(1) == "ready"
    plane.router.active.clear()
    plane.tick(80, requests=100)
    assert plane.phase(1) == "stopped"
    variant = plane.store.fleet().variant(HANDLE, 1)
    assert variant is not None
    assert variant.wish is Wish.STOPPED


def test_missing_evidence_holds_the_rollout(plane: Plane) -> None:
    plane.go_live(1)
    plane.deploy(2)
    plane.roll_out(2)
    plane.source.is_reachable = False
    plane.tick(30, requests=100)
    assert plane.rollout("to-2").state.weight_pct == 0


def test_refused_table_moves_nothing_and_promotes_nothing(plane: Plane) -> None:
    plane.go_live(1)
    plane.deploy(2)
    plane.tick(3)
    plane.roll_out(2)
    plane.router.refuse_next("broken")
    plane.tick(30, requests=100)
    assert plane.rollout("to-2").state.outcome is None
    assert plane.router.observed(HANDLE) == Split.whole(1)


def test_candidate_that_never_starts_takes_no_traffic(plane: Plane) -> None:
    plane.go_live(1)
    plane.runtime.break_(VariantId(handle=HANDLE, version=2))
    plane.deploy(2)
    plane.roll_out(2)
    plane.tick(320, requests=10)
    state = plane.rollout("to-2").state
    assert state.status is Status.ENDED
    assert state.outcome is Outcome.ABORTED
    assert plane.router.observed(HANDLE) == Split.whole(1)


def test_every_command_twice_is_once(plane: Plane) -> None:
    plane.deploy(1)
    plane.deploy(1)
    plane.tick(3)
    assert plane.roll_out(1) == plane.roll_out(1)
    plane.tick(10)
    before = plane.store.entries(None, after=0, limit=9999)
    plane.deploy(1)
    plane.roll_out(1)
    plane.commands.act(HANDLE, "to-1", "abort", actor="ann")
    assert plane.store.entries(None, after=0, limit=9999) == before


def test_rollout_of_live_version_has_nothing_to_do(plane: Plane) -> None:
    plane.go_live(1)
    rollout = plane.roll_out(1, rollout_id="again")
    assert rollout.state.outcome is Outcome.PROMOTED
    assert "already" in rollout.state.reason


def test_second_rollout_is_refused_while_one_runs(plane: Plane) -> None:
    plane.go_live(1)
    plane.deploy(2)
    plane.deploy(3)
    plane.roll_out(2)
    with pytest.raises(ConflictError, match="to-2 of version 2"):
        plane.roll_out(3)


def test_rollout_of_version_never_deployed_is_refused(plane: Plane) -> None:
    plane.go_live(1)
    with pytest.raises(NotFoundError, match="deploy it"):
        plane.roll_out(9)


def test_live_version_cannot_change_its_content(plane: Plane) -> None:
    plane.go_live(1)
    with pytest.raises(ConflictError, match="another content"):
        plane.commands.deploy(plane.spec(1, CODE="other"), actor="ann")


def test_variant_outside_the_home_is_refused_with_every_fault(plane: Plane, tmp_path: Path) -> None:
    with closing(Plane(tmp_path / "elsewhere")) as other, pytest.raises(InvalidSpecError) as caught:
        plane.commands.deploy(other.spec(1), actor="ann")
    assert len(caught.value.faults) == 3


def test_ledger_replays_to_every_decision(plane: Plane) -> None:
    """What the ledger keeps of each look is enough to decide again, and the same."""
    plane.go_live(1)
    plane.go_live(2)
    plane.deploy(3)
    plane.fails = _fails_half_of(3)  # type: ignore[assignment]
    plane.roll_out(3)
    plane.tick(40, requests=100)
    entries = plane.store.entries(HANDLE, after=0, limit=9999)
    assert broken_at(plane.store.entries(None, after=0, limit=9999)) is None
    for rollout_id in ("to-1", "to-2", "to-3"):
        rollout = plane.rollout(rollout_id)
        mine = [entry for entry in entries if entry.body.get("rollout") == rollout_id]
        begun = next(state_from_json(entry.body["state"]) for entry in mine if entry.kind == "rollout")
        looks = [(observation_from_json(e.body["look"]), e.at_s) for e in mine if e.kind == "decision"]
        assert replay(rollout.spec, rollout.plan, begun, looks) == rollout.state


def test_crash_between_commit_and_act_is_made_up_for(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    plane.go_live(1)
    plane.deploy(2)
    plane.tick(3)
    plane.roll_out(2)
    with monkeypatch.context() as patch:
        patch.setattr(plane.reconciler, "_act", lambda _fleet: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            plane.tick()
    plane.restart()
    plane.tick(200, requests=100)
    assert plane.stable == 2


def test_abort_before_traffic_lets_the_candidate_go(plane: Plane) -> None:
    plane.go_live(1)
    plane.deploy(2)
    plane.roll_out(2)
    plane.commands.act(HANDLE, "to-2", "abort", actor="ann")
    plane.tick(70)
    assert plane.phase(2) == "stopped"


def test_variant_that_no_rollout_takes_up_is_stopped_in_the_end(plane: Plane) -> None:
    plane.go_live(1)
    plane.deploy(2)
    plane.tick(3)
    plane.runtime.step(4000)
    plane.tick(4)
    assert (plane.phase(1), plane.phase(2)) == ("ready", "stopped")


def test_last_variant_leaves_the_gateway_before_its_process_ends(plane: Plane) -> None:
    plane.deploy(1)
    plane.tick(3)
    plane.commands.retire(HANDLE, 1, actor="ann")
    plane.tick()
    plane.restart()
    plane.tick(4)
    assert plane.router.running.routes == ()
    assert plane.phase(1) == "stopped"


def test_failed_variant_that_is_deployed_again_starts_again(plane: Plane) -> None:
    variant = VariantId(handle=HANDLE, version=1)
    plane.deploy(1)
    plane.tick(3)
    plane.runtime.kill(variant)
    plane.runtime.step()
    plane.deploy(1)
    plane.tick(3)
    assert plane.phase(1) == "ready"


def test_version_that_may_be_gone_back_to_cannot_change_its_content(plane: Plane) -> None:
    plane.go_live(1)
    plane.go_live(2)
    with pytest.raises(ConflictError, match="another content"):
        plane.commands.deploy(plane.spec(1, CODE="other"), actor="ann")


def test_undo_with_the_same_id_is_one_undo(plane: Plane) -> None:
    plane.go_live(1)
    plane.go_live(2)
    for _ in range(2):
        plane.commands.undo(HANDLE, actor="ann", rollout_id="once")
        plane.tick(4, requests=10)
    assert plane.stable == 1


def test_restarted_controller_reads_on_where_the_last_one_stopped(plane: Plane) -> None:
    plane.go_live(1)
    plane.tick(20, requests=50)
    plane.restart()
    plane.tick(requests=7)
    assert len(plane.reconciler.world.attempts) == 7
    assert plane.reconciler.world.cursor == plane.source.end()


def test_units_are_forgotten_when_their_rollout_has_ended(plane: Plane) -> None:
    plane.go_live(1)
    plane.fails = _fails_half_of(2)  # type: ignore[assignment]
    plane.deploy(2)
    plane.roll_out(2)
    plane.tick(30, requests=100)
    units = [attempt.unit for attempt in plane.source.read("").attempts]
    assert plane.rollout("to-2").state.totals["2/errors"].bad_canary > 0
    assert plane.store.marked("to-2", units) == {}


def test_incident_at_low_traffic_is_not_the_canarys_fault(plane: Plane) -> None:
    """One request at a look, and every third fails on both versions."""
    plane.go_live(1)
    plane.deploy(2)
    plane.tick(3)
    plane.roll_out(2)
    plane.fails = lambda _version, number: number % 3 == 0
    plane.tick(300, requests=1)
    assert plane.rollout("to-2").state.outcome is not Outcome.ROLLED_BACK


events = st.lists(
    st.sampled_from(
        [
            "tick",
            "tick",
            "tick",
            "restart",
            "kill 1",
            "kill 2",
            "gateway",
            "evidence",
            "abort",
            "bad",
            "apply",
        ]
    ),
    max_size=25,
)


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=events)
def test_no_order_of_events_routes_to_nothing_or_promotes_a_bad_version(
    events: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with closing(Plane(tmp_path_factory.mktemp("plane"), applies_at_once=False)) as plane:
        _check_promises(plane, events)


def _check_promises(plane: Plane, events: list[str]) -> None:
    _settle(plane, 1)
    plane.deploy(2)
    plane.roll_out(2)
    for event in events:
        _happen(plane, event)
        _check_table(plane)
    plane.router.is_reachable = plane.source.is_reachable = True
    for _ in range(250):
        plane.tick(requests=100)
        plane.router.step()
        _check_table(plane)
        if plane.rollout("to-2").state.status is Status.ENDED:
            break
    plane.tick(2)
    state = plane.rollout("to-2").state
    assert state.status is Status.ENDED
    assert plane.stable == (2 if state.outcome is Outcome.PROMOTED else 1)
    if plane.was_bad_from_its_first_request:
        assert state.outcome is not Outcome.PROMOTED
    assert plane.router.observed(HANDLE) == Split.whole(plane.stable or 0)


def _settle(plane: Plane, version: int) -> None:
    plane.deploy(version)
    for _ in range(4):
        plane.tick()
        plane.router.step()
    plane.roll_out(version)
    for _ in range(10):
        plane.tick(requests=20)
        plane.router.step()
    assert plane.stable == version


def _happen(plane: Plane, event: str) -> None:
    match event:
        case "tick":
            plane.tick(requests=100)
        case "apply":
            plane.router.step()
        case "restart":
            plane.restart()
        case "kill 1" | "kill 2":
            variant = VariantId(handle=HANDLE, version=int(event[-1]))
            if variant in plane.runtime.observe():
                plane.runtime.kill(variant)
        case "gateway":
            plane.router.is_reachable = not plane.router.is_reachable
        case "evidence":
            plane.source.is_reachable = not plane.source.is_reachable
        case "abort":
            plane.commands.act(HANDLE, "to-2", "abort", actor="ann")
        case "bad":
            plane.was_bad_from_its_first_request |= plane.rollout("to-2").state.weight_pct == 0
            plane.fails = _fails_half_of(2)  # type: ignore[assignment]


def _check_table(plane: Plane) -> None:
    """Every version that may get traffic has a cluster, and no process is stopped while the gateway can send to it."""
    route = plane.router.running.route(HANDLE)
    assert route is not None
    assert route.split is not None
    present = {backend.version for backend in route.backends}
    assert set(route.split.parts) <= present
    stopped = {version for version in (1, 2) if plane.phase(version) == "stopped"}
    assert not stopped & set(route.split.parts)
