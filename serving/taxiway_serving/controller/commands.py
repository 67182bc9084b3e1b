"""What callers may ask of the controller: deploy, roll out, promote, abort, pause, resume, undo.

A command only changes the desired state, in one durable commit; the next tick carries it out. Each is idempotent:
asked twice, it is done once.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Any

from taxiway_serving.controller.changes import MOST_ROLLOUTS, awake, begun, changed, merged, queued
from taxiway_serving.controller.refusals import check_candidates, check_files, check_group, check_routes
from taxiway_serving.errors import ConflictError, InvalidSpecError, NotFoundError
from taxiway_serving.ledger.store import Change, Endpoint, Fleet, Note, Rollout, Store, Variant, Wish
from taxiway_serving.rollout.judges import candidates_of
from taxiway_serving.rollout.machine import begin
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import Outcome, Status
from taxiway_serving.rollout.verbs import abandoned, act
from taxiway_serving.runtimes.runtime import VariantSpec
from taxiway_serving.strategies import plan

ROLLBACK_WINDOW = 3
"""So many versions that were live before may be gone back to at once; an older one is a candidate like any other."""
UNUSED_S = 3600.0
"""A variant that no rollout takes up by then is stopped: its verification failed, or its DAG run was given up."""


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
        settle: Callable[[], None] = _nothing,
    ) -> None:
        """Wire the parts; nothing is changed yet.

        Args:
            store: Desired state and ledger.
            lock: Held by whoever changes them.
            home: Folder that variants may be run from.
            clock: Seconds since the epoch.
            most_rollouts: Rollouts that run at once; more wait for their turn.
            settle: Stores what was seen of rollouts before a command changes them.
        """
        self._store, self._lock, self._home, self._clock = store, lock, home, clock
        self._most_rollouts, self._settle = most_rollouts, settle

    def deploy(self, spec: VariantSpec, *, actor: str) -> None:
        """Want a variant to run. It takes no live traffic until a rollout gives it some.

        Raises:
            InvalidSpecError: If it names files outside the controller's home, or files that do not exist.
            ConflictError: If that version is live, was live last or is being rolled out, with another content: a
                version is never ambiguous.
        """
        check_files(spec, self._home)
        with self._lock:
            fleet, now_s = self._store.fleet(), self._clock()
            known = fleet.variant(spec.handle, spec.version)
            is_same = known is not None and VariantSpec.from_json(known.spec).digest() == spec.digest()
            endpoint = fleet.endpoint(spec.handle) or Endpoint(handle=spec.handle)
            is_needed = _is_needed(spec.version, endpoint, fleet)
            if known and not is_same and is_needed:
                next_step = "register a new model version and deploy that one"
                raise ConflictError(
                    f"{spec.handle}/{spec.version}", "is live with another content", next_step
                )
            runs = known is not None and is_same and known.wish is Wish.RUNNING
            wanted = Variant(
                handle=spec.handle,
                version=spec.version,
                spec=spec.to_json(),
                retire_at_s=None if is_needed else now_s + UNUSED_S,
                host=known.host if known and runs else "",
                port=known.port if known and runs else 0,
                asked_at_s=now_s,
            )
            body = {"version": spec.version, "model": spec.model}
            note = _note(now_s, spec.handle, "deployed", actor, "asked to run", body)
            notes = () if runs else (note,)
            self._store.commit(Change(endpoints=(endpoint,), variants=(wanted,), notes=notes))

    def retire(self, handle: str, version: int, *, actor: str) -> None:
        """Want a variant to go, as soon as it has no traffic.

        Raises:
            NotFoundError: If there is no such variant.
            ConflictError: If it is live, or a rollout needs it.
        """
        with self._lock:
            fleet, now_s = self._store.fleet(), self._clock()
            variant, endpoint = fleet.variant(handle, version), fleet.endpoint(handle)
            if variant is None:
                raise NotFoundError("variant", f"{handle}/{version}")
            is_live = endpoint is not None and endpoint.split is not None and version in endpoint.split.parts
            if is_live or version in _rolled_out(handle, fleet):
                raise ConflictError(
                    f"{handle}/{version}", "has traffic or a rollout", "roll out another version first"
                )
            is_going = variant.retire_at_s is not None and variant.retire_at_s <= now_s
            if is_going or variant.wish is not Wish.RUNNING:
                return
            note = _note(now_s, handle, "retired", actor, "asked to go", {"version": version})
            self._store.commit(Change(variants=(replace(variant, retire_at_s=now_s),), notes=(note,)))

    def start(self, spec: RolloutSpec) -> Rollout:
        """Begin a rollout, or return the one that has this id.

        While another runs on the handle, `spec.on_running` says what becomes of the two.

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
                return _same(known, spec)
            fleet, now_s = self._store.fleet(), self._clock()
            endpoint = _deployed(fleet, spec)
            check_candidates(spec, endpoint)
            check_group(spec, self._store.group(spec.group.name) if spec.group else ())
            steps = plan(spec, endpoint.stable)
            check_routes(spec, steps)
            others = [each for each in fleet.rollouts if each.spec.handle == spec.handle]
            if others and spec.on_running == "reject":
                running = others[0].spec
                next_step = f"wait for rollout {running.id} of version {running.version}, or abort it"
                raise ConflictError(spec.handle, "a rollout is running", next_step)
            rollout = Rollout(
                spec=spec, plan=steps, state=begin(stable=endpoint.stable, now_s=now_s, is_queued=True)
            )
            leaving = [
                self._superseded(each, spec, now_s) for each in others if spec.on_running == "supersede"
            ]
            change = merged([*leaving, queued(rollout, fleet, now_s)])
            self._store.commit(change)
            return rollout if others else self._begun(rollout)

    def _superseded(self, rollout: Rollout, by: RolloutSpec, now_s: float) -> Change:
        """Give a rollout up for a newer one. One that is on its way back already goes on with that."""
        reason = f"superseded by {by.id} of version {by.version}"
        if rollout.state.status is Status.ROLLING_BACK:
            return Change()
        state = abandoned(rollout.state, Outcome.SUPERSEDED, reason, now_s)
        return changed(rollout, state, self._store.fleet(), "superseded", by.actor, now_s)

    def _begun(self, rollout: Rollout) -> Rollout:
        """Begin at once where nothing is in the way, so that the caller sees it; else a tick begins it in its turn."""
        fleet, now_s = self._store.fleet(), self._clock()
        change = begun(rollout, fleet, now_s, most=self._most_rollouts)
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
    ) -> Rollout:
        """Do one of the verbs to a rollout; a no-op where there is nothing to do.

        Args:
            handle: Endpoint.
            rollout_id: The rollout.
            verb: One of `verbs.VERBS`.
            actor: Who says so.
            version: The candidate that is meant.
            step: The step that is meant: once the rollout is at another one, nothing is done, so that a `promote`
                that is sent twice is done once. None means whichever it is at.

        Raises:
            NotFoundError: If the handle has no such rollout, or the version to add was never deployed.
            InvalidSpecError: If there is no such verb.
        """
        with self._lock:
            self._settle()
            now_s, fleet = self._clock(), self._store.fleet()
            rollout = self._store.rollout(rollout_id)
            if rollout is None or rollout.spec.handle != handle:
                raise NotFoundError("rollout", rollout_id, f"see the rollouts of {handle}")
            if step is not None and rollout.state.step != step:
                return rollout
            if verb == "add" and version is not None and fleet.variant(handle, version) is None:
                raise NotFoundError("variant", f"{handle}/{version}", "deploy it before it joins")
            state = act(
                rollout.spec, rollout.plan, rollout.state, verb, actor=actor, now_s=now_s, version=version
            )
            if state == rollout.state:
                return rollout
            joining = awake(fleet, handle, (version,), now_s) if verb == "add" and version else ()
            change = changed(rollout, state, fleet, verb, actor, now_s)
            self._store.commit(merged([change, Change(variants=joining)]))
            return replace(rollout, state=state)

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
            if known and known.spec.handle == handle:
                return known
            endpoint = self._store.fleet().endpoint(handle) or Endpoint(handle=handle)
            target = self._target(endpoint, version, at_s)
            spec = RolloutSpec(
                id=rollout_id or f"undo-{uuid.uuid4()}",
                handle=handle,
                version=target,
                strategy="undo",
                actor=actor,
                shield=endpoint.shield,
            )
            return self.start(spec)

    def _target(self, endpoint: Endpoint, version: int | None, at_s: float | None) -> int:
        """Return the version to go back to, out of the handle's past."""
        past = self._store.lived(endpoint.handle)
        if at_s is not None:
            _check_time(at_s, version, self._clock())
            version = next((found for since_s, found in reversed(past) if since_s <= at_s), None)
            if version is None:
                raise NotFoundError("live version", f"{endpoint.handle} at {at_s:.0f}", "it went live later")
        target = version if version is not None else endpoint.previous
        if target is None:
            raise NotFoundError("earlier version of", endpoint.handle, "there is nothing to undo")
        recent = list(dict.fromkeys(found for _, found in reversed(past)))[: ROLLBACK_WINDOW + 1]
        if target not in (endpoint.previous, endpoint.stable, *recent):
            next_step = "roll it out as a candidate: it has to prove itself anew"
            what = f"is not among the last {ROLLBACK_WINDOW} that were live"
            raise ConflictError(f"{endpoint.handle}/{target}", what, next_step)
        return target


def _is_needed(version: int, endpoint: Endpoint, fleet: Fleet) -> bool:
    """Return whether a version is live, may be gone back to, is being rolled out, or waits for that."""
    return version in (endpoint.stable, endpoint.previous) or version in _rolled_out(endpoint.handle, fleet)


def _rolled_out(handle: str, fleet: Fleet) -> set[int]:
    """Return the versions that the handle's rollouts bring, those that wait for their turn included."""
    mine = [each for each in fleet.rollouts if each.spec.handle == handle]
    return {version for each in mine for version in candidates_of(each.spec, each.state)}


def _check_time(at_s: float, version: int | None, now_s: float) -> None:
    faults = []
    if version is not None:
        faults.append(f"got version {version} and at_s {at_s:.0f}; give one of them")
    if at_s > now_s:
        faults.append(f"at_s {at_s:.0f} is yet to come; now is {now_s:.0f}")
    if faults:
        raise InvalidSpecError(tuple(faults), "undo")


def _deployed(fleet: Fleet, spec: RolloutSpec) -> Endpoint:
    endpoint = fleet.endpoint(spec.handle)
    for version in spec.versions:
        if endpoint is None or fleet.variant(spec.handle, version) is None:
            raise NotFoundError("variant", f"{spec.handle}/{version}", "deploy it before its rollout")
    return endpoint or Endpoint(handle=spec.handle)


def _same(known: Rollout, spec: RolloutSpec) -> Rollout:
    if (known.spec.handle, known.spec.version) != (spec.handle, spec.version):
        asked = f"{known.spec.handle}/{known.spec.version}, not {spec.handle}/{spec.version}"
        raise ConflictError(
            f"rollout {spec.id}", f"was asked for {asked}", "give the new rollout an id of its own"
        )
    return known


def _note(now_s: float, handle: str, kind: str, actor: str, reason: str, body: Mapping[str, Any]) -> Note:
    return Note(at_s=now_s, handle=handle, kind=kind, actor=actor, reason=reason, body=body)
