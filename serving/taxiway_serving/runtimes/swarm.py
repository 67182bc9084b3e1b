"""The runtime that runs each variant as a service of a Docker Swarm, its replicas wherever the Swarm puts them.

The Swarm keeps the replicas running, moves them off a node that leaves, and brings another content one by one; what it
is asked for is made in `swarm_service.py`. What it cannot know, which replicas take requests now, is found out in
`swarm_looking.py`; the gateway is given the address of each of these. Of what runs nothing is remembered that the Swarm
has not, so that any controller of the same home finds it again.
"""

import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from taxiway_serving.answers import Answer
from taxiway_serving.errors import (
    ConflictError,
    InvalidSpecError,
    TaxiwayError,
    ToolFailedError,
    TransportError,
)
from taxiway_serving.names import VariantId
from taxiway_serving.runtimes import swarm_service as services
from taxiway_serving.runtimes.docker import (
    BUILD_TIMEOUT_S,
    COPY,
    HANDLE,
    HOME,
    SPEC,
    VERSION,
    home_id,
)
from taxiway_serving.runtimes.engine import Engine, connect_late
from taxiway_serving.runtimes.images import Image, Images
from taxiway_serving.runtimes.records import Folder, Record, folders
from taxiway_serving.runtimes.runtime import VariantSpec, VariantState
from taxiway_serving.runtimes.swarm_engine import Service, SwarmEngine, Task
from taxiway_serving.runtimes.swarm_looking import SwarmLookout, View
from taxiway_serving.settings import ServingSettings

ANSWER_TIMEOUT_S: Final = 5.0
_LOOK_S: Final = 0.1
_KEPT_LINES: Final = 500
_SHOWN_LINES: Final = 20

Prepared = Callable[[VariantSpec], Image | None]


class SwarmRuntime:
    """Runs each variant as a service. A `Runtime`.

    Args:
        engine: A manager of the Swarm, of a client that waits a few seconds, not minutes: a node that is cut off gives
            no log.
        prepared: Returns the image of a variant, or None while it is being made, as `Images.prepared` does.
        home: Folder that remembers what does not run: what waits for its image, what was stopped, and its log.
        owner: What tells the services of these controllers from any others of the Swarm.
        clock: Seconds since the epoch.
        on_close: Called when the runtime is closed: it closes what `prepared` needs. None where that needs nothing.
    """

    def __init__(
        self,
        engine: SwarmEngine,
        prepared: Prepared,
        home: Path,
        *,
        owner: str,
        clock: Callable[[], float] = time.time,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._engine = engine
        self._prepared = prepared
        self._home = home.resolve()
        self._owner = owner
        self._clock = clock
        self._on_close = on_close
        self._lookout = SwarmLookout(engine, clock)
        self._states: dict[VariantId, VariantState] = {}
        self._views: dict[VariantId, View] = {}
        self._ready_s: dict[str, float] = {}
        self._ended: dict[str, set[str]] = {}
        self._ends: dict[str, str] = {}

    @classmethod
    def from_settings(cls, settings: ServingSettings) -> "SwarmRuntime":
        """Return the runtime of a controller. The manager need not answer yet."""
        url, certificates, home = settings.engine_url, settings.engine_certificates, settings.home
        engine = SwarmEngine(connect_late(url, certificates, ANSWER_TIMEOUT_S), url)
        builder = Engine(connect_late(url, certificates, BUILD_TIMEOUT_S), url)
        owner = owner_of(settings)
        images = Images(builder, home, owner=owner, registry=settings.image_registry)
        return cls(engine, images.prepared, home, owner=owner, on_close=images.close)

    def close(self) -> None:
        """Close the connections to the replicas and the manager. See `Runtime.close`."""
        self._lookout.close()
        self._engine.rest()
        if self._on_close:
            self._on_close()

    def ensure(self, spec: VariantSpec) -> None:
        """Find the variant's service as specified, make it, or change it. See `Runtime.ensure`.

        Another content comes replica by replica, each new one before an old one goes; where it does not become ready
        the Swarm goes back, and the variant's state says so until something else is asked for.
        """
        _check(spec)
        view = self._views.get(spec.variant)
        service = view.service if view else self._engine.service(services.name_of(self._owner, spec.variant))
        if service is None:
            self._begin(spec)
        elif service.labels.get(SPEC) != spec.digest():
            self._change(service, spec)
        elif service.replicas != spec.replicas:
            self._update(service, services.resized(service, spec.replicas), spec.variant)

    def observe(self) -> Mapping[VariantId, VariantState]:
        """Look at every service of this home. What cannot be looked at is as it was. See `Runtime.observe`."""
        try:
            views = self._lookout.look({HOME: self._owner})
        except (TransportError, ToolFailedError):
            return dict(self._states)
        self._views = views
        rest = {each.variant: each for each in folders(self._home) if each.variant not in views}
        resting = {variant: state for variant, each in rest.items() if (state := self._resting(each))}
        self._states = resting | {variant: self._state(view) for variant, view in views.items()}
        return dict(self._states)

    def ready(self, variant: VariantId) -> Answer:
        """Ask the replicas that run what was wanted last. See `Runtime.ready`."""
        try:
            view = self._lookout.look({HOME: self._owner, **_labels(variant)}).get(variant)
        except (TransportError, ToolFailedError):
            return Answer.UNKNOWN
        if view is None:
            return Answer.NO
        answers = [each.answer for each in view.running if view.is_current(each.task)]
        if Answer.YES in answers:
            self._ready_s.setdefault(_key(view.service), self._clock())
            return Answer.YES
        return Answer.UNKNOWN if Answer.UNKNOWN in answers else Answer.NO

    def logs(self, variant: VariantId, *, tail: int) -> str:
        """Return the end of what its replicas printed. See `Runtime.logs`."""
        try:
            told = self._engine.service_tail(services.name_of(self._owner, variant), tail)
        except (TransportError, ToolFailedError) as error:
            told = f"the log cannot be read now: {error}"
        return told or Folder(self._home, variant).tail(tail)

    def stop(self, variant: VariantId, *, grace_s: float) -> None:
        """Remove its service, and wait until its replicas have ended, or the grace is over. See `Runtime.stop`."""
        folder = Folder(self._home, variant)
        service = self._engine.service(services.name_of(self._owner, variant))
        record = folder.record()
        if service is None and (record is None or record.is_stopped):
            return
        digest = service.labels.get(SPEC, "") if service else ""
        if service:
            folder.note(self.logs(variant, tail=_KEPT_LINES))
            self._engine.remove_service(service.id)
        folder.save(Record(digest=digest, ended_s=self._clock(), is_stopped=True, reason="stopped as asked"))
        self._views.pop(variant, None)
        if service:
            self._forget(service)
            self._await_end(service, variant, grace_s)

    # What is wanted

    def _begin(self, spec: VariantSpec) -> None:
        folder, digest = Folder(self._home, spec.variant), spec.digest()
        record = folder.record()
        if record is None or record.is_stopped or record.digest != digest:
            record = Record(digest=digest, is_waiting=True, started_s=self._clock())
        if record.ended_s and self._clock() < record.ended_s + record.pause_s():
            return
        folder.save(replace(record, is_waiting=True, ended_s=0.0, reason=""))
        try:
            image = self._prepared(spec)
            if image is not None:
                self._engine.create_service(services.body_of(self._owner, spec, image))
                folder.save(replace(record, is_waiting=False, ended_s=0.0, reason=""))
        except TransportError:
            raise
        except TaxiwayError as error:
            folder.note(str(error))
            reason = f"cannot be started: {str(error).strip().splitlines()[-1]}"
            failures = record.failures + 1
            folder.save(replace(record, ended_s=self._clock(), failures=failures, reason=reason))

    def _change(self, service: Service, spec: VariantSpec) -> None:
        view = self._views.get(spec.variant)
        tasks = view.tasks if view else self._engine.tasks({HOME: self._owner})
        mine = [task for task in tasks if task.service == service.id]
        if services.has_been_refused(service, mine, spec.digest()):
            return
        image = self._prepared(spec)
        if image is not None:
            self._update(service, services.body_of(self._owner, spec, image), spec.variant)

    def _update(self, service: Service, body: Mapping[str, object], variant: VariantId) -> None:
        self._views.pop(variant, None)
        try:
            self._engine.update_service(service, body)
        except ToolFailedError as error:
            # Somebody has changed it since it was looked at; the next look sees what it is now.
            if "out of sequence" not in error.output:
                raise
            raise ConflictError(service.name, "was changed meanwhile", "it is looked at again") from error

    def _await_end(self, service: Service, variant: VariantId, grace_s: float) -> None:
        deadline_s = time.monotonic() + grace_s
        labels = {HOME: self._owner, **_labels(variant)}
        while time.monotonic() < deadline_s:
            # A node that is lost tells nothing of an end, and will not be waited for.
            nodes = self._engine.nodes()
            mine = [task for task in self._engine.tasks(labels) if task.service == service.id]
            left = [task for task in mine if task.node in nodes]
            if not any(task.state in {"starting", "running"} for task in left):
                return
            time.sleep(_LOOK_S)

    # What is seen

    def _state(self, view: View) -> VariantState:
        key, ready = _key(view.service), view.ready
        failed = services.failures([task for task in view.tasks if view.is_current(task)])
        # The manager keeps only a few of those that ended.
        restarts = self._ended.setdefault(key, set())
        restarts |= {task.id for task in failed}
        if ready:
            self._ready_s.setdefault(key, self._clock())
        # Where none answers the gateway keeps those that run, and its own checks judge.
        shown = ready or view.running
        places = [each.address for each in shown]
        state = VariantState(
            phase="starting",
            host=places[0][0] if places else "",
            port=places[0][1] if places else 0,
            pid=shown[0].task.pid if shown else None,
            since_s=view.service.since_s,
            restarts=len(restarts),
            reason=_reason(view),
            replicas=tuple(places[1:]),
        )
        if key in self._ready_s:
            if view.running:
                return replace(state, phase="ready", since_s=self._ready_s[key])
            last = failed[-1] if failed else None
            reason = last.error if last else "none of its replicas runs"
            return replace(
                state, phase="failed", since_s=last.since_s if last else self._clock(), reason=reason
            )
        return self._unready(view, state, failed)

    def _unready(self, view: View, state: VariantState, failed: Sequence[Task]) -> VariantState:
        deadline_s = float(view.service.labels.get(services.DEADLINE, "60"))
        missed_s = view.service.since_s + deadline_s
        if self._clock() <= missed_s:
            return state
        key = _key(view.service)
        if key not in self._ends:
            self._ends[key] = self._engine_tail(view.service)
        why = [f"not ready within {deadline_s:g} s", *(task.error for task in failed[-1:] if task.error)]
        reason = "; ".join(why) + (f"; its log ends:\n{self._ends[key]}" if self._ends[key] else "")
        return replace(state, phase="failed", since_s=missed_s, reason=reason)

    def _engine_tail(self, service: Service) -> str:
        try:
            return self._engine.service_tail(service.id, _SHOWN_LINES)
        except (TransportError, ToolFailedError):
            return ""

    def _resting(self, folder: Folder) -> VariantState | None:
        """Return the state of what has no service: it waits for its image, cannot be started, or was stopped."""
        record = folder.record()
        if record is None:
            return None
        if record.is_stopped:
            return VariantState(phase="stopped", since_s=record.ended_s, reason=record.reason)
        if record.ended_s:
            return VariantState(phase="failed", since_s=record.ended_s, reason=record.reason)
        if record.is_waiting:
            reason = "what it needs is being made"
            return VariantState(phase="starting", since_s=record.started_s, reason=reason)
        return None

    def _forget(self, service: Service) -> None:
        key = _key(service)
        for known in (self._ready_s, self._ended, self._ends):
            known.pop(key, None)


def owner_of(settings: ServingSettings) -> str:
    """Return what tells the services of these controllers from others': controllers of one database share them."""
    database = urlsplit(settings.database_url)
    if database.scheme.startswith("sqlite"):
        return home_id(settings.home)
    # Without user and password: a new password is no other fleet.
    place = f"{database.hostname}:{database.port}{database.path}"
    return hashlib.sha256(place.encode()).hexdigest()[:32]


def _check(spec: VariantSpec) -> None:
    if not spec.image or spec.model_dir is None:
        fault = "image and model_dir are needed: a Swarm runs containers, and no folder of this host"
        raise InvalidSpecError((fault,), f"variant {spec.variant}")


def _labels(variant: VariantId) -> dict[str, str]:
    return {
        HANDLE: variant.handle,
        VERSION: str(variant.version),
        COPY: str(variant.copy),
    }


def _key(service: Service) -> str:
    """Return what a service's past is remembered by: another content begins anew."""
    return f"{service.id}#{service.labels.get(SPEC, '')}"


def _reason(view: View) -> str:
    """Return what is to say of a variant that takes requests, or may yet."""
    service, current = view.service, [each for each in view.ready if view.is_current(each.task)]
    told: Collection[str] = ()
    if service.update.startswith("rollback") or service.update == "paused":
        told = (f"an update of it failed and was taken back: {service.message}",)
    elif service.update == "updating":
        told = ("an update of it is under way",)
    elif 0 < len(current) < service.replicas:
        told = (f"{len(current)} of {service.replicas} replicas are ready",)
    return "; ".join(told)
