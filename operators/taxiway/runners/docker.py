"""Runs a component as a container of its package's image, one container for a job however often it is tried.

A container outlives the process that started it, and is found again by the job's identity. How inputs come in is
decided in `delivery.py`; the engine is spoken to in `taxiway.engine`.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxiway import archive
from taxiway.engine import CONFLICT, Container, Engine
from taxiway.errors import (
    ComponentFailedError,
    DiskFullError,
    JobStoppedError,
    OutOfMemoryError,
    ResourceShortageError,
    TaxiwayError,
    ToolFailedError,
    TransportError,
)
from taxiway.packaging import image as images
from taxiway.packaging.image import OUTPUT_DIR, Image
from taxiway.packaging.package import CodePackage
from taxiway.project import resources
from taxiway.project.resources import Resources
from taxiway.runners import delivery, disk, workplace
from taxiway.runners.attendance import Attendance
from taxiway.runners.configuration import configuration
from taxiway.runners.limits import checked
from taxiway.runners.runner import Job, JobResult, Log
from taxiway.runners.stop import Stop
from taxiway.settings import Containers
from taxiway.tools import digest, fresh_folder, remove
from taxiway.trace import Trace

GRACE_S = 2.0
"""Seconds between asking a component to end and ending it."""
ORPHAN_S = 3_600.0
"""Seconds that a container nobody attends to is kept for a retry."""
LABEL = "taxiway.job"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What a job's container must be.

    Attributes:
        name: Its name, which is the job's identity on the engine.
        config: The body of the engine's API, without labels and mounts.
        spec: Hash of that body: a container of another one is not the job's.
    """

    name: str
    image: Image
    limits: Resources
    config: Mapping[str, Any]
    spec: str
    folders: tuple[delivery.Folder, ...]
    secrets_dir: Path | None


class DockerRunner:
    """A runner of containers; any number of threads may share it.

    Args:
        engine: The engine.
        images: Returns the registered image of a package, made ready on the engine.
        containers: Network, tracking address and the way of inputs.
        home: Folder for the locks of attended containers.
    """

    def __init__(
        self, engine: Engine, images: Callable[[CodePackage], Image], containers: Containers, home: Path
    ) -> None:
        self._engine = engine
        self._images = images
        self._containers = containers
        self._home = home / "containers"
        self._attendance = Attendance(self._home)
        self._seen: dict[tuple[int, Path], bool] = {}
        self._known: dict[str, Image] = {}
        self._running: dict[str, str] = {}
        self._is_stopped = threading.Event()

    def prepare(self, package: CodePackage) -> None:
        """Make the image of a package ready on the engine, and remove orphans; see `Runner.prepare`."""
        with self._at_rest_after():
            self.reap(ORPHAN_S)
            self._known[package.digest] = self._images(package)

    def run(self, job: Job, log: Log, stop: Stop | None = None) -> JobResult:
        """Run a job, or go on with its container; see `Runner.run`.

        Raises:
            ComponentFailedError: If the command ends with an error.
            OutOfMemoryError: If it needed more memory than its limit.
            ResourceShortageError: If the engine's host has less than it asks for; nothing was started.
            ArtifactChangedError: If the image is not the registered one; nothing was started.
            DiskFullError: If its results do not fit on this host; the container waits for a retry.
            TransportError: If the engine goes away; the container waits for a retry.
        """
        with self._at_rest_after():
            return self._run(job, log, stop or Stop())

    def _run(self, job: Job, log: Log, asked: Stop) -> JobResult:
        started, plan = time.monotonic(), self._plan(job)
        with self._attendance.of(plan.name):
            remove(job.folder)
            job.folder.mkdir(parents=True)
            container = self._attach(plan, log) or self._start(plan, job, log)
            with self._ending(container, job, asked):
                self._deliver_secrets(plan, container)
                with asked.calling(lambda: self._end_soon(container)):
                    tail = workplace.follow(self._engine.lines(container), job, log)
                self._judge(job, plan, container, tail, asked)
                self._collect(job, container)
        return JobResult(
            output_dir=job.output_dir, seconds=time.monotonic() - started, trace=self._trace(job, plan)
        )

    def is_known(self, package: CodePackage, folder: Path) -> bool:
        """Tell whether a container of an earlier try still runs or has ended well; see `Runner.is_known`."""
        with self._at_rest_after():
            found = self._engine.find(_name(package, folder))
            return found is not None and _is_useful(found)

    def forget(self, package: CodePackage, folder: Path) -> None:
        """Remove the container of an earlier try unless somebody attends to it; see `Runner.forget`."""
        name = _name(package, folder)
        with self._at_rest_after(), self._attendance.if_alone(name) as alone_s:
            found = self._engine.find(name) if alone_s is not None else None
            if found is not None:
                self._engine.end(found.id, GRACE_S)
            self._attendance.forget(name)

    def stop(self, grace_s: float = GRACE_S) -> None:
        """End and remove every container that this runner follows; its `run` calls then end with JobStoppedError."""
        self._is_stopped.set()
        names = tuple(self._running)
        if names:
            with ThreadPoolExecutor(len(names)) as pool:
                list(pool.map(lambda name: self._engine.end(name, grace_s), names))

    def reap(self, older_than_s: float = ORPHAN_S) -> tuple[str, ...]:
        """Remove containers of this home that nobody has attended to for so long, and return their names.

        One that is seen alone for the first time is only marked, unless `older_than_s` is 0.
        """
        gone = []
        for found in self._engine.containers({LABEL: "true", "taxiway.owner": self._attendance.owner()}):
            with self._attendance.if_alone(found.name) as alone_s:
                if alone_s is not None and alone_s >= older_than_s:
                    self._engine.end(found.id, GRACE_S)
                    self._attendance.forget(found.name)
                    gone.append(found.name)
        return tuple(gone)

    @contextmanager
    def _at_rest_after(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._engine.rest()

    def _plan(self, job: Job) -> _Plan:
        image = self._verified(job.package)
        limits = checked(job, self._engine.host(), f"the engine at {self._engine.url}")
        config = configuration(job, image, limits, self._containers)
        given = job.inputs
        has_secrets = given.secrets_dir is not None and given.secrets_dir.is_dir()
        return _Plan(
            name=_name(job.package, job.folder),
            image=image,
            limits=limits,
            config=config,
            spec=digest([config, has_secrets]),
            folders=delivery.folders(given),
            secrets_dir=given.secrets_dir if has_secrets else None,
        )

    def _verified(self, package: CodePackage) -> Image:
        image = self._known.get(package.digest)
        if image is None:
            image = self._known[package.digest] = self._images(package)
        found = self._engine.image_id(image.name)
        if found is None:
            image = self._known[package.digest] = self._images(package)
            found = image.id
        images.check(package, image, found)
        return image

    def _attach(self, plan: _Plan, log: Log) -> str | None:
        """Return the container of an earlier try if it still runs or has ended well; any other is removed."""
        found = self._engine.find(plan.name)
        if found is None:
            return None
        is_ours = found.labels.get("taxiway.spec") == plan.spec
        if is_ours and _is_useful(found):
            log(f"container {plan.name} of an earlier try {_state(found)}: going on with it")
            return found.id
        log(f"container {plan.name} of an earlier try {_state(found)}: starting anew")
        self._engine.end(found.id, GRACE_S)
        return None

    def _start(self, plan: _Plan, job: Job, log: Log) -> str:
        if self._is_stopped.is_set():
            raise JobStoppedError(job.name)
        container, mounted = self._create(plan, job)
        self._running[container] = plan.name
        try:
            for target, entry in delivery.entries(plan.folders, mounted=mounted).items():
                with archive.stream([entry]) as pieces:
                    self._engine.put(container, target, pieces)
            self._engine.start(container)
        except BaseException as error:
            self._running.pop(container, None)
            self._engine.remove(container)
            _explain(error, job, self._engine.url)
            raise
        log(f"container {plan.name} of {plan.image.name} was started: {plan.limits}")
        return container

    def _create(self, plan: _Plan, job: Job) -> tuple[str, bool]:
        """Create the container, its inputs mounted where they may be; return its id, and whether they are."""
        labels = self._own_labels() | {
            "taxiway.handle": job.package.handle,
            "taxiway.kind": job.package.kind,
            "taxiway.digest": job.package.digest,
            "taxiway.image": plan.image.name,
            "taxiway.spec": plan.spec,
        }
        for mounted in self._ways(plan):
            mounts = delivery.mounts(plan.folders, mounted=mounted, has_secrets=plan.secrets_dir is not None)
            host = {**plan.config["HostConfig"], "Mounts": mounts}
            try:
                config = {**plan.config, "Labels": labels, "HostConfig": host}
                return self._engine.create(plan.name, config), mounted
            except ToolFailedError as error:
                if error.exit_code == CONFLICT:
                    raise TransportError(plan.name, "somebody else has just started this job") from error
                if not mounted or "source path does not exist" not in error.output:
                    raise
        raise ToolFailedError("docker create", 1, "the engine sees none of this host's folders")

    def _ways(self, plan: _Plan) -> tuple[bool, ...]:
        """Return the ways of inputs to try: mounted, copied."""
        wanted = self._containers.inputs
        if wanted == "copy" or (wanted == "auto" and not self._engine.url.startswith("unix:")):
            return (False,)
        if not all(self._sees(folder.path, plan.image) for folder in plan.folders if folder.is_whole):
            return (False,) if wanted == "auto" else ()
        return (True, False) if wanted == "auto" else (True,)

    def _sees(self, folder: Path, image: Image) -> bool:
        """Tell whether the engine sees the disk of a folder; each is asked for once."""
        place = disk.disk_of(folder)
        if place not in self._seen:
            self._seen[place] = disk.is_seen(self._engine, folder, image.id, self._own_labels())
        return self._seen[place]

    def _own_labels(self) -> dict[str, str]:
        return {LABEL: "true", "taxiway.owner": self._attendance.owner()}

    @contextmanager
    def _ending(self, container: str, job: Job, asked: Stop) -> Iterator[None]:
        """Remove the container when the block ends, however it does, but for an engine or a disk that comes back."""
        self._running[container] = job.name
        try:
            yield
        except TransportError:
            raise
        except BaseException as error:
            if workplace.is_full(error):
                raise DiskFullError(job.folder, None, shutil.disk_usage(job.folder).free) from error
            self._engine.end(container, GRACE_S)
            if isinstance(error, ToolFailedError) and self._is_ended(asked):
                raise JobStoppedError(job.name) from error
            raise
        else:
            self._engine.remove(container)
        finally:
            self._running.pop(container, None)

    def _deliver_secrets(self, plan: _Plan, container: str) -> None:
        found = self._engine.find(container)
        if plan.secrets_dir and found and found.is_running:
            with archive.stream(delivery.secrets(plan.secrets_dir)) as pieces:
                self._engine.put(container, delivery.SECRETS_DIR, pieces)

    def _is_ended(self, asked: Stop) -> bool:
        return asked.is_requested or self._is_stopped.is_set()

    def _end_soon(self, container: str) -> None:
        def end() -> None:
            with suppress(TaxiwayError):
                self._engine.end(container, GRACE_S)

        threading.Thread(target=end, name="end of a container", daemon=True).start()

    def _judge(self, job: Job, plan: _Plan, container: str, tail: str, asked: Stop) -> None:
        found = self._engine.find(container)
        if self._is_ended(asked) and (found is None or found.exit_code != 0):
            raise JobStoppedError(job.name)
        if found is None:
            raise ToolFailedError("docker inspect", 404, f"container {plan.name} was removed while it ran")
        if found.is_out_of_memory and found.exit_code != 0:
            raise OutOfMemoryError(job.name, job.command, plan.limits.memory_mb, tail)
        if found.exit_code != 0:
            raise ComponentFailedError(job.name, job.command, _exit_code(found.exit_code), tail)

    def _collect(self, job: Job, container: str) -> None:
        with (
            fresh_folder(job.output_dir) as draft,
            self._engine.get(container, OUTPUT_DIR) as pieces,
        ):
            archive.unpack(pieces, draft)

    def _trace(self, job: Job, plan: _Plan) -> Trace:
        unseen = []
        if job.package.manifest.get("dockerfile"):
            unseen.append(
                "its image is made by a Dockerfile of its own, which may hold more than the lock says"
            )
        if self._containers.network != "none":
            unseen.append(f"it was in the network {self._containers.network}")
        return Trace(
            source_hash=job.package.source_hash,
            method="mounts",
            read=delivery.read_counts(plan.folders),
            unseen=tuple(unseen),
        )


def _name(package: CodePackage, folder: Path) -> str:
    """Return the name of the container of a job: whose code it runs, and the hash of its working folder."""
    handle = f"{package.handle}.{package.kind}".replace("_.", ".")
    return f"taxiway-{handle}-{digest(str(folder))[:12]}"


def _explain(error: BaseException, job: Job, url: str) -> None:
    """Turn the engine's word for a missing GPU into ours; every other error is left as it is."""
    if isinstance(error, ToolFailedError) and "could not select device driver" in error.output:
        wanted = resources.of(job.package.manifest).gpus
        lacking = f"gpus = {wanted}, and the host has no GPU that its engine can give to a container"
        raise ResourceShortageError(job.name, f"the engine at {url}", (lacking,)) from error


def _exit_code(code: int) -> int:
    """Return an exit code as processes have it, negative for a signal: a container's is 128 and the signal."""
    return 128 - code if 128 < code <= 128 + 64 else code


def _is_useful(found: Container) -> bool:
    return found.is_running or (found.status == "exited" and found.exit_code == 0)


def _state(found: Container) -> str:
    return (
        f"is {found.status}"
        if found.is_running or found.status == "created"
        else f"ended with {found.exit_code}"
    )
