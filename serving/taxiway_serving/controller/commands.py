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

from taxiway_serving.controller.ordering import endpoint_after, retirements
from taxiway_serving.errors import ConflictError, InvalidSpecError, NotFoundError
from taxiway_serving.ledger.store import Change, Endpoint, Note, Rollout, Store, Variant, Wish
from taxiway_serving.rollout.machine import begin
from taxiway_serving.rollout.state import Outcome, Status
from taxiway_serving.rollout.steps import RolloutSpec, step_to_json
from taxiway_serving.rollout.verbs import act
from taxiway_serving.runtimes.runtime import VariantSpec
from taxiway_serving.strategies import plan

UNUSED_S = 3600.0
"""A variant that no rollout takes up by then is stopped: its verification failed, or its DAG run was given up."""


class Commands:
    """The controller's verbs. Safe to call from several threads."""

    def __init__(self, *, store: Store, lock: RLock, home: Path, clock: Callable[[], float]) -> None:
        self._store, self._lock, self._home, self._clock = store, lock, home, clock

    def deploy(self, spec: VariantSpec, *, actor: str) -> None:
        """Want a variant to run. It takes no live traffic until a rollout gives it some.

        Raises:
            InvalidSpecError: If it names files outside the controller's home, or files that do not exist.
            ConflictError: If that version is live, was live last or is being rolled out, with another content: a
                version is never ambiguous.
        """
        _check_files(spec, self._home)
        with self._lock:
            fleet, now_s = self._store.fleet(), self._clock()
            known = fleet.variant(spec.handle, spec.version)
            is_same = known is not None and VariantSpec.from_json(known.spec).digest() == spec.digest()
            endpoint = fleet.endpoint(spec.handle) or Endpoint(handle=spec.handle)
            is_needed = _is_needed(spec.version, endpoint, fleet.active(spec.handle))
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
            rollout = fleet.active(handle)
            if variant is None:
                raise NotFoundError("variant", f"{handle}/{version}")
            is_live = endpoint is not None and endpoint.split is not None and version in endpoint.split.parts
            if is_live or (rollout and rollout.spec.version == version):
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

        Raises:
            NotFoundError: If its version was never deployed.
            ConflictError: If the id names another rollout, or another one is running on the handle.
        """
        with self._lock:
            known = self._store.rollout(spec.id)
            if known:
                return _same(known, spec)
            fleet, now_s = self._store.fleet(), self._clock()
            running, endpoint = fleet.active(spec.handle), fleet.endpoint(spec.handle)
            variant = fleet.variant(spec.handle, spec.version)
            if variant is None or endpoint is None:
                raise NotFoundError(
                    "variant", f"{spec.handle}/{spec.version}", "deploy it before its rollout"
                )
            if running:
                next_step = (
                    f"wait for rollout {running.spec.id} of version {running.spec.version}, or abort it"
                )
                raise ConflictError(spec.handle, "a rollout is running", next_step)
            rollout = _begun(spec, endpoint, now_s)
            after = endpoint if rollout.state.status is Status.ENDED else endpoint_after(endpoint, rollout)
            needed = replace(variant, wish=Wish.RUNNING, retire_at_s=None)
            body = {
                "rollout": spec.id,
                "spec": spec.to_json(),
                "plan": [step_to_json(step) for step in rollout.plan],
                "state": rollout.state.to_json(),
            }
            note = _note(now_s, spec.handle, "rollout", spec.actor, rollout.state.reason, body)
            self._store.commit(
                Change(endpoints=(after,), variants=(needed,), rollouts=(rollout,), notes=(note,))
            )
            return rollout

    def act(self, handle: str, rollout_id: str, verb: str, *, actor: str) -> Rollout:
        """Do one of the verbs to a rollout; a no-op where there is nothing to do.

        Raises:
            NotFoundError: If the handle has no such rollout.
            InvalidSpecError: If there is no such verb.
        """
        with self._lock:
            now_s = self._clock()
            rollout = self._store.rollout(rollout_id)
            if rollout is None or rollout.spec.handle != handle:
                raise NotFoundError("rollout", rollout_id, f"see the rollouts of {handle}")
            state = act(rollout.plan, rollout.state, verb, actor=actor, now_s=now_s)
            if state == rollout.state:
                return rollout
            after, fleet = replace(rollout, state=state), self._store.fleet()
            endpoint = endpoint_after(fleet.endpoint(handle) or Endpoint(handle=handle), after)
            leaving = retirements(after, now_s)
            variants = tuple(
                replace(variant, retire_at_s=leaving[variant.handle, variant.version])
                for variant in fleet.variants
                if (variant.handle, variant.version) in leaving
            )
            body = {"rollout": rollout_id, "verb": verb, "state": state.to_json()}
            note = _note(now_s, handle, "verb", actor, state.reason, body)
            self._store.commit(
                Change(endpoints=(endpoint,), variants=variants, rollouts=(after,), notes=(note,))
            )
            return after

    def undo(self, handle: str, *, actor: str, rollout_id: str | None = None) -> Rollout:
        """Go back to the version that was live before, by a rollout of one step.

        Args:
            handle: Endpoint.
            actor: Who says so.
            rollout_id: The caller's name for this undo: asking twice with one id is asking once. None makes one up.

        Raises:
            NotFoundError: If the handle has no earlier version.
            ConflictError: If a rollout is running: abort that one.
        """
        with self._lock:
            endpoint = self._store.fleet().endpoint(handle)
            known = self._store.rollout(rollout_id) if rollout_id else None
            if known and known.spec.handle == handle:
                return known
            if endpoint is None or endpoint.previous is None:
                raise NotFoundError("earlier version of", handle, "there is nothing to undo")
            spec = RolloutSpec(
                id=rollout_id or f"undo-{uuid.uuid4()}",
                handle=handle,
                version=endpoint.previous,
                strategy="undo",
                actor=actor,
                shield=endpoint.shield,
            )
            return self.start(spec)


def _is_needed(version: int, endpoint: Endpoint, rollout: Rollout | None) -> bool:
    """Return whether a version is live, may be gone back to, or is being rolled out."""
    wanted = (endpoint.stable, endpoint.previous, rollout.spec.version if rollout else None)
    return version in wanted


def _begun(spec: RolloutSpec, endpoint: Endpoint, now_s: float) -> Rollout:
    state = begin(spec, stable=endpoint.stable, now_s=now_s)
    if endpoint.stable == spec.version:
        reason = f"version {spec.version} is live already"
        state = replace(state, status=Status.ENDED, outcome=Outcome.PROMOTED, ended_at_s=now_s, reason=reason)
    return Rollout(spec=spec, plan=plan(spec, endpoint.stable), state=state)


def _same(known: Rollout, spec: RolloutSpec) -> Rollout:
    if (known.spec.handle, known.spec.version) != (spec.handle, spec.version):
        asked = f"{known.spec.handle}/{known.spec.version}, not {spec.handle}/{spec.version}"
        raise ConflictError(
            f"rollout {spec.id}", f"was asked for {asked}", "give the new rollout an id of its own"
        )
    return known


def _check_files(spec: VariantSpec, home: Path) -> None:
    faults = []
    for name in ("bento_dir", "model_dir", "python"):
        path = Path(getattr(spec, name))
        if ".." in path.parts or not path.is_relative_to(home):
            faults.append(
                f"{name}: {path} lies outside the controller's home {home}; it runs nothing from elsewhere"
            )
        elif not path.exists():
            faults.append(f"{name}: {path} does not exist on the controller's host")
    if faults:
        raise InvalidSpecError(tuple(faults), f"variant {spec.handle}/{spec.version}")


def _note(now_s: float, handle: str, kind: str, actor: str, reason: str, body: Mapping[str, Any]) -> Note:
    return Note(at_s=now_s, handle=handle, kind=kind, actor=actor, reason=reason, body=body)
