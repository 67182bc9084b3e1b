"""Runs a component as a job of a Docker Swarm, on any node that has room: one service however often it is tried.

The nodes share no disk with this host: what a job reads and leaves travels through MLflow's artifact store, see
`swarm_post.py`. What a service is lies in `swarm_service.py`; the Swarm is spoken to in `swarm_engine.py`.
"""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taxiway.engine import CONFLICT, MISSING
from taxiway.errors import (
    ComponentFailedError,
    DiskFullError,
    JobLostError,
    JobStoppedError,
    OutOfMemoryError,
    ResourceShortageError,
    TaxiwayError,
    ToolFailedError,
    TransportError,
)
from taxiway.packaging.image import Image
from taxiway.packaging.package import CodePackage
from taxiway.project import resources
from taxiway.project.resources import Host, Resources
from taxiway.runners import delivery, swarm_courier, workplace
from taxiway.runners.attendance import Attendance
from taxiway.runners.configuration import configuration
from taxiway.runners.limits import checked
from taxiway.runners.runner import Job, JobResult, Log
from taxiway.runners.stop import Stop
from taxiway.runners.swarm_engine import JobEngine, JobTask
from taxiway.runners.swarm_post import Post, new_attempt
from taxiway.runners.swarm_service import (
    ATTEMPT,
    GRACE_S,
    JOB,
    NAME,
    OWNER,
    SPEC,
    body_of,
    labels_of,
    name_of,
    spec_of,
)
from taxiway.runners.swarm_watch import Placed, exit_code_of, lines, others, rejected
from taxiway.settings import Containers
from taxiway.tools import remove
from taxiway.trace import Trace

ORPHAN_S = 3_600.0
"""Seconds that a job nobody attends to is kept for a retry."""
END_S = 15.0
"""Seconds that a node has to end a job's task; one that takes longer is left to the Swarm."""
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What a job's service must be.

    Attributes:
        name: Its name, which is the job's identity in the Swarm.
        config: What the job would be as a container.
        spec: Hash of what it must be: a service of another one is not the job's.
    """

    name: str
    image: Image
    limits: Resources
    config: Mapping[str, Any]
    spec: str
    folders: tuple[delivery.Folder, ...]
    secrets_dir: Path | None


class SwarmRunner:
    """A runner of jobs of a Swarm; any number of threads may share it.

    Args:
        engine: A manager of the Swarm.
        images: Returns the registered image of a package, made ready on the manager or in the registry.
        post: The artifact store.
        containers: Network, constraints, and MLflow's address as a container reaches it.
        home: Folder for the locks of attended jobs, no other runner's.
    """

    def __init__(
        self,
        engine: JobEngine,
        images: Callable[[CodePackage], Image],
        post: Post,
        containers: Containers,
        home: Path,
    ) -> None:
        self._engine = engine
        self._images = images
        self._post = post
        # Without a network there would be no way in or out: it is the node's own then.
        own = "bridge" if containers.network == "none" else containers.network
        self._network, self._containers = containers.network, replace(containers, network=own)
        self._attendance = Attendance(home)
        self._known: dict[str, Image] = {}
        self._running: dict[str, Placed] = {}
        self._is_stopped = threading.Event()

    def prepare(self, package: CodePackage) -> None:
        """Make the image of a package ready, and remove orphans; see `Runner.prepare`."""
        with self._at_rest_after():
            self.reap(ORPHAN_S)
            self._known[package.digest] = self._images(package)

    def run(self, job: Job, log: Log, stop: Stop | None = None) -> JobResult:
        """Run a job, or go on with its service; see `Runner.run`.

        Raises:
            ComponentFailedError: If the command ends with an error.
            OutOfMemoryError: If it needed more memory than its limit.
            ResourceShortageError: If no node has what it asks for; nothing was started.
            JobLostError: If its node was lost or told to give it up; a retry starts clean.
            DiskFullError: If its results do not fit on its node, or on this host, where they wait for a retry.
            ToolFailedError: If its node has no such image, or its inputs or results did not arrive whole.
            TransportError: If the manager or MLflow goes away; the job waits for a retry.
        """
        with self._at_rest_after():
            return self._run(job, log, stop or Stop())

    def _run(self, job: Job, log: Log, asked: Stop) -> JobResult:
        started, plan = time.monotonic(), self._plan(job)
        with self._attendance.of(plan.name):
            remove(job.folder)
            job.folder.mkdir(parents=True)
            placed = self._attach(plan, log) or self._start(plan, job, log)
            with self._ending(placed, job, asked, log):
                with asked.calling(lambda: self._end_soon(placed)):
                    tail = workplace.follow(lines(self._engine, placed, log), job, log)
                receipt = self._judge(job, plan, placed, tail, asked)
                self._post.collect(placed.folder, receipt, job.output_dir)
        return JobResult(
            output_dir=job.output_dir, seconds=time.monotonic() - started, trace=_trace(job, plan)
        )

    def is_known(self, package: CodePackage, folder: Path) -> bool:
        """Tell whether the job of an earlier try still runs or has ended well; see `Runner.is_known`."""
        with self._at_rest_after():
            found = self._engine.service(name_of(package, folder))
            return found is not None and _is_useful(self._engine.job_task(Placed.of(found).labels))

    def forget(self, package: CodePackage, folder: Path) -> None:
        """Remove the job of an earlier try unless somebody attends to it; see `Runner.forget`."""
        name = name_of(package, folder)
        with self._at_rest_after(), self._attendance.if_alone(name) as alone_s:
            found = self._engine.service(name) if alone_s is not None else None
            if found is not None:
                self._end(Placed.of(found))
            self._attendance.forget(name)

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Remove every job that this runner follows; its `run` calls then end with JobStoppedError.

        Args:
            grace_s: Seconds to wait for their ends; the Swarm ends them in any case.
        """
        self._is_stopped.set()
        placed = tuple(self._running.values())
        if placed:
            with ThreadPoolExecutor(len(placed)) as pool:
                list(pool.map(lambda each: self._remove(each, grace_s), placed))

    def reap(self, older_than_s: float = ORPHAN_S) -> tuple[str, ...]:
        """Remove jobs of this home that nobody has attended to for so long, and return their names.

        One that is seen alone for the first time is only marked, unless `older_than_s` is 0. What no job needs any
        more goes as well: letters of jobs that were never made, and inputs that nobody has used for days.
        """
        owned, gone = {JOB: "true", OWNER: self._attendance.owner()}, []
        for found in self._engine.services(owned):
            with self._attendance.if_alone(found.name) as alone_s:
                if alone_s is not None and alone_s >= older_than_s:
                    self._end(Placed.of(found))
                    self._attendance.forget(found.name)
                    gone.append(found.name)
        for secret, labels in self._engine.secrets(owned).items():
            with self._attendance.if_alone(labels[NAME]) as alone_s:
                if alone_s is not None and self._engine.service(labels[NAME]) is None:
                    self._engine.remove_secret(secret)
                    self._attendance.forget(labels[NAME])
        self._post.tidy()
        return tuple(gone)

    @contextmanager
    def _at_rest_after(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._engine.rest()

    def _plan(self, job: Job) -> _Plan:
        image = self._known.get(job.package.digest)
        if image is None:
            image = self._known[job.package.digest] = self._images(job.package)
        limits = checked(job, self._roomiest(job), "every node of the Swarm")
        if limits.gpus:
            lacking = f"gpus = {limits.gpus}, and a job of a Swarm is given none: runner=docker gives them"
            raise ResourceShortageError(job.name, "a Swarm", (lacking,))
        given = job.inputs
        has_secrets = given.secrets_dir is not None and given.secrets_dir.is_dir()
        config = configuration(job, image, limits, self._containers)
        return _Plan(
            name=name_of(job.package, job.folder),
            image=image,
            limits=limits,
            config=config,
            spec=spec_of(config, self._containers.constraints, has_secrets=has_secrets),
            folders=delivery.folders(given),
            secrets_dir=given.secrets_dir if has_secrets else None,
        )

    def _roomiest(self, job: Job) -> Host:
        """Return the node that lacks the least of what a job asks for."""
        wanted = resources.of(job.package.manifest)
        nothing = Host(cpus=0, memory_mb=0)
        hosts = self._engine.hosts()
        return min(hosts, key=lambda host: len(resources.shortages(wanted, host)), default=nothing)

    def _attach(self, plan: _Plan, log: Log) -> Placed | None:
        """Return the job of an earlier try if it still runs or has ended well; any other is removed."""
        found = self._engine.service(plan.name)
        if found is None:
            return None
        placed, task = Placed.of(found), self._engine.job_task(Placed.of(found).labels)
        is_same, owner = found.labels.get(SPEC) == plan.spec, found.labels.get(OWNER)
        if not is_same and not task.is_over and owner != self._attendance.owner():
            raise TransportError(plan.name, others(task))
        where = f" on {task.node}" if task.node else ""
        if is_same and _is_useful(task):
            log(f"job {plan.name} of an earlier try is {task.state}{where}: going on with it")
            return placed
        lost = ", and that node is gone" if task.is_node_gone else ""
        log(f"job {plan.name} of an earlier try is {task.state}{where}{lost}: starting anew")
        self._end(placed)
        return None

    def _start(self, plan: _Plan, job: Job, log: Log) -> Placed:
        if self._is_stopped.is_set():
            raise JobStoppedError(job.name)
        attempt = new_attempt()
        folder = f"{self._post.room(job.package.handle)}/{attempt}"
        labels = labels_of(
            job,
            plan.image,
            name=plan.name,
            owner=self._attendance.owner(),
            attempt=attempt,
            folder=folder,
            spec=plan.spec,
        )
        told = self._post.letter(job.name, folder, plan.folders, plan.secrets_dir)
        name = f"taxiway-{attempt}"
        secret = self._engine.create_secret(name, told, labels)
        try:
            service = self._engine.create_job(
                body_of(
                    job,
                    plan.image,
                    plan.limits,
                    plan.config,
                    labels=labels,
                    secret=(secret, name),
                    targets=[each.target for each in plan.folders],
                    constraints=self._containers.constraints,
                    network=self._network,
                )
            )
        except ToolFailedError as error:
            self._engine.remove_secret(secret)
            if error.exit_code == CONFLICT:
                raise TransportError(plan.name, "somebody else has just started this job") from error
            raise
        log(f"job {plan.name} of {plan.image.name} was handed to the Swarm: {plan.limits}")
        return Placed.under(service, labels)

    @contextmanager
    def _ending(self, placed: Placed, job: Job, asked: Stop, log: Log) -> Iterator[None]:
        """Remove the job when the block ends, however it does, but for a service or a disk that comes back."""
        self._running[placed.attempt] = placed
        try:
            if self._is_stopped.is_set():
                raise JobStoppedError(job.name)
            yield
        except TransportError:
            raise
        except BaseException as error:
            if workplace.is_full(error):
                raise DiskFullError(job.folder, None, shutil.disk_usage(job.folder).free) from error
            self._end_if_able(placed, log)
            if isinstance(error, ToolFailedError) and self._is_ended(asked):
                raise JobStoppedError(job.name) from error
            raise
        else:
            self._end_if_able(placed, log)
        finally:
            self._running.pop(placed.attempt, None)

    def _is_ended(self, asked: Stop) -> bool:
        return asked.is_requested or self._is_stopped.is_set()

    def _end_soon(self, placed: Placed) -> None:
        def end() -> None:
            with suppress(TaxiwayError):
                self._engine.remove_service(placed.id)

        threading.Thread(target=end, name="end of a job", daemon=True).start()

    def _end_if_able(self, placed: Placed, log: Log) -> None:
        """Remove a job that is decided: whatever keeps the Swarm or the store from it changes nothing."""
        try:
            if not self._end(placed):
                log(f"what job {placed.name} left in MLflow's artifacts is still there: they do not answer")
        except TaxiwayError as error:
            log(f"job {placed.name} could not be removed, which is left to a later one: {error}")

    def _end(self, placed: Placed) -> bool:
        """Remove a job with its letter and its results, and return whether nothing of it is left in the store."""
        self._remove(placed, END_S)
        return self._post.clear(placed.folder)

    def _remove(self, placed: Placed, within_s: float) -> None:
        """Remove a job's service and letter, and wait until no node that answers runs anything of it."""
        self._engine.remove_service(placed.id)
        for secret in self._engine.secrets({ATTEMPT: placed.attempt}):
            self._engine.remove_secret(secret)
        end_s = time.monotonic() + within_s
        while self._engine.has_tasks(placed.labels) and time.monotonic() < end_s:
            time.sleep(_LOOK_S)

    def _judge(self, job: Job, plan: _Plan, placed: Placed, tail: str, asked: Stop) -> Mapping[str, Any]:
        """Return the receipt of a job that ended well.

        Raises:
            TaxiwayError: As `run`, if it did not.
        """
        task = self._engine.job_task(placed.labels)
        if self._is_ended(asked) and task.state != "complete":
            raise JobStoppedError(job.name)
        if task.is_lost and self._engine.service(placed.id):
            raise JobLostError(job.name, task.node, task.error or f"the Swarm says {task.state}")
        if task.is_lost or not task.is_over:
            raise ToolFailedError(
                "docker service inspect", MISSING, f"{placed.name} was removed while it ran"
            )
        if task.state == "rejected":
            raise ToolFailedError(f"docker service create {placed.name}", 1, rejected(task, plan.image))
        receipt = self._post.receipt(placed.folder)
        if receipt is None:
            raise self._undelivered(job, plan, placed, task, tail)
        if receipt["out_of_memory"]:
            raise OutOfMemoryError(job.name, job.command, plan.limits.memory_mb, tail)
        if receipt["exit_code"] != 0:
            raise ComponentFailedError(job.name, job.command, receipt["exit_code"], tail)
        return receipt

    def _undelivered(self, job: Job, plan: _Plan, placed: Placed, task: JobTask, tail: str) -> TaxiwayError:
        """Return why a job left no receipt; an input that was damaged is sent anew by the next try."""
        if task.exit_code == swarm_courier.DISK_FULL:
            return DiskFullError(Path(f"{task.node}:{delivery.ROOT}"), None, 0)
        if task.exit_code == 128 + signal.SIGKILL and plan.limits.memory_mb:
            # The limit is the courier's, too, and nobody in the container may end it.
            return OutOfMemoryError(job.name, job.command, plan.limits.memory_mb, tail)
        if task.exit_code not in {0, swarm_courier.UNDELIVERED, swarm_courier.CHANGED, None}:
            return ComponentFailedError(job.name, job.command, exit_code_of(task), tail)
        if task.exit_code == swarm_courier.CHANGED:
            self._post.doubt(placed.folder, delivery.folders(job.inputs))
        return ToolFailedError(f"the delivery of {job.name} on {task.node}", task.exit_code or 0, tail)


def _is_useful(task: JobTask) -> bool:
    return not task.is_over or task.state == "complete"


def _trace(job: Job, plan: _Plan) -> Trace:
    unseen = ["it ran on a node of a Swarm, in a network"]
    if job.package.manifest.get("dockerfile"):
        unseen.append("its image is made by a Dockerfile of its own, which may hold more than the lock says")
    return Trace(
        source_hash=job.package.source_hash,
        method="mounts",
        read=delivery.read_counts(plan.folders),
        unseen=tuple(unseen),
    )
