"""Runs a component as a container of its package's image, one container for a job however often it is tried.

A container outlives the process that started it, and is found again by the job's identity. How inputs come in is
decided in `delivery.py`; the engine is spoken to in `taxiway.engine`.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from taxiway import archive
from taxiway.engine import CONFLICT, MISSING, Container, Engine, exit_code
from taxiway.errors import (
    ComponentFailedError,
    JobStoppedError,
    OutOfMemoryError,
    ResourceShortageError,
    ToolFailedError,
    TransportError,
)
from taxiway.packaging import image as images
from taxiway.packaging.image import OUTPUT_DIR, Image
from taxiway.packaging.package import CodePackage
from taxiway.project import resources
from taxiway.runners import delivery, disk, workplace
from taxiway.runners.attendance import Attendance
from taxiway.runners.following import Following, end_soon
from taxiway.runners.limits import checked
from taxiway.runners.plan import GRACE_S, ORPHAN_S, SPEC, Plan, owned_by
from taxiway.runners.runner import Job, JobResult, Log
from taxiway.runners.stop import Stop
from taxiway.settings import Containers
from taxiway.tools import digest, fresh_folder, remove


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
        self._attendance = Attendance(home / "containers")
        self._following = Following()
        self._seen: dict[tuple[int, Path], bool] = {}
        self._known: dict[str, Image] = {}

    def prepare(self, package: CodePackage) -> None:
        """Make the image of a package ready on the engine, and remove orphans; see `Runner.prepare`."""
        with self._engine.at_rest_after():
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
        with self._engine.at_rest_after():
            return self._run(job, log, stop or Stop())

    def _run(self, job: Job, log: Log, asked: Stop) -> JobResult:
        started, plan = time.monotonic(), self._plan(job)
        with self._attendance.of(plan.name):
            remove(job.folder)
            job.folder.mkdir(parents=True)
            container = self._attach(plan, log) or self._start(plan, log)
            end = partial(self._engine.end, container)
            with self._following.to_the_end(job, asked, end=end, remove=lambda: end(GRACE_S)):
                self._deliver_secrets(plan, container)
                with asked.calling(lambda: end_soon(lambda: end(GRACE_S))):
                    tail = workplace.follow(self._engine.lines(container), job, log)
                self._judge(plan, container, tail, asked)
                self._collect(job, container)
        network = self._containers.network
        trace = plan.trace(() if network == "none" else (f"it was in the network {network}",))
        return JobResult(output_dir=job.output_dir, seconds=time.monotonic() - started, trace=trace)

    def is_known(self, package: CodePackage, folder: Path) -> bool:
        """Tell whether a container of an earlier try still runs or has ended well; see `Runner.is_known`."""
        with self._engine.at_rest_after():
            found = self._engine.find(_name(package, folder))
            return found is not None and _is_useful(found)

    def forget(self, package: CodePackage, folder: Path) -> None:
        """Remove the container of an earlier try unless somebody attends to it; see `Runner.forget`."""
        name = _name(package, folder)
        with self._engine.at_rest_after(), self._attendance.if_alone(name) as alone_s:
            found = self._engine.find(name) if alone_s is not None else None
            if found is not None:
                self._engine.end(found.id, GRACE_S)
            self._attendance.forget(name)

    def stop(self, grace_s: float = GRACE_S) -> None:
        """End and remove every container that this runner follows; its `run` calls then end with JobStoppedError."""
        self._following.end_all(grace_s)

    def reap(self, older_than_s: float = ORPHAN_S) -> tuple[str, ...]:
        """Remove containers of this home that nobody has attended to for so long, and return their names.

        One that is seen alone for the first time is only marked, unless `older_than_s` is 0.
        """
        owned = self._engine.containers(owned_by(self._attendance.owner()))
        ids = {each.name: each.id for each in owned}
        return self._attendance.reap(ids, older_than_s, lambda each: self._engine.end(each, GRACE_S))

    def _plan(self, job: Job) -> Plan:
        image = self._verified(job.package)
        limits = checked(job, self._engine.host(), f"the engine at {self._engine.url}")
        return Plan.of(job, _name(job.package, job.folder), image, limits, self._containers)

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

    def _attach(self, plan: Plan, log: Log) -> str | None:
        """Return the container of an earlier try if it still runs or has ended well; any other is removed."""
        found = self._engine.find(plan.name)
        if found is None:
            return None
        is_ours = found.labels.get(SPEC) == plan.spec
        if is_ours and _is_useful(found):
            log(f"container {plan.name} of an earlier try {_state(found)}: going on with it")
            return found.id
        log(f"container {plan.name} of an earlier try {_state(found)}: starting anew")
        self._engine.end(found.id, GRACE_S)
        return None

    def _start(self, plan: Plan, log: Log) -> str:
        self._following.refuse_if_over(plan.job)
        container, mounted = self._create(plan)
        with self._following.ended_by(partial(self._engine.end, container)):
            try:
                for target, entry in delivery.entries(plan.folders, mounted=mounted).items():
                    with archive.stream([entry]) as pieces:
                        self._engine.put(container, target, pieces)
                self._engine.start(container)
            except BaseException as error:
                self._engine.remove(container)
                _explain(error, plan.job, self._engine.url)
                raise
        log(f"container {plan.name} of {plan.image.name} was started: {plan.limits}")
        return container

    def _create(self, plan: Plan) -> tuple[str, bool]:
        """Create the container, its inputs mounted where they may be; return its id, and whether they are."""
        labels = plan.labels(self._attendance.owner())
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

    def _ways(self, plan: Plan) -> tuple[bool, ...]:
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
            labels = owned_by(self._attendance.owner())
            self._seen[place] = disk.is_seen(self._engine, folder, image.id, labels)
        return self._seen[place]

    def _deliver_secrets(self, plan: Plan, container: str) -> None:
        found = self._engine.find(container)
        if plan.secrets_dir and found and found.is_running:
            with archive.stream(delivery.secrets(plan.secrets_dir)) as pieces:
                self._engine.put(container, delivery.SECRETS_DIR, pieces)

    def _judge(self, plan: Plan, container: str, tail: str, asked: Stop) -> None:
        job, found = plan.job, self._engine.find(container)
        if self._following.is_ended(asked) and (found is None or found.exit_code != 0):
            raise JobStoppedError(job.name)
        if found is None:
            raise ToolFailedError(
                "docker inspect", MISSING, f"container {plan.name} was removed while it ran"
            )
        if found.is_out_of_memory and found.exit_code != 0:
            raise OutOfMemoryError(job.name, job.command, plan.limits.memory_mb, tail)
        if found.exit_code != 0:
            raise ComponentFailedError(job.name, job.command, exit_code(found.exit_code), tail)

    def _collect(self, job: Job, container: str) -> None:
        with (
            fresh_folder(job.output_dir) as draft,
            self._engine.get(container, OUTPUT_DIR) as pieces,
        ):
            archive.unpack(pieces, draft)


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


def _is_useful(found: Container) -> bool:
    return found.is_running or (found.status == "exited" and found.exit_code == 0)


def _state(found: Container) -> str:
    return (
        f"is {found.status}"
        if found.is_running or found.status == "created"
        else f"ended with {found.exit_code}"
    )
