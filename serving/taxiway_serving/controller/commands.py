"""What callers may ask of the controller: deploy, roll out, promote, abort, pause, resume, undo.

A command only changes the desired state, in one durable commit; the next tick carries it out. Each is idempotent:
asked twice, it is done once.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import RLock

from taxiway_serving.controller.changes import awake, begun, changed, merged, queued
from taxiway_serving.controller.deploying import deployed, let_go
from taxiway_serving.controller.past import undo_target
from taxiway_serving.controller.refusals import (
    check_candidates,
    check_files,
    check_group,
    check_members,
    check_policy,
    check_routes,
)
from taxiway_serving.controller.repeats import next_name, same, same_undo
from taxiway_serving.errors import ConflictError, NotFoundError
from taxiway_serving.ledger.store import Change, Endpoint, Fleet, Rollout, Store
from taxiway_serving.rollout.machine import begin
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import Outcome, RolloutState, Status
from taxiway_serving.rollout.verbs import abandoned, act
from taxiway_serving.runtimes.runtime import VariantSpec
from taxiway_serving.settings import MOST_ROLLOUTS, ROLLBACK_WINDOW
from taxiway_serving.strategies import plan

RETRY = "retry"
GIVEN_UP = (Outcome.ABORTED, Outcome.SUPERSEDED, Outcome.ROLLED_BACK)
MOST_SAID = 20
"""So many of the latest commands of a rollout are remembered by their name."""


def _nothing() -> None:
    """Do nothing."""


class Commands:
    """The controller's verbs. Safe to call from several threads."""

    def __init__(
        self,
        *,
        store: Store,
        lock: RLock,
        home: Path,
        clock: Callable[[], float],
        most_rollouts: int = MOST_ROLLOUTS,
        rollback_window: int = ROLLBACK_WINDOW,
        unmirrored: Sequence[str] = (),
        settle: Callable[[], None] = _nothing,
    ) -> None:
        """Wire the parts; nothing is changed yet.

        Args:
            store: Desired state and ledger.
            lock: Held by whoever changes them.
            home: Folder that variants may be run from.
            clock: Seconds since the epoch.
            most_rollouts: Rollouts that run at once; more wait for their turn.
            rollback_window: So many versions that were live before may be gone back to at once.
            unmirrored: Envoys that cannot mirror: with any, no shadow can end well, and none begins.
            settle: Stores what was seen of rollouts before a command changes them.
        """
        self._store, self._lock, self._home, self._clock = store, lock, home, clock
        self._most_rollouts, self._settle = most_rollouts, settle
        self._rollback_window, self._unmirrored = rollback_window, unmirrored

    def deploy(self, spec: VariantSpec, *, actor: str) -> None:
        """Want a variant to run. It takes no live traffic until a rollout gives it some.

        Raises:
            InvalidSpecError: If it names files outside the controller's home, or files that do not exist.
            ConflictError: If that version is live, was live last or is being rolled out, with another content: a
                version is never ambiguous.
        """
        check_files(spec, self._home)
        with self._lock:
            self._store.commit(deployed(spec, self._store.fleet(), actor, self._clock()))

    def retire(self, handle: str, version: int, *, actor: str) -> None:
        """Want a variant to go, as soon as it has no traffic.

        Raises:
            NotFoundError: If there is no such variant.
            ConflictError: If it is live, or a rollout needs it.
        """
        with self._lock:
            self._store.commit(let_go(handle, version, self._store.fleet(), actor, self._clock()))

    def start(self, spec: RolloutSpec, *, retry_of: str = "") -> Rollout:
        """Begin a rollout, or return the one that has this id.

        While another runs on the handle, `spec.on_running` says what becomes of the two.

        Args:
            spec: What is asked for.
            retry_of: Id of the rollout that it is asked for again; "" for a new one.

        Raises:
            NotFoundError: If one of its versions was never deployed.
            ConflictError: If the id names another rollout, another one is running and it is to be rejected, or its
                group's name was used before.
            InvalidSpecError: If its strategy's options have faults.
        """
        with self._lock:
            self._settle()
            known = self._store.rollout(spec.id)
            if known:
                return same(known, spec)
            fleet = self._store.fleet()
            self._store.commit(self._asked(spec, fleet, retry_of=retry_of))
            return self._begun(spec, fleet)

    def start_group(self, specs: Sequence[RolloutSpec]) -> tuple[Rollout, ...]:
        """Begin the rollouts of a group, all of them or none; those that have begun already are returned as they are.

        Raises:
            InvalidSpecError: If they are not the members of one group, each once; with every other fault of `start`.
        """
        check_members(specs)
        with self._lock:
            self._settle()
            known = {spec.id: self._store.rollout(spec.id) for spec in specs}
            for spec in specs:
                if found := known[spec.id]:
                    same(found, spec)
            fleet = self._store.fleet()
            self._store.commit(merged([self._asked(spec, fleet) for spec in specs if not known[spec.id]]))
            return tuple(known[spec.id] or self._begun(spec, fleet) for spec in specs)

    def _asked(self, spec: RolloutSpec, fleet: Fleet, *, retry_of: str = "") -> Change:
        """Return what asking for a rollout changes, once nothing speaks against it."""
        now_s = self._clock()
        endpoint = _deployed(fleet, spec)
        check_candidates(spec, endpoint)
        check_group(spec, self._store.group(spec.group.name) if spec.group else ())
        steps = plan(spec, endpoint.stable)
        check_routes(spec, steps, self._unmirrored)
        others = [each for each in fleet.rollouts if each.spec.handle == spec.handle]
        if spec.strategy == "undo":
            self._undo_target(endpoint, spec.version, None)
        else:
            is_first = endpoint.stable is None and not others
            check_policy(spec, plan(spec, endpoint.stable or 0), _candidates(spec, fleet), is_first=is_first)
        if others and spec.on_running == "reject":
            running = others[0].spec
            next_step = f"wait for rollout {running.id} of version {running.version}, or abort it"
            raise ConflictError(spec.handle, "a rollout is running", next_step)
        waiting = begin(stable=endpoint.stable, now_s=now_s, is_queued=True)
        leaving = [self._superseded(each, spec, now_s) for each in others if spec.on_running == "supersede"]
        rollout = Rollout(spec=spec, plan=steps, state=waiting)
        return merged([*leaving, queued(rollout, fleet, now_s, retry_of=retry_of)])

    def _undo_target(self, endpoint: Endpoint, version: int | None, at_s: float | None) -> int:
        """Return the version to go back to: one that was live of late, and so needs no policy's leave."""
        return undo_target(
            endpoint,
            self._store.lived(endpoint.handle),
            version=version,
            at_s=at_s,
            now_s=self._clock(),
            window=self._rollback_window,
        )

    def _superseded(self, rollout: Rollout, by: RolloutSpec, now_s: float) -> Change:
        """Give a rollout up for a newer one. One that is on its way back already goes on with that."""
        reason = f"superseded by {by.id} of version {by.version}"
        if rollout.state.status is Status.ROLLING_BACK:
            return Change()
        state = abandoned(rollout.state, Outcome.SUPERSEDED, reason, now_s)
        return changed(rollout, state, self._store.fleet(), "superseded", by.actor, now_s)

    def _begun(self, spec: RolloutSpec, before: Fleet) -> Rollout:
        """Begin at once where nothing was in the way, so that the caller sees it; else a tick begins it in its turn."""
        fleet = self._store.fleet()
        rollout = next(each for each in fleet.queued if each.spec.id == spec.id)
        if any(each.spec.handle == spec.handle for each in before.rollouts):
            return rollout
        change = begun(rollout, fleet, self._clock(), most=self._most_rollouts)
        self._store.commit(change)
        return change.rollouts[0] if change.rollouts else rollout

    def act(
        self,
        handle: str,
        rollout_id: str,
        verb: str,
        *,
        actor: str,
        version: int | None = None,
        step: int | None = None,
        command_id: str = "",
    ) -> Rollout:
        """Do one of the verbs to a rollout; a no-op where there is nothing to do.

        Args:
            handle: Endpoint.
            rollout_id: The rollout.
            verb: One of `verbs.VERBS`, or `retry`: ask again for one that was aborted, superseded or rolled back.
            actor: Who says so.
            version: The candidate that is meant.
            step: The step that is meant: once the rollout is at another one, nothing is done, so that a `promote`
                that is sent twice is done once. None means whichever it is at.
            command_id: The caller's name for this command: one that is sent twice is done once. "" has none.

        Raises:
            NotFoundError: If the handle has no such rollout, or the version to add was never deployed.
            InvalidSpecError: If there is no such verb.
        """
        with self._lock:
            self._settle()
            now_s, fleet = self._clock(), self._store.fleet()
            rollout = self._known(handle, rollout_id)
            if verb == RETRY:
                return self._retried(rollout, actor)
            if command_id in rollout.state.said or step not in (None, rollout.state.step):
                return rollout
            if verb == "add" and version is not None and fleet.variant(handle, version) is None:
                raise NotFoundError("variant", f"{handle}/{version}", "deploy it before it joins")
            state = act(
                rollout.spec, rollout.plan, rollout.state, verb, actor=actor, now_s=now_s, version=version
            )
            is_idle = state == rollout.state
            if is_idle and (not command_id or state.status is Status.ENDED):
                return rollout
            state = _remembered(state, command_id)
            joining = awake(fleet, handle, (version,), now_s) if verb == "add" and version else ()
            reason = f"{verb}: nothing to do" if is_idle else ""
            change = changed(rollout, state, fleet, verb, actor, now_s, reason=reason)
            self._store.commit(merged([change, Change(variants=joining)]))
            return replace(rollout, state=state)

    def _known(self, handle: str, rollout_id: str) -> Rollout:
        rollout = self._store.rollout(rollout_id)
        if rollout is None or rollout.spec.handle != handle:
            raise NotFoundError("rollout", rollout_id, f"see the rollouts of {handle}")
        return rollout

    def _retried(self, rollout: Rollout, actor: str) -> Rollout:
        """Ask once more for a rollout that was given up, under the next name; a retry that was asked for is found."""
        if rollout.state.outcome not in GIVEN_UP:
            return rollout
        spec = rollout.spec
        group = replace(spec.group, name=next_name(spec.group.name)) if spec.group else None
        again = replace(spec, id=next_name(spec.id), actor=actor, group=group)
        return self.start(again, retry_of=spec.id)

    def undo(
        self,
        handle: str,
        *,
        actor: str,
        rollout_id: str | None = None,
        version: int | None = None,
        at_s: float | None = None,
    ) -> Rollout:
        """Go back to a version that was live before, by a rollout of one step.

        Args:
            handle: Endpoint.
            actor: Who says so.
            rollout_id: The caller's name for this undo: asking twice with one id is asking once. None makes one up.
            version: Which version; None is the one before.
            at_s: The version that was live at this time instead, in seconds since the epoch.

        Raises:
            NotFoundError: If the handle has no earlier version, or had none live then.
            InvalidSpecError: If both a version and a time are given, or a time to come.
            ConflictError: If a rollout is running: abort that one. Also if the version has not been live lately, and
                has to prove itself anew.
        """
        with self._lock:
            known = self._store.rollout(rollout_id) if rollout_id else None
            if known:
                return same_undo(known, handle, version)
            endpoint = self._store.fleet().endpoint(handle) or Endpoint(handle=handle)
            target = self._undo_target(endpoint, version, at_s)
            spec = RolloutSpec(
                id=rollout_id or f"undo-{uuid.uuid4()}",
                handle=handle,
                version=target,
                strategy="undo",
                actor=actor,
                shield=endpoint.shield,
            )
            return self.start(spec)


def _deployed(fleet: Fleet, spec: RolloutSpec) -> Endpoint:
    endpoint = fleet.endpoint(spec.handle)
    for version in spec.versions:
        if endpoint is None or fleet.variant(spec.handle, version) is None:
            raise NotFoundError("variant", f"{spec.handle}/{version}", "deploy it before its rollout")
    return endpoint or Endpoint(handle=spec.handle)


def _candidates(spec: RolloutSpec, fleet: Fleet) -> list[VariantSpec]:
    found = (fleet.variant(spec.handle, version) for version in spec.versions)
    return [VariantSpec.from_json(variant.spec) for variant in found if variant]


def _remembered(state: RolloutState, command_id: str) -> RolloutState:
    """Return the state with a command's name, of one that had nothing to do too: it is not to be done later instead."""
    return replace(state, said=(*state.said, command_id)[-MOST_SAID:]) if command_id else state
