"""What callers may ask of the controller: deploy, roll out, promote, abort, pause, resume, undo.

A command only changes the desired state, in one durable commit; the next tick carries it out. Each is idempotent:
asked twice, it is done once.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Any

from taxiway_serving.controller.changes import UNUSED_S, awake, begun, changed, merged, queued
from taxiway_serving.controller.past import undo_target
from taxiway_serving.controller.refusals import (
    check_candidates,
    check_files,
    check_group,
    check_policy,
    check_routes,
)
from taxiway_serving.errors import ConflictError, InvalidSpecError, NotFoundError
from taxiway_serving.ledger.store import Change, Endpoint, Fleet, Note, Rollout, Store, Variant, Wish
from taxiway_serving.rollout.judges import candidates_of
from taxiway_serving.rollout.machine import begin
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import Outcome, Status
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
            settle: Stores what was seen of rollouts before a command changes them.
        """
        self._store, self._lock, self._home, self._clock = store, lock, home, clock
        self._most_rollouts, self._settle = most_rollouts, settle
        self._rollback_window = rollback_window

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
            wanted = Variant(
                handle=spec.handle,
                version=spec.version,
                spec=spec.to_json(),
                retire_at_s=None if is_needed else now_s + UNUSED_S,
                asked_at_s=now_s,
            )
            runs = known is not None and is_same and known.wish is Wish.RUNNING
            if known and runs:
                # One that is kept warm for an undo has the time to be proven as well, as any other has.
                stays_s = wanted.retire_at_s
                if is_needed and known.retire_at_s is not None:
                    stays_s = max(known.retire_at_s, now_s + UNUSED_S)
                wanted = replace(
                    wanted,
                    host=known.host,
                    port=known.port,
                    replicas=known.replicas,
                    scaled_to=known.scaled_to,
                    retire_at_s=stays_s,
                    ready_at_s=known.ready_at_s,
                    failed_at_s=known.failed_at_s,
                )
            body = {"version": spec.version, "model": spec.model, "lineage": dict(spec.lineage)}
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
                return _same(known, spec)
            fleet = self._store.fleet()
            self._store.commit(self._asked(spec, fleet, retry_of=retry_of))
            return self._begun(spec, fleet)

    def start_group(self, specs: Sequence[RolloutSpec]) -> tuple[Rollout, ...]:
        """Begin the rollouts of a group, all of them or none; those that have begun already are returned as they are.

        Raises:
            InvalidSpecError: If they are not the members of one group, each once; with every other fault of `start`.
        """
        _check_members(specs)
        with self._lock:
            self._settle()
            known = {spec.id: self._store.rollout(spec.id) for spec in specs}
            for spec in specs:
                if found := known[spec.id]:
                    _same(found, spec)
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
        check_routes(spec, steps)
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
            rollout = self._store.rollout(rollout_id)
            if rollout is None or rollout.spec.handle != handle:
                raise NotFoundError("rollout", rollout_id, f"see the rollouts of {handle}")
            if verb == RETRY:
                return self._retried(rollout, actor)
            is_said = command_id in rollout.state.said
            if is_said or (step is not None and rollout.state.step != step):
                return rollout
            if verb == "add" and version is not None and fleet.variant(handle, version) is None:
                raise NotFoundError("variant", f"{handle}/{version}", "deploy it before it joins")
            state = act(
                rollout.spec, rollout.plan, rollout.state, verb, actor=actor, now_s=now_s, version=version
            )
            is_idle = state == rollout.state
            if is_idle and (not command_id or state.status is Status.ENDED):
                return rollout
            if command_id:
                # Remembered also where there was nothing to do: it is not to be done later instead.
                state = replace(state, said=(*state.said, command_id)[-MOST_SAID:])
            joining = awake(fleet, handle, (version,), now_s) if verb == "add" and version else ()
            reason = f"{verb}: nothing to do" if is_idle else ""
            change = changed(rollout, state, fleet, verb, actor, now_s, reason=reason)
            self._store.commit(merged([change, Change(variants=joining)]))
            return replace(rollout, state=state)

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
                return _same_undo(known, handle, version)
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


def _is_needed(version: int, endpoint: Endpoint, fleet: Fleet) -> bool:
    """Return whether a version is live, may be gone back to, is being rolled out, or waits for that."""
    return version in (endpoint.stable, endpoint.previous) or version in _rolled_out(endpoint.handle, fleet)


def _rolled_out(handle: str, fleet: Fleet) -> set[int]:
    """Return the versions that the handle's rollouts bring, those that wait for their turn included."""
    mine = [each for each in fleet.rollouts if each.spec.handle == handle]
    return {version for each in mine for version in candidates_of(each.spec, each.state)}


def _deployed(fleet: Fleet, spec: RolloutSpec) -> Endpoint:
    endpoint = fleet.endpoint(spec.handle)
    for version in spec.versions:
        if endpoint is None or fleet.variant(spec.handle, version) is None:
            raise NotFoundError("variant", f"{spec.handle}/{version}", "deploy it before its rollout")
    return endpoint or Endpoint(handle=spec.handle)


def _candidates(spec: RolloutSpec, fleet: Fleet) -> list[VariantSpec]:
    found = (fleet.variant(spec.handle, version) for version in spec.versions)
    return [VariantSpec.from_json(variant.spec) for variant in found if variant]


def _check_members(specs: Sequence[RolloutSpec]) -> None:
    groups = {spec.group for spec in specs}
    group = next(iter(groups)) if len(groups) == 1 else None
    handles = sorted(spec.handle for spec in specs)
    if group is None or handles != sorted(group.handles):
        named = ", ".join(group.handles) if group else "nobody, or of several groups"
        fault = f"rollouts: got {', '.join(handles) or 'none'}; they must be one group's, each once: {named}"
        raise InvalidSpecError((fault,), "group")
    if len({spec.id for spec in specs}) < len(specs):
        raise InvalidSpecError(("id: two rollouts have the same; give each its own",), "group")


def _same_undo(known: Rollout, handle: str, version: int | None) -> Rollout:
    """Return an undo that was asked for before; the name of anything else is not the name of an undo.

    Raises:
        ConflictError: If it is another rollout, or went to another version than the one that is named now.
    """
    spec = known.spec
    is_same = spec.strategy == "undo" and spec.handle == handle and version in (None, spec.version)
    if not is_same:
        what = f"is {spec.strategy} of {spec.handle}/{spec.version}"
        raise ConflictError(f"rollout {spec.id}", what, "give the undo an id of its own")
    return known


def next_name(name: str) -> str:
    """Return what a retry is called: `green~1` after `green`, `green~2` after `green~1`."""
    base, mark, number = name.rpartition("~")
    return f"{base}~{int(number) + 1}" if mark and number.isdecimal() else f"{name}~1"


def _same(known: Rollout, spec: RolloutSpec) -> Rollout:
    if (known.spec.handle, known.spec.version) != (spec.handle, spec.version):
        asked = f"{known.spec.handle}/{known.spec.version}, not {spec.handle}/{spec.version}"
        raise ConflictError(
            f"rollout {spec.id}", f"was asked for {asked}", "give the new rollout an id of its own"
        )
    return known


def _note(now_s: float, handle: str, kind: str, actor: str, reason: str, body: Mapping[str, Any]) -> Note:
    return Note(at_s=now_s, handle=handle, kind=kind, actor=actor, reason=reason, body=body)
