"""Holds what a component asks for against what a host has, before anything is started there."""

import os

from taxiway.errors import ResourceShortageError
from taxiway.project import resources
from taxiway.project.resources import Host, Resources
from taxiway.runners.runner import Job, Log

_MIB = 2**20


def checked(job: Job, host: Host, where: str) -> Resources:
    """Return what a job may use.

    Raises:
        ResourceShortageError: If the host has less than it asks for.
    """
    wanted = resources.of(job.package.manifest)
    lacking = resources.shortages(wanted, host)
    if lacking:
        raise ResourceShortageError(job.name, where, tuple(lacking))
    return wanted


def announce(job: Job, log: Log) -> None:
    """Check a job that runs as processes of this host, and say that its limits are not held there.

    Raises:
        ResourceShortageError: If this host has less than it asks for.
    """
    if "resources" in job.package.manifest:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        wanted = checked(job, Host(cpus=os.cpu_count() or 1, memory_mb=pages // _MIB), "this host")
        log(f"{job.name} may use {wanted}: as processes nothing holds it to that, runner=docker does")
