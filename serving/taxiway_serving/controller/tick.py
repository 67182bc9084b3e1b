"""The reconciling loop: observe, decide, commit, act. A crash anywhere is a replay.

The decision and its evidence are in the ledger before anything moves; the next tick observes whether it moved. What a
rollout should do is decided in `taxiway_serving.rollout`; what the world should look like then, in `ordering.py`.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from taxiway_serving.answers import Answer
from taxiway_serving.controller.ordering import (
    endpoint_after,
    is_older,
    located,
    may_leave,
    retirements,
    table_of,
)
from taxiway_serving.controller.tally import Tally, concerns, tally
from taxiway_serving.errors import TaxiwayError, TransportError
from taxiway_serving.evidence.source import Attempt, Source
from taxiway_serving.ledger.store import Change, Endpoint, Fleet, Note, Rollout, Store, Variant, Wish
from taxiway_serving.names import VariantId
from taxiway_serving.rollout.machine import Decision, Observation, advance
from taxiway_serving.rollout.state import Status, Verdict
from taxiway_serving.routing.router import Revision, Router
from taxiway_serving.runtimes.runtime import Runtime, VariantSpec, VariantState
from taxiway_serving.split import Split

log = logging.getLogger(__name__)

STOP_GRACE_S = 3.0
"""A variant that is stopped has no request under way; what is long here, the guards of all handles wait for."""
MOST_READS_PER_TICK = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What was seen at one tick.

    Attributes:
        variants: State of every variant that the runtime knows.
        splits: Split read back by handle; a handle that could not be asked is absent, which is unknown, not
            none.
        evidence: YES if the access log was read up to its end.
        attempts: New attempts since the cursor.
        cursor: Where the next read goes on.
    """

    variants: Mapping[VariantId, VariantState] = field(default_factory=dict)
    splits: Mapping[str, Split | None] = field(default_factory=dict)
    evidence: Answer = Answer.UNKNOWN
    attempts: tuple[Attempt, ...] = ()
    cursor: str = ""


class _Trouble:
    """Logs what goes wrong when it begins and when it is over, not at every tick in between."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def tell(self, what: str, error: Exception) -> None:
        if self._told.get(what) != str(error):
            self._told[what] = str(error)
            log.warning("%s: %s; it is tried again at every tick", what, error)

    def clear(self, what: str) -> None:
        if self._told.pop(what, None):
            log.info("%s: well again", what)


class Reconciler:
    """Makes the world follow the store. One thread calls `tick`; others may commit to the store under `lock`."""

    def __init__(
        self,
        *,
        store: Store,
        runtime: Runtime,
        router: Router,
        source: Source,
        clock: Callable[[], float],
        chores: Mapping[str, Callable[[], None]] | None = None,
    ) -> None:
        """Wire the parts; nothing is looked at yet.

        Args:
            store: Desired state and ledger.
            runtime: What runs variants.
            router: What sends them traffic.
            source: Where evidence comes from.
            clock: Seconds since the epoch.
            chores: Housekeeping to do at every tick, by what it is; its trouble stops nothing else.
        """
        self.lock = threading.RLock()
        self.world = World()
        self._store, self._runtime, self._router, self._source = store, runtime, router, source
        self._clock, self._chores = clock, dict(chores or {})
        self._cursor: str | None = None
        self._published: Revision | None = None
        self._noted: dict[str, Split | None] = {}
        self._refused: Revision | None = None
        self._trouble = _Trouble()

    def tick(self) -> None:
        """Look at the world once, decide, store the decision, and act on it."""
        self.world = self._look(self._store.fleet())
        with self.lock:
            now_s = self._clock()
            change = self._decide(self._store.fleet(), now_s)
            if change != Change():
                self._store.commit(change)
            self._cursor = self.world.cursor
            self._noted |= self.world.splits
            fleet = self._store.fleet()
        self._act(fleet)

    # Observe

    def _look(self, fleet: Fleet) -> World:
        attempts, cursor, evidence = self._read(fleet)
        splits: dict[str, Split | None] = {}
        for endpoint in fleet.endpoints:
            try:
                splits[endpoint.handle] = self._router.observed(endpoint.handle)
                self._trouble.clear(f"split of {endpoint.handle}")
            except TransportError as error:
                self._trouble.tell(f"split of {endpoint.handle}", error)
        return World(
            variants=dict(self._runtime.observe()),
            splits=splits,
            evidence=evidence,
            attempts=tuple(attempts),
            cursor=cursor,
        )

    def _read(self, fleet: Fleet) -> tuple[list[Attempt], str, Answer]:
        attempts: list[Attempt] = []
        cursor, evidence = self._cursor or "", Answer.YES
        try:
            cursor = self._begin(fleet) if self._cursor is None else cursor
            for _ in range(MOST_READS_PER_TICK):
                batch = self._source.read(cursor)
                attempts += batch.attempts if fleet.rollouts else ()
                cursor = batch.cursor
                evidence = evidence if batch.is_complete else Answer.UNKNOWN
                if not batch.has_more:
                    self._trouble.clear("evidence")
                    return attempts, cursor, evidence
        except TransportError as error:
            self._trouble.tell("evidence", error)
        return attempts, cursor, Answer.UNKNOWN

    def _begin(self, fleet: Fleet) -> str:
        """Return where a controller that has just started reads on; with no rollout, nobody waits for the past."""
        return fleet.cursor if fleet.rollouts else self._source.end()

    # Decide

    def _decide(self, fleet: Fleet, now_s: float) -> Change:
        endpoints: list[Endpoint] = []
        rollouts: list[Rollout] = []
        notes = self._split_notes(fleet, now_s)
        marks: list[tuple[str, str, bool]] = []
        retiring: dict[tuple[str, int], float | None] = {}
        for rollout in fleet.rollouts:
            counted = self._count(rollout)
            seen = self._observation(fleet, rollout, counted)
            decision = advance(rollout.spec, rollout.plan, rollout.state, seen, now_s)
            marks += [(rollout.spec.id, unit, is_bad) for unit, is_bad in counted.marks]
            if decision.state == rollout.state:
                continue
            after = replace(rollout, state=decision.state)
            before = fleet.endpoint(rollout.spec.handle) or Endpoint(handle=rollout.spec.handle)
            endpoint = endpoint_after(before, after)
            rollouts.append(after)
            endpoints.append(endpoint)
            notes.append(self._decision_note(rollout, seen, decision, endpoint, now_s))
            retiring |= retirements(after, now_s)
        return Change(
            endpoints=tuple(endpoints),
            variants=tuple(self._changed_variants(fleet, retiring, now_s)),
            rollouts=tuple(rollouts),
            notes=tuple(notes),
            marks=tuple(marks),
            forgotten=tuple(each.spec.id for each in rollouts if each.state.status is Status.ENDED),
            cursor=self.world.cursor if rollouts or marks else None,
        )

    def _changed_variants(
        self, fleet: Fleet, retiring: Mapping[tuple[str, int], float | None], now_s: float
    ) -> Iterator[Variant]:
        for before in fleet.variants:
            after = located(before, self.world.variants)
            key = (after.handle, after.version)
            if key in retiring:
                after = replace(after, retire_at_s=retiring[key])
            elif self._may_leave(after, fleet, now_s):
                after = replace(after, wish=Wish.LEAVING)
            if after != before:
                yield after

    def _count(self, rollout: Rollout) -> Tally:
        versions = (rollout.spec.version, rollout.state.stable)
        since_s = rollout.state.started_at_s
        mine = [
            attempt
            for attempt in self.world.attempts
            if attempt.handle == rollout.spec.handle and concerns(attempt, versions=versions, since_s=since_s)
        ]
        known = self._store.marked(rollout.spec.id, sorted({attempt.unit for attempt in mine}))
        return tally(mine, candidate=rollout.spec.version, known=known)

    def _observation(self, fleet: Fleet, rollout: Rollout, counted: Tally) -> Observation:
        handle = rollout.spec.handle
        endpoint = fleet.endpoint(handle)
        wanted = endpoint.split if endpoint else None
        applied = Answer.of(self.world.splits[handle] == wanted if handle in self.world.splits else None)
        candidate = VariantId(handle=handle, version=rollout.spec.version)
        seen = self.world.variants.get(candidate)
        return Observation(
            candidate=self._health(fleet, candidate),
            applied=applied,
            evidence=self.world.evidence,
            interval=counted.counts,
            first_bad_at_s=counted.first_bad_at_s,
            restarts=seen.restarts if seen else 0,
            rejection=self._router.rejection(self._published) if self._published else None,
        )

    def _health(self, fleet: Fleet, variant: VariantId) -> Answer:
        state = self.world.variants.get(variant)
        wanted = fleet.variant(variant.handle, variant.version)
        if state is not None and state.phase == "failed" and not (wanted and is_older(state, wanted)):
            return Answer.NO
        if state is None or state.phase != "ready":
            return Answer.UNKNOWN
        return Answer.YES if self._router.warm(variant) is Answer.YES else Answer.UNKNOWN

    def _split_notes(self, fleet: Fleet, now_s: float) -> list[Note]:
        notes = []
        for endpoint in fleet.endpoints:
            handle = endpoint.handle
            if handle not in self.world.splits or self._noted.get(handle) == self.world.splits[handle]:
                continue
            seen = self.world.splits[handle]
            body = {"observed": seen.to_json() if seen else None}
            notes.append(
                Note(
                    at_s=now_s, handle=handle, kind="split", actor="controller", reason="read back", body=body
                )
            )
        return notes

    def _decision_note(
        self, rollout: Rollout, seen: Observation, decision: Decision, endpoint: Endpoint, now_s: float
    ) -> Note:
        body: dict[str, Any] = {
            "rollout": rollout.spec.id,
            "version": rollout.spec.version,
            "verdict": decision.verdict.value,
            "step": decision.state.step,
            "look": seen.to_json(),
        }
        if decision.verdict is not Verdict.HOLD:
            observed = self.world.splits.get(rollout.spec.handle)
            body |= {
                "split": endpoint.split.to_json() if endpoint.split else None,
                "observed": observed.to_json() if observed else None,
                "evidence": [reading.to_json() for reading in decision.readings],
            }
        return Note(
            at_s=now_s,
            handle=rollout.spec.handle,
            kind="decision",
            actor="controller",
            reason=decision.reason,
            body=body,
        )

    def _may_leave(self, variant: Variant, fleet: Fleet, now_s: float) -> bool:
        if variant.handle not in self.world.splits or variant.retire_at_s is None:
            return False
        drained = self._router.drained(VariantId(handle=variant.handle, version=variant.version))
        observed = self.world.splits[variant.handle]
        return may_leave(variant, fleet, now_s=now_s, observed=observed, drained=drained)

    # Act

    def _act(self, fleet: Fleet) -> None:
        for variant in fleet.variants:
            if variant.wish is Wish.RUNNING:
                self._guarded(f"start of {variant.handle}/{variant.version}", partial(self._ensure, variant))
        self._guarded("routing table", partial(self._publish, fleet))
        # One at a time: while a process is waited for, no guard looks.
        for variant in [each for each in fleet.variants if each.wish is Wish.LEAVING][:1]:
            self._guarded(f"stop of {variant.handle}/{variant.version}", partial(self._stop, variant, fleet))
        for what, chore in self._chores.items():
            self._guarded(what, chore)

    def _guarded(self, what: str, action: Callable[[], None]) -> None:
        """Keep one endpoint's trouble from stopping the others'; the next tick tries again."""
        try:
            action()
        except (TaxiwayError, OSError) as error:
            self._trouble.tell(what, error)
        else:
            self._trouble.clear(what)

    def _ensure(self, variant: Variant) -> None:
        name = VariantId(handle=variant.handle, version=variant.version)
        seen = self.world.variants.get(name)
        if seen is not None and seen.phase == "failed" and is_older(seen, variant):
            # Asked for once more: what failed before, and may still run, gives way to a fresh start.
            self._runtime.stop(name, grace_s=STOP_GRACE_S)
        self._runtime.ensure(VariantSpec.from_json(variant.spec))

    def _publish(self, fleet: Fleet) -> None:
        table = table_of(fleet, self.world.variants)
        revision = table.revision()
        if revision == self._published and self._router.applied(revision) is not Answer.NO:
            return
        is_live = any(endpoint.split for endpoint in fleet.endpoints)
        if not table.routes and (is_live or not fleet.endpoints):
            # A store that knows no endpoint says nothing about what the gateway should forget.
            return
        self._published = self._router.publish(table, allow_empty=not is_live)
        rejection = self._router.rejection(self._published)
        if rejection and self._refused != revision:
            self._refused = revision
            log.error("the gateway refused table %s and keeps the one before: %s", revision, rejection)

    def _stop(self, variant: Variant, fleet: Fleet) -> None:
        wanted = table_of(fleet, self.world.variants).revision()
        if self._router.applied(wanted) is not Answer.YES:
            return
        self._runtime.stop(VariantId(handle=variant.handle, version=variant.version), grace_s=STOP_GRACE_S)
        note = Note(
            at_s=self._clock(),
            handle=variant.handle,
            kind="stopped",
            actor="controller",
            reason="no traffic, and its time to stay warm is over",
            body={"version": variant.version},
        )
        with self.lock:
            current = self._store.fleet().variant(variant.handle, variant.version)
            if current and current.wish is Wish.LEAVING:
                gone = replace(current, wish=Wish.STOPPED, host="", port=0)
                self._store.commit(Change(variants=(gone,), notes=(note,)))
