"""Going back to a version that was live: which one, when it is refused, and what it starts."""

from collections.abc import Callable

import pytest

from taxiway_serving.errors import ConflictError, InvalidSpecError, NotFoundError
from taxiway_serving.names import VariantId
from taxiway_serving.split import Split
from tests.serving.operating import GATED
from tests.serving.plane import HANDLE, Plane


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


@pytest.mark.slow
def test_undo_beyond_the_window_is_refused_with_the_next_step(plane: Plane) -> None:
    for version in (1, 2, 3, 4, 5):
        plane.go_live(version)
    with pytest.raises(ConflictError, match=r"not among the last 3.*prove itself anew"):
        plane.commands.undo(HANDLE, actor="ann", version=1)
    assert plane.commands.undo(HANDLE, actor="ann", version=2).spec.version == 2


def _retry(plane: Plane) -> None:
    plane.act("back", "retry")


def _start(plane: Plane) -> None:
    plane.begin(1, name="again", strategy="undo")


@pytest.mark.parametrize("way", [_retry, _start])
def test_no_other_way_leads_beyond_the_window(plane: Plane, way: Callable[[Plane], None]) -> None:
    plane.go_live(1)
    plane.go_live(2)
    plane.commands.undo(HANDLE, actor="ann", rollout_id="back")
    plane.act("back", "abort")
    for version in (3, 4, 5):
        plane.go_live(version)
    with pytest.raises(ConflictError, match="not among the last 3"):
        way(plane)


def test_window_is_a_setting(plane: Plane) -> None:
    plane.rollback_window = 1
    plane.restart()
    for version in (1, 2, 3):
        plane.go_live(version)
    with pytest.raises(ConflictError, match="not among the last 1"):
        plane.commands.undo(HANDLE, actor="ann", version=1)


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
