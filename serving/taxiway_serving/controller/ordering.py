"""What follows from the desired state, in an order that drops no request. Pure.

In: cluster, healthy, weight. Out: weight 0, drained, cluster, process. A variant leaves the table only when nothing
is sent to it, and its process ends only when a table without it was read back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import is_not

from taxiway_serving.answers import Answer
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.ledger.store import Endpoint, Fleet, Rollout, Variant, Wish
from taxiway_serving.names import READY_PATH, VariantId
from taxiway_serving.rollout.judges import candidates_of
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import PROMOTIONS, RolloutState, Status
from taxiway_serving.routing.router import Backend, Route, Table
from taxiway_serving.routing.side_routes import MAX_MEMBERS, HeaderRoute, Members, Mirror, can_stay
from taxiway_serving.runtimes.runtime import VariantState
from taxiway_serving.split import TOTAL_PARTS, Split

States = Mapping[VariantId, VariantState]
OnFault = Callable[[str, Exception], None]


def _nobody(_what: str, _fault: Exception) -> None:
    """Tell nobody."""


def wanted_split(spec: RolloutSpec, state: RolloutState) -> Split | None:
    """Return the split that a rollout wants now; None while a first deployment has not begun to move."""
    if promoted := promoted_version(spec, state):
        return Split.whole(promoted)
    if state.stable is None:
        return Split.whole(spec.version) if state.weight_pct > 0 else None
    if state.is_closed:
        # Who has met the candidate is listed by name; for everybody else there is stable alone.
        return Split.whole(state.stable)
    return Split.of(state.stable, _fitting(state.weights))


def _fitting(weights: Mapping[int, float]) -> Mapping[int, float]:
    """Return weights that fit in the whole: rounded one by one, many candidates may come out a little above it."""
    excess = sum(round(pct * 100) for pct in weights.values()) - TOTAL_PARTS
    if excess <= 0:
        return weights
    largest = max(weights, key=lambda version: weights[version])
    return {**weights, largest: weights[largest] - excess / 100}


def promoted_version(spec: RolloutSpec, state: RolloutState) -> int | None:
    """Return the version that a rollout has made live; None if it did not, or not yet.

    A first version that fails keeps the traffic: there is none to go back to.
    """
    if state.status is not Status.ENDED:
        return None
    if state.outcome in PROMOTIONS:
        return state.winner or spec.version
    return spec.version if state.stable is None and state.weight_pct > 0 else None


def endpoint_after(endpoint: Endpoint, rollout: Rollout) -> Endpoint:
    """Return the endpoint as a rollout's new state wants it."""
    spec, state = rollout.spec, rollout.state
    moved = replace(
        endpoint,
        split=wanted_split(spec, state),
        shield=spec.shield,
        header=state.header,
        mirror_pct=state.mirror_pct,
        closed=endpoint.closed if state.is_closed else {},
    )
    if promoted := promoted_version(spec, state):
        return replace(moved, stable=promoted, previous=state.stable)
    return moved


def located(variant: Variant, states: States) -> Variant:
    """Return the variant with the address where it is seen now; where it is not seen, the last one stays."""
    seen = states.get(VariantId(handle=variant.handle, version=variant.version))
    if seen is None or not seen.port:
        return variant
    if (seen.host, seen.port, seen.replicas) == (variant.host, variant.port, variant.replicas):
        return variant
    return replace(variant, host=seen.host, port=seen.port, replicas=seen.replicas)


def is_older(seen: VariantState, wanted: Variant) -> bool:
    """Return whether what is seen of a variant is from before it was asked for (once more)."""
    return seen.since_s < wanted.asked_at_s


def table_of(
    fleet: Fleet,
    states: States,
    mirror_to: tuple[str, int] | None = None,
    *,
    on_fault: OnFault = _nobody,
) -> Table:
    """Return the whole routing table that the desired state asks for.

    A variant is in it from its first address until it leaves, also while it restarts: its cluster then is unhealthy,
    and the gateway fails over, where a missing cluster would be an error. One handle's mistake is that handle's: what
    goes beside its split is left out first, and only then its route.

    Args:
        fleet: The desired state.
        states: What the runtime sees.
        mirror_to: Host and port of the comparator; None while there is none, and nothing is mirrored.
        on_fault: Is told of each handle whose route could not be made as it was asked for.
    """
    return TableMaker(mirror_to).table(fleet, states, on_fault=on_fault)


Present = tuple[tuple[Variant, bool], ...]
"""The variants of a handle that can be routed to, each with whether it is ready."""


class TableMaker:
    """Makes tables, one look after the other. A route is made anew only when what it follows from has changed.

    Args:
        mirror_to: Host and port of the comparator; None while there is none, and nothing is mirrored.
    """

    def __init__(self, mirror_to: tuple[str, int] | None = None) -> None:
        self._mirror_to = mirror_to
        self._made: dict[str, tuple[Endpoint, Present, Route]] = {}
        self._last = Table(routes=())

    def table(self, fleet: Fleet, states: States, *, on_fault: OnFault = _nobody) -> Table:
        """Return the table that the desired state asks for. See `table_of`."""
        made: dict[str, tuple[Endpoint, Present, Route]] = {}
        routes = []
        for endpoint in fleet.endpoints:
            present = _present(fleet.variants_of(endpoint.handle), states)
            known = self._made.get(endpoint.handle)
            if known is None or known[0] != endpoint or known[1] != present:
                route, is_sound = _sound_route(endpoint, present, self._mirror_to, on_fault)
                if route is None:
                    continue
                known = (endpoint, present, route)
                if not is_sound:
                    # Made again at every look, so that its fault is told as long as it lasts.
                    routes.append(route)
                    continue
            made[endpoint.handle] = known
            routes.append(known[2])
        self._made = made
        if len(routes) != len(self._last.routes) or any(map(is_not, routes, self._last.routes)):
            self._last = Table(routes=tuple(routes))
        return self._last


def _present(variants: Sequence[Variant], states: States) -> Present:
    return tuple(
        (variant, _is_ready(variant, states))
        for variant in variants
        if variant.wish is Wish.RUNNING and variant.port
    )


def _is_ready(variant: Variant, states: States) -> bool:
    seen = states.get(VariantId(handle=variant.handle, version=variant.version))
    return seen is not None and seen.phase == "ready"


def _sound_route(
    endpoint: Endpoint, present: Present, mirror_to: tuple[str, int] | None, on_fault: OnFault
) -> tuple[Route | None, bool]:
    """Return a handle's route, and whether it is as it was asked for."""
    try:
        return _route(endpoint, present, mirror_to), True
    except InvalidSpecError as fault:
        on_fault(f"route of {endpoint.handle}", fault)
    try:
        bare = replace(endpoint, header=None, mirror_pct=0.0, closed={})
        return _route(bare, present, mirror_to), False
    except InvalidSpecError:
        # The fault was told above. This handle is left out, so that all the others have their table.
        return None, False


def _route(endpoint: Endpoint, present: Present, mirror_to: tuple[str, int] | None) -> Route | None:
    if not present:
        return None
    versions = [variant.version for variant, _ in present]
    return Route(
        handle=endpoint.handle,
        split=endpoint.split,
        backends=tuple(_backend(variant, is_ready) for variant, is_ready in present),
        shield=endpoint.shield,
        rate_limit_rps=_limit_rps([variant for variant, _ in present]),
        headers=_headers(endpoint, versions),
        mirror=_mirror(endpoint, mirror_to),
        members=_members(endpoint, versions),
    )


def _limit_rps(present: Sequence[Variant]) -> float | None:
    """Return the most generous limit of those present; a version without one lifts it."""
    limits = [variant.spec.get("max_rps") for variant in present]
    known = [float(limit) for limit in limits if limit]
    return max(known) if known and None not in limits else None


def _headers(endpoint: Endpoint, present: list[int]) -> tuple[HeaderRoute, ...]:
    header = endpoint.header
    if header is None:
        return ()
    return tuple(
        HeaderRoute(header=header.header, cookie=header.cookie, value=value, version=version)
        for value, version in header.versions.items()
        if version in present
    )


def _mirror(endpoint: Endpoint, mirror_to: tuple[str, int] | None) -> Mirror | None:
    if mirror_to is None or endpoint.split is None or endpoint.mirror_pct <= 0:
        return None
    return Mirror(host=mirror_to[0], port=mirror_to[1], sample_pct=endpoint.mirror_pct)


def _members(endpoint: Endpoint, present: list[int]) -> Members | None:
    """Return who keeps the candidate behind a closed door. Only strategies of one candidate close one.

    Users who came in while the door was being closed may be more than the gateway can list: the rest meets stable.
    """
    for version, units in endpoint.closed.items():
        known = [unit for unit in units if can_stay(unit)]
        return Members.of(version, known[:MAX_MEMBERS]) if version in present else None
    return None


def _backend(variant: Variant, is_ready: bool) -> Backend:
    return Backend(
        version=variant.version,
        host=variant.host,
        port=variant.port,
        replicas=variant.replicas,
        model=str(variant.spec["model"]),
        ready=is_ready,
        ready_path=str(variant.spec.get("ready_path", READY_PATH)),
    )


def may_leave(
    variant: Variant, fleet: Fleet, *, now_s: float, observed: Split | None, drained: Answer
) -> bool:
    """Return whether a running variant may be taken out of the table.

    Args:
        variant: The variant.
        fleet: The desired state: what is live, or rolled out, stays.
        now_s: Seconds since the epoch.
        observed: Split that was read back from the gateway.
        drained: Whether the gateway has no request under way on it.
    """
    if variant.wish is not Wish.RUNNING or variant.retire_at_s is None or now_s < variant.retire_at_s:
        return False
    endpoint = fleet.endpoint(variant.handle)
    wanted = endpoint.split.parts if endpoint and endpoint.split else {}
    seen = observed.parts if observed else {}
    return (
        variant.version not in wanted
        and variant.version not in seen
        and variant.version not in _rolled_out(variant.handle, fleet)
        and drained is Answer.YES
    )


def is_forgotten(variant: Variant, fleet: Fleet) -> bool:
    """Return whether a variant runs without an end although nobody needs it: not live, and in no rollout."""
    endpoint = fleet.endpoint(variant.handle)
    is_live = endpoint is not None and endpoint.stable == variant.version
    has_end = variant.wish is not Wish.RUNNING or variant.retire_at_s is not None
    return not has_end and not is_live and variant.version not in _rolled_out(variant.handle, fleet)


def _rolled_out(handle: str, fleet: Fleet) -> set[int]:
    """Return the versions that rollouts of a handle need: candidates of running and of waiting ones, and the stable."""
    needed = {version for each in fleet.queued_of(handle) for version in each.spec.versions}
    rollout = fleet.active(handle)
    if rollout is not None:
        needed |= {*candidates_of(rollout.spec, rollout.state), rollout.state.stable or 0}
    return needed


def retirements(rollout: Rollout, now_s: float) -> dict[tuple[str, int], float | None]:
    """Return when which variant may go, after a rollout's new state: None keeps it; empty while it runs."""
    spec, state = rollout.spec, rollout.state
    if state.status is not Status.ENDED:
        return {}
    stays = promoted_version(spec, state) or state.stable
    met = {*spec.versions, *state.added} | ({state.stable} if state.stable else set())
    gone: dict[tuple[str, int], float | None] = {(spec.handle, v): now_s + spec.warm_s for v in met - {stays}}
    return gone | ({(spec.handle, stays): None} if stays else {})
