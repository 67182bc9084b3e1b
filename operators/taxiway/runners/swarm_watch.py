"""Watches one job of a Swarm: where it stands, and each line that it prints, once."""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from taxiway.engine import Printed
from taxiway.errors import TransportError
from taxiway.packaging.image import Image
from taxiway.runners.runner import Log
from taxiway.runners.swarm_engine import JobEngine, JobTask
from taxiway.runners.swarm_service import ATTEMPT, FOLDER, NAME
from taxiway_serving.runtimes.swarm_engine import Service

LOOK_S = 0.5
LAST_LOOKS = 6
"""How often the log of a job that is over is asked for where its node does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A job's service.

    Attributes:
        id: The manager's id.
        name: Its name.
        attempt: What names its letter and its tasks.
        folder: Where its results go in the artifact store.
    """

    id: str
    name: str
    attempt: str
    folder: str

    @classmethod
    def of(cls, found: Service) -> "Placed":
        """Return a job's service that was found."""
        return cls.under(found.id, found.labels)

    @classmethod
    def under(cls, service: str, labels: Mapping[str, str]) -> "Placed":
        """Return a job's service that carries these labels."""
        return cls(id=service, name=labels[NAME], attempt=labels[ATTEMPT], folder=labels[FOLDER])

    @property
    def labels(self) -> dict[str, str]:
        """Labels by which its tasks and its letter are found."""
        return {ATTEMPT: self.attempt}


def lines(engine: JobEngine, placed: Placed, log: Log) -> Iterator[str]:
    """Give each line that a job prints until it is over or removed; `log` hears where it stands.

    Raises:
        TransportError: If the manager does not answer.
    """
    printed, told, looks = Printed(), "", 0
    while True:
        task = engine.job_task(placed.labels)
        standing = said_of(task)
        if standing and standing != told:
            log(f"job {placed.name} {standing}")
            told = standing
        is_whole = False
        if not task.has_begun or task.is_node_gone:
            is_whole = not task.has_begun
        else:
            with suppress(TransportError):
                yield from printed.lines(engine.log_pieces(placed.id, printed.since_s))
                is_whole = True
        looks += task.is_over
        if looks and (is_whole or looks >= LAST_LOOKS or task.is_node_gone):
            break
        if not task.is_over and engine.service(placed.id) is None:
            break
        time.sleep(LOOK_S)
    yield from printed.rest()
    if not is_whole:
        log(f"the end of the log is on {task.node}, which does not answer")


def said_of(task: JobTask) -> str:
    """Return what there is to say of where a task stands, "" for nothing."""
    if task.has_begun:
        return f"is on {task.node}"
    return f"waits: {task.error}" if task.state == "pending" and task.error else ""


def rejected(task: JobTask, image: Image) -> str:
    """Return why a node did not take a task."""
    if "No such image" not in task.error:
        return f"{task.node} refused it: {task.error}"
    return (
        f"{task.node} does not have the image {image.name} ({image.id}): set TAXIWAY_IMAGE_REGISTRY to a registry that "
        "every node reaches, or bring it there with docker save and docker load"
    )


def others(task: JobTask) -> str:
    """Return why a job under way is left to another host."""
    return (
        f"another TAXIWAY_HOME has a job of this name that is {task.state}, and it is not this one; it must end first, "
        "by itself or by docker service rm"
    )
