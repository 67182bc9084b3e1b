"""The Protocol of what sends traffic to variants, and its values. No Envoy is touched here."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Protocol

from taxiway_serving.answers import Answer
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.names import READY_PATH, VariantId, check_handle, check_version
from taxiway_serving.routing.side_routes import HeaderRoute, Members, Mirror, SideRoutes
from taxiway_serving.split import Split

Revision = str


def always_may() -> None:
    """Let everything be done: there is one controller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One variant as traffic finds it.

    Attributes:
        version: The model version.
        host: Address that it listens on.
        port: Port that it listens on, 1 to 65535.
        replicas: Host and port of its further replicas; requests go to all of them alike.
        model: Label for the x-taxiway-model header.
        ready: Whether a tester may reach it by pinning. One that is not ready still has a cluster, so that it can warm.
        ready_path: Path that answers 200 while it takes requests.
    """

    version: int
    host: str
    port: int
    model: str
    ready: bool = True
    ready_path: str = READY_PATH
    replicas: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        check_version(self.version)
        faults = tuple(
            f"needs an address, got {host!r}:{port!r}"
            for host, port in self.addresses
            if not host or not 1 <= port <= 65535
        )
        if faults:
            raise InvalidSpecError(faults, f"backend {self.version}")

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Host and port of every replica."""
        return ((self.host, self.port), *self.replicas)


# Without slots: its digest is made once. A table of a thousand routes is asked for its revision at every look.
@dataclass(frozen=True, kw_only=True)
class Route:
    """All traffic of one handle.

    Attributes:
        handle: The handle, which is the first segment of the path.
        split: How live traffic is divided. None is a handle that is not live yet: only pinned requests are answered.
        backends: The variants that exist, in any order. Every version of the split must be among them.
        shield: Whether a canary's failed attempt is tried once more on stable. It runs a call twice, so a handle whose
            calls are not idempotent opts out.
        rate_limit_rps: Requests per second let through; beyond it the answer is 429. None is no limit.
        timeout_s: Seconds until a request without an answer is given up with 504.
        headers: Requests that go to a version by a header or cookie; first match wins. They are shielded too.
        mirror: Who gets copies of a sample of what goes by the split. None is nobody.
        members: Who keeps a candidate while everybody else goes by the split.
    """

    handle: str
    split: Split | None
    backends: tuple[Backend, ...]
    shield: bool = True
    rate_limit_rps: float | None = None
    timeout_s: float = 30.0
    headers: tuple[HeaderRoute, ...] = ()
    mirror: Mirror | None = None
    members: Members | None = None

    def __post_init__(self) -> None:
        check_handle(self.handle)
        faults = _faults(self)
        if faults:
            raise InvalidSpecError(tuple(faults), f"route {self.handle}")

    @cached_property
    def digest(self) -> str:
        """Content hash, the same across processes."""
        content = json.dumps(_content(self), sort_keys=True, default=asdict)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def side_routes(self) -> SideRoutes:
        """What goes beside the split: compare it with `Router.observed_routes`."""
        members = self.members if self.members and self.members.units else None
        return SideRoutes(headers=self.headers, mirror=self.mirror, members=members)


@dataclass(frozen=True, kw_only=True)
class Table:
    """The whole of what a router routes. At most one route per handle."""

    routes: tuple[Route, ...]

    def __post_init__(self) -> None:
        counts = Counter(route.handle for route in self.routes)
        twice = sorted(handle for handle, count in counts.items() if count > 1)
        if twice:
            raise InvalidSpecError(tuple(f"{handle} has more than one route" for handle in twice), "table")

    def route(self, handle: str) -> Route | None:
        """Return the route of a handle, or None."""
        return self._routes.get(handle)

    def revision(self) -> Revision:
        """Return the content hash: equal tables have equal revisions, across processes."""
        ordered = sorted(self.routes, key=lambda route: route.handle)
        content = "".join(route.digest for route in ordered)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def _routes(self) -> Mapping[str, Route]:
        return {route.handle: route for route in self.routes}


class Router(Protocol):
    """Moves traffic to where a table says, and reports what is really so.

    Desired is not observed: `publish` only asks. Tables are whole and content-hashed, so publishing one twice is
    publishing it once. Order between variants coming and going is the caller's: publish a table with both, wait until
    warm, move the split, wait until drained, publish a table without. One thread calls a router at a time.
    """

    def publish(self, table: Table, *, allow_empty: bool = False) -> Revision:
        """Ask for a table and return its revision.

        Args:
            table: The whole table.
            allow_empty: Whether a table without routes may replace one that has some. A controller that has not
                loaded its state yet would otherwise take every endpoint away.

        Raises:
            ConflictError: If the table is empty, the published one is not, and `allow_empty` is false.
            TransportError: If the router could not be told, or had not taken the new clusters in time.
        """
        ...

    def applied(self, revision: Revision) -> Answer:
        """Answer whether every gateway routes by this revision, read back from it."""
        ...

    def rejection(self, revision: Revision) -> str | None:
        """Return why a gateway refused the revision, or None if it did not, or has not said so yet."""
        ...

    def observed(self, handle: str) -> Split | None:
        """Return the split that the gateway routes by now, read back; None if the handle has no live traffic.

        Raises:
            TransportError: If the gateway could not be asked.
        """
        ...

    def observed_routes(self, handle: str) -> SideRoutes:
        """Return what the gateway routes beside the split now, read back; empty if it knows no such handle.

        Raises:
            TransportError: If the gateway could not be asked.
        """
        ...

    def warm(self, variant: VariantId) -> Answer:
        """Answer whether the gateway has the variant and finds it healthy, so that traffic may move to it."""
        ...

    def drained(self, variant: VariantId) -> Answer:
        """Answer whether no request is under way on the variant, so that it may be taken out and stopped."""
        ...

    def in_flight(self, variant: VariantId) -> int:
        """Return how many requests are under way or waiting on the variant, over all gateways.

        Raises:
            TransportError: If a gateway could not be asked.
        """
        ...


def _faults(route: Route) -> tuple[str, ...]:
    versions = [backend.version for backend in route.backends]
    named = () if route.split is None else tuple(route.split.parts)
    faults = [f"version {v} is in the split but has no backend" for v in named if v not in versions]
    faults += [f"version {v} has two backends" for v in sorted(set(versions)) if versions.count(v) > 1]
    faults += _side_faults(route, versions)
    if route.rate_limit_rps is not None and not 0 < route.rate_limit_rps <= 1e6:
        faults.append(f"rate_limit_rps must be above 0 and at most 1e6, got {route.rate_limit_rps!r}")
    if not 0 < route.timeout_s <= 3600:
        faults.append(f"timeout_s must be above 0 and at most 3600, got {route.timeout_s!r}")
    return tuple(faults)


def _side_faults(route: Route, versions: list[int]) -> list[str]:
    keys = [header.key for header in route.headers]
    faults = [
        f"version {h.version} has a header route but no backend"
        for h in route.headers
        if h.version not in versions
    ]
    faults += [
        f"more than one header route for {'='.join(filter(None, key))}"
        for key in sorted(set(keys))
        if keys.count(key) > 1
    ]
    if route.mirror is not None and route.split is None:
        faults.append("a mirror needs live traffic to copy")
    if route.members is not None:
        version, stable = route.members.version, route.split.stable if route.split else None
        if version not in versions:
            faults.append(f"version {version} has members but no backend")
        if stable in (None, version):
            faults.append(f"members of version {version} need another version that is stable, got {stable}")
    return faults


def _content(route: Route) -> dict[str, object]:
    return {
        **{field.name: getattr(route, field.name) for field in fields(route)},
        "split": None if route.split is None else route.split.to_json(),
        "backends": sorted(route.backends, key=lambda backend: backend.version),
    }
