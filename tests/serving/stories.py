"""Rollouts on the plane over fakes, as callers ask for them: from plain JSON. Shared by the tests of whole stories."""

from collections.abc import Mapping, Sequence
from typing import Any

from taxiway_serving.rollout.state import RolloutState, Status
from taxiway_serving.strategies import rollout_from_json
from tests.serving.plane import HANDLE, Plane

Steps = Sequence[Mapping[str, Any]]
HALF: Steps = ({"setWeight": 50}, {"pause": {}}, {"setWeight": 100})


def with_candidate(plane: Plane) -> Plane:
    plane.go_live(1)
    plane.deploy(2)
    plane.tick(3)
    return plane


def stepped(plane: Plane, times: int) -> None:
    for _ in range(times):
        plane.tick()
        plane.router.step()


def begin(plane: Plane, version: int = 2, *, name: str = "canary", steps: Steps = (), **body: Any) -> None:
    """Start a canary as a caller does, from plain JSON."""
    strategy = {"kind": "canary", "steps": list(steps)}
    asked = {"id": name, "handle": HANDLE, "version": version, "actor": "ann", "strategy": strategy}
    plane.commands.start(rollout_from_json({**asked, "warm_s": 60, **body}))


def state(plane: Plane, name: str = "canary") -> RolloutState:
    return plane.rollout(name).state


def observed_pct(plane: Plane, version: int = 2) -> float:
    split = plane.router.observed(HANDLE)
    return split.weight_pct(version) if split else 0.0


def until_pct(plane: Plane, weight_pct: float, *, requests: int = 20) -> None:
    for _ in range(60):
        if observed_pct(plane) == weight_pct:
            plane.tick(requests=requests)
            return
        plane.tick(requests=requests)
    raise AssertionError(f"never at {weight_pct} %: {state(plane)}")


def until_live(plane: Plane, version: int) -> None:
    for _ in range(120):
        if plane.stable == version:
            return
        plane.tick(requests=100)
    raise AssertionError(f"version {version} is not live: {state(plane)}")


def entries(plane: Plane) -> int:
    return len(plane.store.entries(None, after=0, limit=10_000))


def fail(plane: Plane, version: int) -> None:
    plane.fails = lambda asked, number: asked == version and number % 2 == 0


def until_ended(plane: Plane, name: str = "canary", *, requests: int = 50) -> RolloutState:
    for _ in range(150):
        if state(plane, name).status is Status.ENDED:
            return state(plane, name)
        plane.tick(requests=requests)
    raise AssertionError(f"{name} goes on: {state(plane, name)}")
