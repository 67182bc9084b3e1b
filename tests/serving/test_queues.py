"""A new rollout while one runs: rejected, queued or superseding, in order, and a limit on how many run at once."""

import pytest

from taxiway_serving.errors import ConflictError
from taxiway_serving.rollout.state import Outcome, Status
from taxiway_serving.split import Split
from tests.serving.operating import (
    GATED,
    OTHER,
    QUICK,
    VERSIONS,
    fail,
    heal,
    outcome,
    routes,
    two_handles,
    until_pct,
)
from tests.serving.plane import HANDLE, Plane


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
