"""What a person or a caller does to a plane in memory, and waiting for what comes of it."""

from taxiway_serving.rollout.state import Outcome, Status
from taxiway_serving.routing.router import Route
from tests.serving.plane import HANDLE, Plane

QUICK = {"kind": "canary", "steps": [{"setWeight": 50}, {"setWeight": 100}]}
GATED = {"kind": "canary", "steps": [{"setWeight": 50}, {"pause": {}}, {"setWeight": 100}]}
VERSIONS = {"A": 2, "B": 3, "C": 4}
OTHER = "faces"


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


def two_handles(plane: Plane) -> Plane:
    """Versions 1 and 11 live, 2 and 12 deployed and ready."""
    plane.go_live(1)
    plane.go_live(11, handle=OTHER)
    plane.deploy(2)
    plane.deploy(12, handle=OTHER)
    plane.tick(3)
    return plane
