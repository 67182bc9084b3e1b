"""What follows from the desired state, in an order that drops no request. Pure.

In: cluster, healthy, weight. Out: weight 0, drained, cluster, process. A variant leaves the table only when nothing
is sent to it, and its process ends only when a table without it was read back.
"""

from collections.abc import Mapping
from dataclasses import replace

from taxiway_serving.answers import Answer
from taxiway_serving.ledger.store import Endpoint, Fleet, Rollout, Variant, Wish
from taxiway_serving.names import VariantId
from taxiway_serving.rollout.state import Outcome, RolloutState, Status
from taxiway_serving.rollout.steps import RolloutSpec
from taxiway_serving.routing.router import Backend, Route, Table
from taxiway_serving.runtimes.runtime import VariantState
from taxiway_serving.split import Split

States = Mapping[VariantId, VariantState]


def wanted_split(spec: RolloutSpec, state: RolloutState) -> Split | None:
    """Return the split that a rollout wants now; None while a first deployment has not begun to move."""
    if state.status is Status.ENDED and state.outcome is Outcome.PROMOTED:
        return Split.whole(spec.version)
    if state.stable is None:
        return Split.whole(spec.version) if state.weight_pct > 0 else None
    return Split.of(state.stable, {spec.version: state.weight_pct})


def endpoint_after(endpoint: Endpoint, rollout: Rollout) -> Endpoint:
    """Return the endpoint as a rollout's new state wants it."""
    spec, state = rollout.spec, rollout.state
    moved = replace(endpoint, split=wanted_split(spec, state), shield=spec.shield)
    keeps_traffic = state.stable is None and state.weight_pct > 0
    if state.status is Status.ENDED and (state.outcome is Outcome.PROMOTED or keeps_traffic):
        return replace(moved, stable=spec.version, previous=state.stable)
    return moved


def located(variant: Variant, states: States) -> Variant:
    """Return the variant with the address where it is seen now; where it is not seen, the last one stays."""
    seen = states.get(VariantId(handle=variant.handle, version=variant.version))
    if seen is None or not seen.port:
        return variant
    return replace(variant, host=seen.host, port=seen.port)


def is_older(seen: VariantState, wanted: Variant) -> bool:
    """Return whether what is seen of a variant is from before it was asked for (once more)."""
    return seen.since_s < wanted.asked_at_s


def table_of(fleet: Fleet, states: States) -> Table:
    """Return the whole routing table that the desired state asks for.

    A variant is in it from its first address until it leaves, also while it restarts: its cluster then is unhealthy,
    and the gateway fails over, where a missing cluster would be an error.
    """
    routes = (_route(endpoint, fleet, states) for endpoint in fleet.endpoints)
    return Table(routes=tuple(route for route in routes if route))


def _route(endpoint: Endpoint, fleet: Fleet, states: States) -> Route | None:
    present = [v for v in fleet.variants if v.handle == endpoint.handle and v.wish is Wish.RUNNING and v.port]
    if not present:
        return None
    limits = [variant.spec.get("max_rps") for variant in present]
    return Route(
        handle=endpoint.handle,
        split=endpoint.split,
        backends=tuple(_backend(variant, states) for variant in present),
        shield=endpoint.shield,
        rate_limit_rps=None if None in limits else max(limit for limit in limits if limit),
    )


def _backend(variant: Variant, states: States) -> Backend:
    seen = states.get(VariantId(handle=variant.handle, version=variant.version))
    return Backend(
        version=variant.version,
        host=variant.host,
        port=variant.port,
        model=str(variant.spec["model"]),
        ready=seen is not None and seen.phase == "ready",
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
    endpoint, rollout = fleet.endpoint(variant.handle), fleet.active(variant.handle)
    wanted = endpoint.split.parts if endpoint and endpoint.split else {}
    seen = observed.parts if observed else {}
    is_candidate = rollout is not None and variant.version in (rollout.spec.version, rollout.state.stable)
    return (
        variant.version not in wanted
        and variant.version not in seen
        and not is_candidate
        and drained is Answer.YES
    )


def retirements(rollout: Rollout, now_s: float) -> dict[tuple[str, int], float | None]:
    """Return when which variant may go, after a rollout's new state: None keeps it; empty while it runs."""
    spec, state = rollout.spec, rollout.state
    if state.status is not Status.ENDED:
        return {}
    has_traffic = state.outcome is Outcome.PROMOTED or (state.stable is None and state.weight_pct > 0)
    gone, stays = (state.stable, spec.version) if has_traffic else (spec.version, state.stable)
    kept: dict[tuple[str, int], float | None] = {(spec.handle, stays): None} if stays else {}
    return kept | ({(spec.handle, gone): now_s + spec.warm_s} if gone and gone != stays else {})
