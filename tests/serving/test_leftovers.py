"""A variant that nobody needs any longer goes, whatever way it lost its use; one that fails is told of."""

from collections.abc import Callable

import pytest

from taxiway_serving.controller.changes import UNUSED_S
from taxiway_serving.names import VariantId
from taxiway_serving.rollout.state import Outcome
from tests.serving.operating import GATED, QUICK, outcome
from tests.serving.plane import HANDLE, Plane

LONG = int(UNUSED_S) + 120


def _abort_in_the_queue(plane: Plane) -> None:
    plane.begin(2, name="first", strategy=GATED)
    plane.begin(3, name="second", strategy=QUICK, on_running="queue")
    plane.act("second", "abort")
    plane.act("first", "abort")


def _supersede_in_the_queue(plane: Plane) -> None:
    plane.begin(2, name="first", strategy=GATED)
    plane.begin(3, name="second", strategy=QUICK, on_running="queue")
    plane.begin(4, name="third", strategy=QUICK, on_running="supersede")


def _deploy_the_previous_again(plane: Plane) -> None:
    plane.begin(2, name="first", strategy=QUICK)
    plane.tick(20, requests=50)
    assert plane.live(HANDLE) == 2
    plane.deploy(1)


def _go_live_while_waiting(plane: Plane) -> None:
    plane.begin(2, name="first", strategy=QUICK)
    plane.begin(2, name="second", rivals=[3], strategy="ab", on_running="queue")
    plane.tick(20, requests=50)
    assert outcome(plane, "second") is Outcome.ABORTED


@pytest.mark.parametrize(
    "story",
    [
        _abort_in_the_queue,
        _supersede_in_the_queue,
        _deploy_the_previous_again,
        _go_live_while_waiting,
    ],
)
def test_only_the_live_version_runs_in_the_end(live: Plane, story: Callable[[Plane], None]) -> None:
    story(live)
    live.tick(40, requests=50)
    live.runtime.now_s += LONG
    live.tick(20)
    running = {version for version in (1, 2, 3, 4) if live.phase(version) == "ready"}
    assert running == {live.live(HANDLE)}


def test_version_that_is_deployed_again_has_time_to_be_proven(live: Plane) -> None:
    live.begin(2, name="first", strategy=QUICK)
    live.tick(50, requests=50)
    assert (live.live(HANDLE), live.phase(1)) == (2, "ready")
    live.deploy(1)
    live.tick(60, requests=10)
    assert live.phase(1) == "ready"


@pytest.mark.parametrize("story", ["kept warm", "sent back", "waiting"])
def test_version_that_was_ready_is_not_told_to_have_never_been(live: Plane, story: str) -> None:
    if story == "sent back":
        live.fails = lambda version, _number: version == 2
    live.begin(2, name="first", strategy=GATED if story == "waiting" else QUICK)
    if story == "waiting":
        live.begin(3, name="second", strategy=QUICK, on_running="queue")
    live.tick(20, requests=50)
    died = {"kept warm": 1, "sent back": 2, "waiting": 3}[story]
    live.runtime.kill(VariantId(handle=HANDLE, version=died))
    live.tick(5, requests=10)
    assert "never_ready" not in live.told()
    kinds = [entry.kind for entry in live.store.entries(HANDLE, after=0, limit=10_000)]
    assert kinds.count("failed") == 1


def test_experiment_that_lost_its_control_names_no_winner(live: Plane) -> None:
    _go_live_while_waiting(live)
    state = live.state("second")
    assert (state.outcome, state.winner) == (Outcome.ABORTED, None)
    assert "version 2 is live already" in state.reason


def _deploy_broken(plane: Plane) -> None:
    broken = VariantId(handle=HANDLE, version=5)
    plane.runtime.break_(broken)
    plane.deploy(5)
    plane.tick(2)
    plane.runtime.kill(broken)


def test_version_that_never_becomes_ready_is_told_without_a_rollout(live: Plane) -> None:
    _deploy_broken(live)
    live.tick(10)
    assert live.told() == [*live.told("to-1"), "never_ready"]
    kinds = [entry.kind for entry in live.store.entries(HANDLE, after=0, limit=1000)]
    assert kinds.count("failed") == 1


def test_live_version_that_fails_is_told_once_and_again_when_it_fails_again(live: Plane) -> None:
    version = VariantId(handle=HANDLE, version=1)
    for times in (1, 2):
        live.runtime.break_(version)
        live.runtime.kill(version)
        live.tick(5, requests=10)
        assert live.told().count("live_failed") == times
        live.runtime._broken.clear()
        live.commands.undo(HANDLE, actor="ann", rollout_id=f"again-{times}", version=1)
        live.tick(10, requests=10)
        assert live.phase(1) == "ready"


def test_candidate_that_fails_is_told_by_its_rollout_alone(live: Plane) -> None:
    live.deploy(5)
    live.begin(5, name="doomed", strategy=QUICK)
    _deploy_broken(live)
    live.tick(10, requests=10)
    assert live.told().count("never_ready") == live.told("doomed").count("never_ready") == 1
