"""Many rollouts: a look costs as much more as there are more of them, and nothing is written of those that rest."""

import sys
from pathlib import Path
from types import FrameType

import pytest

from taxiway_serving.rollout.state import Status
from tests.serving.plane import Plane

pytestmark = pytest.mark.slow

FEW, MANY = 10, 60
RESTING = {"kind": "canary", "steps": [{"setWeight": 50}, {"pause": {}}, {"setWeight": 100}]}


@pytest.fixture
def crowded(tmp_path: Path) -> Plane:
    made = Plane(tmp_path / "crowded")
    made.most_rollouts = MANY + 1
    made.restart()
    return made


def begin_rollouts(plane: Plane, handles: range) -> None:
    """Bring each handle to a canary at 50 % that waits for a person."""
    names = [f"handle_{number}" for number in handles]
    for version in (1, 2):
        for handle in names:
            plane.deploy(version, handle=handle)
        plane.tick(2)
        for handle in names:
            strategy = "all_at_once" if version == 1 else RESTING
            plane.begin(version, name=f"{handle}-{version}", handle=handle, strategy=strategy)
        plane.tick(16)
    assert all(plane.state(f"{handle}-2").status is Status.PAUSED for handle in names)


def entries(plane: Plane) -> int:
    return len(plane.store.entries(None, after=0, limit=100_000))


def calls_of_a_look(plane: Plane) -> int:
    """Return how many functions a look calls, the fewest of some: the same on any machine, however busy."""
    return min(_calls(plane) for _ in range(7))


def _calls(plane: Plane) -> int:
    calls = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        plane.tick()
    finally:
        sys.setprofile(None)
    return calls


def test_look_costs_in_proportion_to_the_rollouts(crowded: Plane) -> None:
    """argo-rollouts#3112, #2855, flagger#638, #1613: many rollouts at once slowed each other down without measure."""
    begin_rollouts(crowded, range(FEW))
    few = calls_of_a_look(crowded)
    begin_rollouts(crowded, range(FEW, MANY))
    many, before = calls_of_a_look(crowded), entries(crowded)
    print(f"{few} calls with {FEW} rollouts, {many} with {MANY}")
    assert few > FEW
    assert many < 1.5 * MANY / FEW * few
    crowded.tick(5)
    assert entries(crowded) == before
    crowded.close()
