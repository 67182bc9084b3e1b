"""The rules of a component's table `resources` and of its keys `dockerfile` and `image`. Nothing is limited here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from taxiway.project.plain import is_number, is_whole

KEYS = frozenset({"cpus", "memory_mb", "pids", "gpus"})
LEAST_MEMORY_MB = 16
DEFAULT_PIDS = 1024
"""Enough for every data loader, and no fork bomb."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a component may use at most.

    Attributes:
        cpus: Processors, parts of one too; None is every one that the host has.
        memory_mb: Memory in MiB, no swap; None is what the host has.
        pids: Processes and threads.
        gpus: GPUs; -1 is every one that the host has.
    """

    cpus: float | None = None
    memory_mb: int | None = None
    pids: int = DEFAULT_PIDS
    gpus: int = 0

    def __str__(self) -> str:
        cpus = "all" if self.cpus is None else f"{self.cpus:g}"
        memory = "all" if self.memory_mb is None else f"{self.memory_mb} MB"
        gpus = "all" if self.gpus < 0 else str(self.gpus)
        return f"cpus {cpus}, memory {memory}, processes {self.pids}, gpus {gpus}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What a host has: processors and memory in MiB."""

    cpus: int
    memory_mb: int


def of(manifest: Mapping[str, Any]) -> Resources:
    """Return what the manifest of a code package allows; a table that is not there is the defaults."""
    return Resources(**manifest.get("resources", {}))


def shortages(wanted: Resources, host: Host) -> list[str]:
    """Return what a host lacks, before anything is started on it. GPUs are not counted: only a start shows them."""
    found = []
    if wanted.cpus is not None and wanted.cpus > host.cpus:
        found.append(f"cpus = {wanted.cpus:g}, and the host has {host.cpus}")
    if wanted.memory_mb is not None and wanted.memory_mb > host.memory_mb:
        found.append(f"memory_mb = {wanted.memory_mb}, and the host has {host.memory_mb}")
    return found


def faults(table: Mapping[str, Any], where: str) -> list[str]:
    """Return what is wrong with a table `resources`.

    Args:
        table: The table.
        where: Its component, such as `[tool.taxiway.training]`.
    """
    known = ", ".join(sorted(KEYS))
    found = [
        f"{where}.resources has an unknown key {key!r}; known: {known}" for key in sorted(set(table) - KEYS)
    ]
    cpus, memory, pids, gpus = (table.get(key) for key in ("cpus", "memory_mb", "pids", "gpus"))
    if cpus is not None and not (is_number(cpus) and cpus >= 0.01):
        found.append(f"{where}.resources.cpus must be a number from 0.01, got {cpus!r}")
    if memory is not None and not (is_whole(memory) and memory >= LEAST_MEMORY_MB):
        found.append(
            f"{where}.resources.memory_mb must be a whole number from {LEAST_MEMORY_MB}, got {memory!r}"
        )
    if pids is not None and not (is_whole(pids) and pids >= 1):
        found.append(f"{where}.resources.pids must be a whole number from 1, got {pids!r}")
    if gpus is not None and not (is_whole(gpus) and gpus >= -1):
        found.append(f"{where}.resources.gpus must be a whole number from 0, or -1 for all, got {gpus!r}")
    return found


def dockerfile_faults(name: Any, files: tuple[str, ...], where: str) -> list[str]:
    """Return what is wrong with the name of a component's own Dockerfile.

    Args:
        name: What the key says; None where there is none.
        files: The component's files, which it must be among: it is part of what is hashed and registered.
        where: Its component.
    """
    if name is None:
        return []
    if not isinstance(name, str) or not name.strip():
        return [f"{where}.dockerfile must be a text, got {name!r}"]
    if PurePosixPath(name).as_posix() not in files:
        return [f"{where}.dockerfile names {name}, which is not among its files"]
    return []


def image_faults(table: Mapping[str, Any], where: str) -> list[str]:
    """Return what is wrong with an image that serves as it is.

    Args:
        table: The component's table.
        where: Its component.
    """
    name = table.get("image")
    if name is None:
        return []
    if not isinstance(name, str) or not name.strip() or any(letter.isspace() for letter in name):
        return [f"{where}.image must be the name of an image, got {name!r}"]
    if "dockerfile" in table:
        return [f"{where} has an image and a dockerfile; leave one of them out"]
    return []
