"""What a rollout's beginning, or its new state, changes. Values in, one `Change` out; nothing is stored here."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from taxiway_serving.controller.events import deliveries_of
from taxiway_serving.controller.ordering import endpoint_after, retirements
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.ledger.store import Change, Endpoint, Fleet, Note, Rollout, Variant, Wish
from taxiway_serving.rollout.machine import begin
from taxiway_serving.rollout.plans import step_to_json
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import Outcome, RolloutState, Status
from taxiway_serving.settings import MOST_ROLLOUTS
from taxiway_serving.split import Split
from taxiway_serving.strategies import plan

UNUSED_S = 3600.0
"""A variant that nobody needs is stopped after this: its verification failed, or its rollout was never begun."""


def merged(changes: Iterable[Change]) -> Change:
    """Return several changes as one, stored whole or not at all; the last word on an endpoint or a variant holds."""
    parts = list(changes)
    cursors = [change.cursor for change in parts if change.cursor is not None]
    return Change(
        endpoints=tuple(each for change in parts for each in change.endpoints),
        variants=tuple(each for change in parts for each in change.variants),
        rollouts=tuple(each for change in parts for each in change.rollouts),
        notes=tuple(each for change in parts for each in change.notes),
        marks=tuple(each for change in parts for each in change.marks),
        forgotten=tuple(each for change in parts for each in change.forgotten),
        cursor=cursors[-1] if cursors else None,
        deliveries=tuple(each for change in parts for each in change.deliveries),
    )


def queued(rollout: Rollout, fleet: Fleet, now_s: float, *, retry_of: str = "") -> Change:
    """Return what asking for a rollout changes: it has a place in the queue, and its versions are kept running.

    Args:
        rollout: What is asked for.
        fleet: The desired state.
        now_s: Seconds since the epoch.
        retry_of: Id of the rollout that it is asked for again; "" for a new one.
    """
    spec = rollout.spec
    is_anew = spec.strategy == "undo" or bool(retry_of)
    needed = awake(fleet, spec.handle, spec.versions, now_s, is_anew=is_anew)
    body: dict[str, Any] = {"rollout": spec.id, "spec": spec.to_json()}
    reason = f"{spec.strategy} of version {spec.version}" + (f", {retry_of} again" if retry_of else "")
    note = note_of(now_s, spec.handle, "asked", spec.actor, reason, body)
    return Change(variants=needed, rollouts=(rollout,), notes=(note,))


def awake(
    fleet: Fleet, handle: str, versions: Sequence[int], now_s: float, *, is_anew: bool = False
) -> tuple[Variant, ...]:
    """Return variants that are kept running, and started again where they were stopped.

    Args:
        fleet: The desired state.
        handle: Endpoint.
        versions: Which of its variants.
        now_s: Seconds since the epoch.
        is_anew: Whether one that has failed before gets a fresh start.
    """
    mine = [v for v in fleet.variants_of(handle) if v.version in versions]
    return tuple(_awake(variant, now_s, is_anew=is_anew) for variant in mine)


def _awake(variant: Variant, now_s: float, *, is_anew: bool) -> Variant:
    kept = replace(variant, retire_at_s=None)
    if variant.wish is not Wish.RUNNING:
        kept = replace(kept, wish=Wish.RUNNING, host="", port=0)
    elif not is_anew:
        return kept
    return replace(kept, asked_at_s=now_s, ready_at_s=None, failed_at_s=None)


def begun(rollout: Rollout, fleet: Fleet, now_s: float, *, most: int = MOST_ROLLOUTS) -> Change:
    """Return what a queued rollout's turn changes; nothing while another runs on its handle, or too many run at all.

    Its plan is made anew: what is live may have changed while it waited. The way back waits for no room.
    """
    spec = rollout.spec
    is_full = len(fleet.running) >= most and spec.strategy != "undo"
    if fleet.active(spec.handle) is not None or is_full:
        return Change()
    endpoint = fleet.endpoint(spec.handle) or Endpoint(handle=spec.handle)
    state = begin(stable=endpoint.stable, now_s=now_s)
    try:
        steps = plan(spec, endpoint.stable)
    except InvalidSpecError as fault:
        state, steps = _over(state, Outcome.ABORTED, str(fault), now_s), rollout.plan
    if endpoint.stable in spec.versions:
        state = _live_already(spec, endpoint.stable, state, now_s)
    after = Rollout(spec=spec, plan=steps, state=state)
    body = {
        "rollout": spec.id,
        "version": spec.version,
        "plan": [step_to_json(step) for step in steps],
        "state": state.to_json(),
    }
    wanted = endpoint_after(endpoint, after) if state.status is not Status.ENDED else endpoint
    body |= {
        "split": _plain(wanted.split),
        "lineage": lineage_of(fleet, spec.handle, *spec.versions, endpoint.stable),
    }
    note = note_of(now_s, spec.handle, "rollout", spec.actor, state.reason, body)
    endpoints = (wanted,) if wanted != endpoint else ()
    told = deliveries_of(rollout, after, now_s)
    return Change(endpoints=endpoints, rollouts=(after,), notes=(note,), deliveries=told)


def changed(
    rollout: Rollout,
    state: RolloutState,
    fleet: Fleet,
    verb: str,
    actor: str,
    now_s: float,
    *,
    reason: str = "",
) -> Change:
    """Return what a person's word on a rollout changes; `reason` is what the ledger says of it, "" the state's own."""
    handle, after = rollout.spec.handle, replace(rollout, state=state)
    before = fleet.endpoint(handle) or Endpoint(handle=handle)
    wanted = before if rollout.state.status is Status.QUEUED else endpoint_after(before, after)
    body = {
        "rollout": rollout.spec.id,
        "verb": verb,
        "state": state.to_json(),
        "split": _plain(wanted.split),
    }
    notes = (note_of(now_s, handle, "verb", actor, reason or state.reason, body),)
    told = deliveries_of(rollout, after, now_s)
    if rollout.state.status is Status.QUEUED:
        return Change(rollouts=(after,), notes=notes, deliveries=told)
    return Change(
        endpoints=(wanted,),
        variants=retired(fleet, after, now_s),
        rollouts=(after,),
        notes=notes,
        deliveries=told,
        forgotten=(rollout.spec.id,) if state.status is Status.ENDED else (),
    )


def retired(fleet: Fleet, rollout: Rollout, now_s: float) -> tuple[Variant, ...]:
    """Return the variants whose time to go is set anew by a rollout's end."""
    leaving = retirements(rollout, now_s)
    return tuple(
        replace(variant, retire_at_s=leaving[variant.handle, variant.version])
        for variant in fleet.variants_of(rollout.spec.handle)
        if (variant.handle, variant.version) in leaving
    )


def _live_already(spec: RolloutSpec, stable: int | None, state: RolloutState, now_s: float) -> RolloutState:
    """Return the end of a rollout whose candidate went live while it waited. An experiment has lost its control."""
    told = f"version {stable} is live already"
    if len(spec.versions) == 1:
        return replace(_over(state, Outcome.PROMOTED, told, now_s), winner=stable)
    reason = f"{told}, so nothing could be compared with it; ask for the others alone"
    return _over(state, Outcome.ABORTED, reason, now_s)


def lineage_of(fleet: Fleet, handle: str, *versions: int | None) -> dict[str, Any]:
    """Return what versions of a handle were made of, by version, as far as it was said when they were deployed."""
    mine = [each for each in fleet.variants_of(handle) if each.version in versions]
    return {str(each.version): each.spec["lineage"] for each in mine if each.spec.get("lineage")}


def _plain(split: Split | None) -> dict[str, Any] | None:
    return split.to_json() if split else None


def _over(state: RolloutState, outcome: Outcome, reason: str, now_s: float) -> RolloutState:
    return replace(state, status=Status.ENDED, outcome=outcome, ended_at_s=now_s, reason=reason)


def note_of(now_s: float, handle: str, kind: str, actor: str, reason: str, body: dict[str, Any]) -> Note:
    """Return what the ledger says of a change."""
    return Note(at_s=now_s, handle=handle, kind=kind, actor=actor, reason=reason, body=body)
