"""What a job must be on an engine: as a container of its own, or as a service of a Swarm. Nothing is started here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taxiway.packaging.image import Image
from taxiway.project.resources import Resources
from taxiway.runners import delivery
from taxiway.runners.configuration import configuration
from taxiway.runners.runner import Job
from taxiway.settings import Containers
from taxiway.tools import digest
from taxiway.trace import Trace

JOB: Final = "taxiway.job"
OWNER: Final = "taxiway.owner"
SPEC: Final = "taxiway.spec"
GRACE_S: Final = 2.0
"""Seconds between asking a component to end and ending it."""
ORPHAN_S: Final = 3_600.0
"""Seconds that a job nobody attends to is kept for a retry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a job must be.

    Attributes:
        job: The job.
        name: Its name, which is the job's identity on the engine.
        image: What it runs in.
        limits: What it may use.
        config: What it is as a container, in the words of the engine's API, without labels and mounts.
        spec: Hash of what it must be: what an earlier try left of another one is not the job's.
        folders: What it reads.
        secrets_dir: Its secret files, or None.
    """

    job: Job
    name: str
    image: Image
    limits: Resources
    config: Mapping[str, Any]
    spec: str
    folders: tuple[delivery.Folder, ...]
    secrets_dir: Path | None

    @classmethod
    def of(
        cls, job: Job, name: str, image: Image, limits: Resources, containers: Containers, *more: object
    ) -> "Plan":
        """Return what a job must be; `more` is what else its runner wants of it, as JSON values."""
        config = configuration(job, image, limits, containers)
        secrets_dir = delivery.secrets_of(job.inputs)
        return cls(
            job=job,
            name=name,
            image=image,
            limits=limits,
            config=config,
            spec=digest([config, *more, secrets_dir is not None]),
            folders=delivery.folders(job.inputs),
            secrets_dir=secrets_dir,
        )

    def labels(self, owner: str) -> dict[str, str]:
        """Return the labels by which it is found again, and known to be what it should be.

        Args:
            owner: What tells this home from any other.
        """
        package = self.job.package
        return owned_by(owner) | {
            SPEC: self.spec,
            "taxiway.handle": package.handle,
            "taxiway.kind": package.kind,
            "taxiway.digest": package.digest,
            "taxiway.image": self.image.name,
        }

    def trace(self, unseen: Iterable[str]) -> Trace:
        """Return what is known of the job's run, which could read what was mounted.

        Args:
            unseen: Where it may have read more, in words.
        """
        package = self.job.package
        by_dockerfile = "its image is made by a Dockerfile of its own, which may hold more than the lock says"
        return Trace(
            source_hash=package.source_hash,
            method="mounts",
            read=delivery.read_counts(self.folders),
            unseen=(*((by_dockerfile,) if package.manifest.get("dockerfile") else ()), *unseen),
        )


def owned_by(owner: str) -> dict[str, str]:
    """Return the labels of everything that the jobs of a home have on an engine."""
    return {JOB: "true", OWNER: owner}
