"""The reconciling loop: observe, decide, commit, act. A crash anywhere is a replay.

The decision and its evidence are in the ledger before anything moves; the next tick observes whether it moved. What is
seen is in `looking.py`, what is decided in `deciding.py`; what the world should look like then, in `ordering.py`.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from taxiway_serving.answers import Answer
from taxiway_serving.controller.deciding import Decider
from taxiway_serving.controller.holding import NOTHING_HELD, held_back
from taxiway_serving.controller.looking import Lookout, Trouble, World
from taxiway_serving.controller.ordering import TableMaker, is_older
from taxiway_serving.controller.scaling import sized
from taxiway_serving.controller.senses import NoSenses, Senses
from taxiway_serving.errors import TaxiwayError
from taxiway_serving.evidence.source import Source
from taxiway_serving.ledger.store import Change, Fleet, Note, Store, Variant, Wish
from taxiway_serving.names import VariantId
from taxiway_serving.routing.router import Revision, Router, always_may
from taxiway_serving.runtimes.runtime import Runtime, VariantSpec
from taxiway_serving.settings import MOST_ROLLOUTS
from taxiway_serving.split import Split

log = logging.getLogger(__name__)

STOP_GRACE_S = 3.0
"""A variant that is stopped has no request under way; what is long here, the guards of all handles wait for."""


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
        senses: Senses | None = None,
        mirror_to: tuple[str, int] | None = None,
        most_rollouts: int = MOST_ROLLOUTS,
        chores: Mapping[str, Callable[[], None]] | None = None,
        may_act: Callable[[], None] = always_may,
    ) -> None:
        """Wire the parts; nothing is looked at yet.

        Args:
            store: Desired state and ledger.
            runtime: What runs variants.
            router: What sends them traffic.
            source: Where evidence comes from.
            clock: Seconds since the epoch.
            senses: What rollouts are judged by beside the access log; None has nothing else.
            mirror_to: Host and port of the comparator; None where there is none.
            most_rollouts: Rollouts that run at once; more wait for their turn.
            chores: Housekeeping to do at every tick, by what it is; its trouble stops nothing else.
            may_act: Called before anything is done to the world; raises if another controller leads.
        """
        self.lock = threading.RLock()
        self.world = World()
        self._store, self._runtime, self._router = store, runtime, router
        self._clock, self._chores, self._may_act = clock, dict(chores or {}), may_act
        self._senses, self._tables = senses or NoSenses(), TableMaker(mirror_to)
        self._trouble = Trouble()
        self._lookout = Lookout(runtime=runtime, router=router, source=source, trouble=self._trouble)
        self._decider = Decider(store=store, router=router, senses=self._senses, most_rollouts=most_rollouts)
        self._published: Revision | None = None
        self._noted: dict[str, Split | None] = {}
        self._refused: Revision | None = None
        self._held = NOTHING_HELD
        self._sized: dict[VariantId, tuple[Variant, VariantSpec]] = {}

    def tick(self) -> None:
        """Look at the world once, decide, store the decision, and act on it."""
        fleet = self._store.fleet()
        self.world = self._lookout.look(fleet)
        self._senses.take(self.world, self._clock())
        with self.lock:
            now_s = self._clock()
            fleet = self._store.fleet()
            world = self._held.joined(self.world)
            wanted = self._tables.table(fleet, world.variants)
            decided = self._decider.decide(fleet, world, now_s, published=self._published, wanted=wanted)
            change, held = held_back(self._held, decided, world, now_s)
            change = replace(change, notes=(*self._split_notes(fleet, now_s), *change.notes))
            if change != Change():
                self._store.commit(change)
                fleet = self._store.fleet()
            self._held = held
            self._lookout.seen(self.world)
            self._noted |= self.world.splits
        self._act(fleet)

    def settle(self) -> None:
        """Store what was seen of rollouts that wait, before somebody changes them."""
        with self.lock:
            if self._held.change != Change():
                self._store.commit(self._held.change)
            self._held = NOTHING_HELD

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

    # Act

    def _act(self, fleet: Fleet) -> None:
        for variant in fleet.variants:
            if variant.wish is Wish.RUNNING:
                self._guarded(f"start of {variant.handle}/{variant.version}", partial(self._ensure, variant))
        self._guarded("routing table", partial(self._publish, fleet))
        # One at a time: while a process is waited for, no guard looks.
        for variant in [each for each in fleet.variants if each.wish is Wish.LEAVING][:1]:
            self._guarded(f"stop of {variant.handle}/{variant.version}", partial(self._stop, variant, fleet))
        self._guarded("shadow comparisons", partial(self._senses.follow, fleet, self.world))
        for what, chore in self._chores.items():
            self._guarded(what, chore)

    def _guarded(self, what: str, action: Callable[[], None]) -> None:
        """Keep one endpoint's trouble from stopping the others'; the next tick tries again."""
        try:
            self._may_act()
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
        known = self._sized.get(name)
        if known is None or known[0] is not variant:
            known = self._sized[name] = (variant, sized(variant))
        self._runtime.ensure(known[1])

    def _publish(self, fleet: Fleet) -> None:
        table = self._tables.table(fleet, self.world.variants, on_fault=self._trouble.tell)
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
        wanted = self._tables.table(fleet, self.world.variants).revision()
        if self._router.applied(wanted) is not Answer.YES:
            return
        # To ask every gateway takes a while; by now it may be wanted again.
        self._may_act()
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
