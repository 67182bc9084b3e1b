"""Runs the components of a model project: `runner.py` says what a runner is, each other module is one."""

from typing import Any

from taxiway import engine
from taxiway.engine import Engine
from taxiway.errors import InvalidSpecError
from taxiway.registry import packages
from taxiway.runners.docker import DockerRunner
from taxiway.runners.process import ProcessRunner
from taxiway.runners.runner import Inputs, Job, JobResult, Log, Runner
from taxiway.runners.stop import Stop
from taxiway.runners.warm import WarmRunner
from taxiway.settings import Settings

__all__ = [
    "RUNNERS",
    "DockerRunner",
    "Inputs",
    "Job",
    "JobResult",
    "ProcessRunner",
    "Runner",
    "Stop",
    "WarmRunner",
    "containers",
    "kept_warm",
    "named",
    "on_this_host",
]


RUNNERS = ("process", "docker")


def on_this_host(settings: Settings) -> Runner:
    """Return the runner that the settings name, `process` unless they say otherwise."""
    return named(settings.runner, settings)


def named(name: str, settings: Settings) -> Runner:
    """Return a runner by its name: `process` runs components on this host, `docker` in containers of its engine.

    Raises:
        InvalidSpecError: If there is no such runner.
        TransportError: If the engine does not answer.
    """
    if name == "process":
        return ProcessRunner(lambda package: packages.materialise(package, settings))
    if name == "docker":
        return containers(settings, engine.connect(settings.containers))
    raise InvalidSpecError((f"no runner {name!r}; known: {', '.join(RUNNERS)}",), "TAXIWAY_RUNNER")


def containers(settings: Settings, client: Any, log: Log = print) -> DockerRunner:
    """Return the runner of containers on the engine behind a client, which brings images from the registry.

    Args:
        settings: Where everything is.
        client: A `docker.APIClient`.
        log: Called with a line for each step of making an image.
    """
    found = Engine(client, settings.containers.url)
    return DockerRunner(
        found,
        lambda package: packages.image(package, found, settings, log),
        settings.containers,
        settings.home,
    )


def kept_warm(settings: Settings, log: Log, seed: int | None = None) -> WarmRunner:
    """Return the runner of many jobs of one package and seed on this host; close it when they are done."""
    return WarmRunner(
        lambda package: packages.materialise(package, settings), settings.home / "warm", log, seed
    )
