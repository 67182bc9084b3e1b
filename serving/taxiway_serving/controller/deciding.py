"""From one look at the world to one change: every rollout's decision, the queue's next, what may leave.

Pure but for what it reads from the store: the same look at the same store gives the same change.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from taxiway_serving.answers import Answer
from taxiway_serving.controller.changes import UNUSED_S, begun, lineage_of, merged, retired
from taxiway_serving.controller.events import deliveries_of, failure_of
from taxiway_serving.controller.looking import World
from taxiway_serving.controller.ordering import (
    endpoint_after,
    is_forgotten,
    is_older,
    located,
    may_leave,
)
from taxiway_serving.controller.senses import Sensed, Senses
from taxiway_serving.controller.tally import Tally, concerns, tally
from taxiway_serving.evidence.source import Attempt
from taxiway_serving.ledger.store import Change, Endpoint, Fleet, Note, Rollout, Store, Variant, Wish
from taxiway_serving.names import VariantId
from taxiway_serving.rollout.judges import candidates_of
from taxiway_serving.rollout.machine import Decision, advance
from taxiway_serving.rollout.observation import GroupSeen, Observation
from taxiway_serving.rollout.state import PROMOTIONS, Outcome, RolloutState, Status, Verdict
from taxiway_serving.routing.router import Revision, Router, Table

GIVEN_UP = (Outcome.ABORTED, Outcome.ROLLED_BACK, Outcome.SUPERSEDED)
WELL = (*PROMOTIONS, Outcome.COMPLETED)
MOST_BEGUN = 25
"""Rollouts that begin at one look: what takes long here, the guards of all handles wait for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One rollout at one look."""

    before: Rollout
    seen: Observation
    tally: Tally
    decision: Decision

    @property
    def has_changed(self) -> bool:
        """Whether there is anything to remember of this look."""
        return self.decision.state != self.before.state


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What one look leads to.

    Attributes:
        judged: Every rollout that runs.
        looks: What was learned of them, with how far the log was read.
        rest: What else changes: variants that come and go, rollouts whose turn it is.
    """

    judged: tuple[Judged, ...]
    looks: Change
    rest: Change

    @property
    def whole(self) -> Change:
        """All of it."""
        return merged([self.looks, self.rest])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """One look at the world, with its attempts by handle, and the table that was wanted then."""

    world: World
    attempts: Mapping[str, Sequence[Attempt]]
    wanted: Table


def _by_handle(attempts: Iterable[Attempt]) -> dict[str, list[Attempt]]:
    found: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        found.setdefault(attempt.handle, []).append(attempt)
    return found


class Decider:
    """Decides about the whole fleet. One thread calls it, under the controller's lock."""

    def __init__(self, *, store: Store, router: Router, senses: Senses, most_rollouts: int) -> None:
        self._store, self._router, self._senses = store, router, senses
        self._most_rollouts = most_rollouts

    def decide(
        self,
        fleet: Fleet,
        world: World,
        now_s: float,
        *,
        published: Revision | None,
        wanted: Table,
    ) -> Decided:
        """Return everything that this look changes.

        Args:
            fleet: The desired state.
            world: What was seen.
            now_s: Seconds since the epoch.
            published: Revision of the table that was asked for last.
            wanted: The table that the desired state asks for now.
        """
        seen = _Seen(world=world, attempts=_by_handle(world.attempts), wanted=wanted)
        rejection = self._router.rejection(published) if published else None
        judged = [self._judged(fleet, seen, each, now_s, rejection) for each in fleet.running]
        judged = [self._together(each, judged, now_s) for each in judged]
        changes = [self._change(fleet, world, each, now_s) for each in judged]
        news = [each for each in judged if each.has_changed or each.tally.marks]
        retiring = {(v.handle, v.version): v.retire_at_s for change in changes for v in change.variants}
        variants = tuple(self._variants(fleet, world, retiring, now_s))
        failures = [_failure(fleet, world, variant, now_s) for variant in variants]
        cursor = world.cursor if news or world.attempts else None
        rest = [replace(change, variants=()) for change in changes]
        return Decided(
            judged=tuple(judged),
            looks=merged([*rest, Change(cursor=cursor)]),
            rest=merged([Change(variants=variants), *failures, *self._next_turns(fleet, now_s)]),
        )

    def _next_turns(self, fleet: Fleet, now_s: float) -> Iterator[Change]:
        """Begin what waits, first come, first served, as far as there is room, and some at each look."""
        left = MOST_BEGUN
        for waiting in fleet.queued:
            if not left:
                return
            change = begun(waiting, fleet, now_s, most=self._most_rollouts)
            if change.rollouts:
                others = [each for each in fleet.rollouts if each.spec.id != waiting.spec.id]
                fleet = replace(fleet, rollouts=(*others, *change.rollouts))
                left -= 1
                yield change

    def _judged(
        self,
        fleet: Fleet,
        looked: "_Seen",
        rollout: Rollout,
        now_s: float,
        rejection: str | None,
    ) -> Judged:
        world = looked.world
        counted = self._count(looked.attempts.get(rollout.spec.handle, ()), rollout)
        route = looked.wanted.route(rollout.spec.handle)
        seen = self._observation(fleet, world, rollout, counted, self._senses.sense(rollout, fleet, now_s))
        seen = replace(
            seen,
            applied=_applied(fleet, world, rollout.spec.handle, route.side_routes if route else None),
            group=self._group(rollout),
            rejection=rejection,
        )
        decision = advance(rollout.spec, rollout.plan, rollout.state, seen, now_s)
        return Judged(before=rollout, seen=seen, tally=counted, decision=decision)

    def _count(self, attempts: Sequence[Attempt], rollout: Rollout) -> Tally:
        mine = [attempt for attempt in attempts if concerns(attempt, rollout.spec, rollout.state)]
        known = (
            self._store.marked(rollout.spec.id, sorted({attempt.unit for attempt in mine})) if mine else {}
        )
        return tally(mine, rollout.spec, rollout.state, known)

    def _observation(
        self, fleet: Fleet, world: World, rollout: Rollout, counted: Tally, sensed: Sensed
    ) -> Observation:
        handle = rollout.spec.handle
        versions = candidates_of(rollout.spec, rollout.state)
        states = {
            version: world.variants.get(VariantId(handle=handle, version=version)) for version in versions
        }
        return Observation(
            candidates={version: self._health(fleet, world, handle, version) for version in versions},
            applied=Answer.UNKNOWN,
            evidence=world.evidence,
            counts=counted.counts,
            values=sensed.values,
            measured=sensed.measured,
            assigned=counted.assigned,
            rewards=sensed.rewards,
            compared=sensed.compared,
            verified=sensed.verified,
            unverified=sensed.unverified,
            restarts={version: state.restarts for version, state in states.items() if state},
            baseline_ms=sensed.baseline_ms,
            first_bad_at_s=counted.first_bad_at_s,
            cursors=sensed.cursors,
        )

    def _health(self, fleet: Fleet, world: World, handle: str, version: int) -> Answer:
        name = VariantId(handle=handle, version=version)
        state, wanted = world.variants.get(name), fleet.variant(handle, version)
        if state is not None and state.phase == "failed" and not (wanted and is_older(state, wanted)):
            return Answer.NO
        if state is None or state.phase != "ready":
            return Answer.UNKNOWN
        return Answer.YES if self._router.warm(name) is Answer.YES else Answer.UNKNOWN

    # Groups are promoted together or not at all

    def _group(self, rollout: Rollout) -> GroupSeen | None:
        group = rollout.spec.group
        if group is None:
            return None
        members = {each.spec.handle: each.state for each in self._store.group(group.name)}
        failed = next(
            (f"{handle}: {state.reason}" for handle, state in members.items() if state.outcome in GIVEN_UP),
            "",
        )
        # A member that is not ready waits for itself too, so that all see all ready before any ends.
        waits_for = [
            handle for handle in group.handles if handle not in members or not _is_done(members[handle])
        ]
        return GroupSeen(waits_for=tuple(waits_for), failed=failed)

    def _together(self, mine: Judged, judged: Sequence[Judged], now_s: float) -> Judged:
        """Judge a member anew if another one of its group fails at this very look, or does not end with it."""
        group, seen = mine.before.spec.group, mine.seen.group
        if group is None or seen is None or seen.failed:
            return mine
        others = [each for each in judged if each is not mine and each.before.spec.group == group]
        failing = next((each for each in others if each.decision.state.outcome in GIVEN_UP), None)
        late = [each.before.spec.handle for each in others if each.decision.state.outcome not in WELL]
        if failing is not None:
            seen = replace(seen, failed=f"{failing.before.spec.handle}: {failing.decision.reason}")
        elif mine.decision.state.outcome in WELL and late:
            seen = replace(seen, waits_for=tuple(late))
        else:
            return mine
        looked, rollout = replace(mine.seen, group=seen), mine.before
        decision = advance(rollout.spec, rollout.plan, rollout.state, looked, now_s)
        return replace(mine, seen=looked, decision=decision)

    # What follows

    def _change(self, fleet: Fleet, world: World, judged: Judged, now_s: float) -> Change:
        spec = judged.before.spec
        marks = tuple((spec.id, *mark) for mark in judged.tally.marks)
        if not judged.has_changed:
            return Change(marks=marks)
        after = replace(judged.before, state=judged.decision.state)
        before = fleet.endpoint(spec.handle) or Endpoint(handle=spec.handle)
        endpoint = self._closed(endpoint_after(before, after), after, judged.tally)
        notes = [_decision_note(world, judged, before, endpoint, now_s)]
        if endpoint.stable != before.stable:
            notes.append(_live_note(endpoint, fleet, spec.actor, now_s))
        return Change(
            endpoints=(endpoint,) if endpoint != before else (),
            variants=retired(fleet, after, now_s),
            rollouts=(after,),
            notes=tuple(notes),
            marks=marks,
            forgotten=(spec.id,) if after.state.status is Status.ENDED else (),
            deliveries=deliveries_of(
                judged.before, after, now_s, verdict=judged.decision.verdict, seen=judged.seen
            ),
        )

    def _closed(self, endpoint: Endpoint, rollout: Rollout, counted: Tally) -> Endpoint:
        """Name the units that keep the candidate when its door closes, the ones of this very look included."""
        version = rollout.spec.version
        if not rollout.state.is_closed or version in endpoint.closed:
            return endpoint
        units = {*self._store.met(rollout.spec.id, version)}
        units |= {unit for unit, met, _ in counted.marks if met == version}
        return replace(endpoint, closed={version: tuple(sorted(units))})

    def _variants(
        self, fleet: Fleet, world: World, retiring: Mapping[tuple[str, int], float | None], now_s: float
    ) -> Iterator[Variant]:
        for before in fleet.variants:
            after = _observed(located(before, world.variants), world, now_s)
            key = (after.handle, after.version)
            if key in retiring:
                after = replace(after, retire_at_s=retiring[key])
            elif is_forgotten(after, fleet):
                after = replace(after, retire_at_s=now_s + UNUSED_S)
            elif self._may_leave(after, fleet, world, now_s):
                after = replace(after, wish=Wish.LEAVING)
            if after != before:
                yield after

    def _may_leave(self, variant: Variant, fleet: Fleet, world: World, now_s: float) -> bool:
        is_due = variant.retire_at_s is not None and now_s >= variant.retire_at_s
        if not is_due or variant.wish is not Wish.RUNNING or variant.handle not in world.splits:
            return False
        drained = self._router.drained(VariantId(handle=variant.handle, version=variant.version))
        observed = world.splits[variant.handle]
        return may_leave(variant, fleet, now_s=now_s, observed=observed, drained=drained)


def _observed(variant: Variant, world: World, now_s: float) -> Variant:
    """Return the variant with whether it was ready, and has failed, since it was asked for."""
    seen = world.variants.get(VariantId(handle=variant.handle, version=variant.version))
    if seen is None or is_older(seen, variant):
        return variant
    if seen.phase == "ready":
        first_s = now_s if variant.ready_at_s is None else variant.ready_at_s
        return replace(variant, ready_at_s=first_s, failed_at_s=None)
    if seen.phase != "failed" or variant.failed_at_s is not None:
        return variant
    return replace(variant, failed_at_s=now_s)


def _failure(fleet: Fleet, world: World, after: Variant, now_s: float) -> Change:
    """Return what a variant's failure at this look leaves behind.

    A rollout tells of its candidates itself; of one that was ready and is not live, nobody needs to be told.
    """
    before = fleet.variant(after.handle, after.version)
    if after.failed_at_s is None or (before is not None and before.failed_at_s is not None):
        return Change()
    seen = world.variants[VariantId(handle=after.handle, version=after.version)]
    endpoint, rollout = fleet.endpoint(after.handle), fleet.active(after.handle)
    is_live = endpoint is not None and endpoint.stable == after.version
    is_candidate = rollout is not None and after.version in candidates_of(rollout.spec, rollout.state)
    note = Note(
        at_s=now_s,
        handle=after.handle,
        kind="failed",
        actor="controller",
        reason=seen.reason,
        body={"version": after.version, "is_live": is_live},
    )
    is_news = is_live or (after.ready_at_s is None and not is_candidate)
    told = (failure_of(after, seen.reason, now_s, is_live=is_live),) if is_news else ()
    return Change(notes=(note,), deliveries=told)


def _is_done(member: RolloutState) -> bool:
    """Return whether only its group keeps a member from its end, or nothing does any longer."""
    return member.outcome in WELL or member.is_ready


def _applied(fleet: Fleet, world: World, handle: str, routes: Any) -> Answer:
    endpoint = fleet.endpoint(handle)
    if handle not in world.splits or handle not in world.routes:
        return Answer.UNKNOWN
    is_split = world.splits[handle] == (endpoint.split if endpoint else None)
    is_routed = routes is None or world.routes[handle] == routes
    return Answer.of(is_split and is_routed)


def _decision_note(world: World, judged: Judged, before: Endpoint, endpoint: Endpoint, now_s: float) -> Note:
    spec, decision = judged.before.spec, judged.decision
    body: dict[str, Any] = {
        "rollout": spec.id,
        "version": spec.version,
        "verdict": decision.verdict.value,
        "step": decision.state.step,
        "look": judged.seen.to_json(),
    }
    if decision.verdict is not Verdict.HOLD or endpoint.split != before.split:
        observed = world.splits.get(spec.handle)
        body |= {
            "split": endpoint.split.to_json() if endpoint.split else None,
            "observed": observed.to_json() if observed else None,
            "evidence": [reading.to_json() for reading in decision.readings],
        }
    return Note(
        at_s=now_s,
        handle=spec.handle,
        kind="decision",
        actor="controller",
        reason=decision.reason,
        body=body,
    )


def _live_note(endpoint: Endpoint, fleet: Fleet, actor: str, now_s: float) -> Note:
    made_of = lineage_of(fleet, endpoint.handle, endpoint.stable)
    body = {"stable": endpoint.stable, "before": endpoint.previous, "lineage": made_of}
    reason = f"version {endpoint.stable} is live"
    return Note(at_s=now_s, handle=endpoint.handle, kind="live", actor=actor, reason=reason, body=body)
