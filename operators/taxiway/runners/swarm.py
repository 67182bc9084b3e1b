"""Runs a component as a job of a Docker Swarm, on any node that has room: one service however often it is tried.

The nodes share no disk with this host: what a job reads and leaves travels through MLflow's artifact store, see
`swarm_post.py`. What a service is lies in `swarm_service.py`; the Swarm is spoken to in `swarm_engine.py`.
"""

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from taxiway.engine import CONFLICT, MISSING, exit_code
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
from taxiway.project.resources import Host
from taxiway.runners import delivery, swarm_courier, workplace
from taxiway.runners.attendance import Attendance
from taxiway.runners.following import Following, end_soon
from taxiway.runners.limits import checked
from taxiway.runners.plan import GRACE_S, ORPHAN_S, OWNER, SPEC, Plan, owned_by
from taxiway.runners.runner import Job, JobResult, Log
from taxiway.runners.stop import Stop
from taxiway.runners.swarm_engine import JobEngine, JobTask
from taxiway.runners.swarm_post import Post, new_attempt
from taxiway.runners.swarm_service import ATTEMPT, NAME, body_of, labels_of, name_of
from taxiway.runners.swarm_watch import Placed, lines, others, rejected
from taxiway.settings import Containers
from taxiway.tools import remove

END_S = 15.0
"""Seconds that a node has to end a job's task; one that takes longer is left to the Swarm."""
_LOOK_S = 0.1


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
        self._following = Following()
        self._known: dict[str, Image] = {}

    def prepare(self, package: CodePackage) -> None:
        """Make the image of a package ready, and remove orphans; see `Runner.prepare`."""
        with self._engine.at_rest_after():
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
        with self._engine.at_rest_after():
            return self._run(job, log, stop or Stop())

    def _run(self, job: Job, log: Log, asked: Stop) -> JobResult:
        started, plan = time.monotonic(), self._plan(job)
        with self._attendance.of(plan.name):
            remove(job.folder)
            job.folder.mkdir(parents=True)
            placed = self._attach(plan, log) or self._start(plan, log)
            end, clear = partial(self._remove, placed), partial(self._end_if_able, placed, log)
            with self._following.to_the_end(job, asked, end=end, remove=clear):
                with asked.calling(lambda: end_soon(lambda: self._engine.remove_service(placed.id))):
                    tail = workplace.follow(lines(self._engine, placed, log), job, log)
                receipt = self._judge(plan, placed, tail, asked)
                self._post.collect(placed.folder, receipt, job.output_dir)
        trace = plan.trace(("it ran on a node of a Swarm, in a network",))
        return JobResult(output_dir=job.output_dir, seconds=time.monotonic() - started, trace=trace)

    def is_known(self, package: CodePackage, folder: Path) -> bool:
        """Tell whether the job of an earlier try still runs or has ended well; see `Runner.is_known`."""
        with self._engine.at_rest_after():
            found = self._engine.service(name_of(package, folder))
            return found is not None and _is_useful(self._engine.job_task(Placed.of(found).labels))

    def forget(self, package: CodePackage, folder: Path) -> None:
        """Remove the job of an earlier try unless somebody attends to it; see `Runner.forget`."""
        name = name_of(package, folder)
        with self._engine.at_rest_after(), self._attendance.if_alone(name) as alone_s:
            found = self._engine.service(name) if alone_s is not None else None
            if found is not None:
                self._end(Placed.of(found))
            self._attendance.forget(name)

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Remove every job that this runner follows; its `run` calls then end with JobStoppedError.

        Args:
            grace_s: Seconds to wait for their ends; the Swarm ends them in any case.
        """
        self._following.end_all(grace_s)

    def reap(self, older_than_s: float = ORPHAN_S) -> tuple[str, ...]:
        """Remove jobs of this home that nobody has attended to for so long, and return their names.

        One that is seen alone for the first time is only marked, unless `older_than_s` is 0. What no job needs any
        more goes as well: letters of jobs that were never made, and inputs that nobody has used for days.
        """
        owned = owned_by(self._attendance.owner())
        placed = {each.name: Placed.of(each) for each in self._engine.services(owned)}
        gone = self._attendance.reap(placed, older_than_s, self._end)
        for secret, labels in self._engine.secrets(owned).items():
            with self._attendance.if_alone(labels[NAME]) as alone_s:
                if alone_s is not None and self._engine.service(labels[NAME]) is None:
                    self._engine.remove_secret(secret)
                    self._attendance.forget(labels[NAME])
        self._post.tidy()
        return gone

    def _plan(self, job: Job) -> Plan:
        image = self._known.get(job.package.digest)
        if image is None:
            image = self._known[job.package.digest] = self._images(job.package)
        limits = checked(job, self._roomiest(job), "every node of the Swarm")
        if limits.gpus:
            lacking = f"gpus = {limits.gpus}, and a job of a Swarm is given none: runner=docker gives them"
            raise ResourceShortageError(job.name, "a Swarm", (lacking,))
        name, constraints = name_of(job.package, job.folder), list(self._containers.constraints)
        return Plan.of(job, name, image, limits, self._containers, constraints)

    def _roomiest(self, job: Job) -> Host:
        """Return the node that lacks the least of what a job asks for."""
        wanted = resources.of(job.package.manifest)
        nothing = Host(cpus=0, memory_mb=0)
        hosts = self._engine.hosts()
        return min(hosts, key=lambda host: len(resources.shortages(wanted, host)), default=nothing)

    def _attach(self, plan: Plan, log: Log) -> Placed | None:
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

    def _start(self, plan: Plan, log: Log) -> Placed:
        job, attempt = plan.job, new_attempt()
        self._following.refuse_if_over(job)
        folder = f"{self._post.room(job.package.handle)}/{attempt}"
        labels = labels_of(plan, owner=self._attendance.owner(), attempt=attempt, folder=folder)
        told = self._post.letter(job.name, folder, plan.folders, plan.secrets_dir)
        name = f"taxiway-{attempt}"
        secret = self._engine.create_secret(name, told, labels)
        try:
            body = body_of(
                plan,
                labels=labels,
                secret=(secret, name),
                constraints=self._containers.constraints,
                network=self._network,
            )
            service = self._engine.create_job(body)
        except ToolFailedError as error:
            self._engine.remove_secret(secret)
            if error.exit_code == CONFLICT:
                raise TransportError(plan.name, "somebody else has just started this job") from error
            raise
        log(f"job {plan.name} of {plan.image.name} was handed to the Swarm: {plan.limits}")
        return Placed.under(service, labels)

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

    def _judge(self, plan: Plan, placed: Placed, tail: str, asked: Stop) -> Mapping[str, Any]:
        """Return the receipt of a job that ended well.

        Raises:
            TaxiwayError: As `run`, if it did not.
        """
        job, task = plan.job, self._engine.job_task(placed.labels)
        if self._following.is_ended(asked) and task.state != "complete":
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
            raise self._undelivered(plan, placed, task, tail)
        if receipt["out_of_memory"]:
            raise OutOfMemoryError(job.name, job.command, plan.limits.memory_mb, tail)
        if receipt["exit_code"] != 0:
            raise ComponentFailedError(job.name, job.command, receipt["exit_code"], tail)
        return receipt

    def _undelivered(self, plan: Plan, placed: Placed, task: JobTask, tail: str) -> TaxiwayError:
        """Return why a job left no receipt; an input that was damaged is sent anew by the next try."""
        job = plan.job
        if task.exit_code == swarm_courier.DISK_FULL:
            return DiskFullError(Path(f"{task.node}:{delivery.ROOT}"), None, 0)
        if task.exit_code == 128 + signal.SIGKILL and plan.limits.memory_mb:
            # The limit is the courier's, too, and nobody in the container may end it.
            return OutOfMemoryError(job.name, job.command, plan.limits.memory_mb, tail)
        if task.exit_code not in {0, swarm_courier.UNDELIVERED, swarm_courier.CHANGED, None}:
            return ComponentFailedError(job.name, job.command, exit_code(task.exit_code or 0), tail)
        if task.exit_code == swarm_courier.CHANGED:
            self._post.doubt(placed.folder, plan.folders)
        return ToolFailedError(f"the delivery of {job.name} on {task.node}", task.exit_code or 0, tail)


def _is_useful(task: JobTask) -> bool:
    return not task.is_over or task.state == "complete"
