"""Runs the components of a model project: `runner.py` says what a runner is, each other module is one."""

from typing import Any

from taxiway import engine
from taxiway.engine import Engine
from taxiway.errors import InvalidSpecError
from taxiway.registry import packages, tracking
from taxiway.runners.docker import DockerRunner
from taxiway.runners.process import ProcessRunner
from taxiway.runners.runner import Inputs, Job, JobResult, Log, Runner
from taxiway.runners.stop import Stop
from taxiway.runners.swarm import SwarmRunner
from taxiway.runners.swarm_engine import JobEngine
from taxiway.runners.swarm_post import Post, reachable
from taxiway.runners.swarm_store import JobStore
from taxiway.runners.warm import WarmRunner
from taxiway.settings import Settings, tracking_authorization

__all__ = [
    "RUNNERS",
    "DockerRunner",
    "Inputs",
    "Job",
    "JobResult",
    "ProcessRunner",
    "Runner",
    "Stop",
    "SwarmRunner",
    "WarmRunner",
    "containers",
    "jobs",
    "kept_warm",
    "named",
    "on_engine",
    "on_this_host",
]


RUNNERS = ("process", "docker", "swarm")


def on_this_host(settings: Settings) -> Runner:
    """Return the runner that the settings name, `process` unless they say otherwise."""
    return named(settings.runner, settings)


def named(name: str, settings: Settings) -> Runner:
    """Return a runner by its name.

    Args:
        name: `process` runs components on this host, `docker` in containers of its engine, `swarm` as jobs of the Swarm
            that the engine manages.
        settings: Where everything is.

    Raises:
        InvalidSpecError: If there is no such runner.
        TransportError: If the engine does not answer.
    """
    if name == "process":
        return ProcessRunner(lambda package: packages.materialise(package, settings))
    if name in RUNNERS:
        return on_engine(name, settings, engine.connect(settings.containers))
    raise InvalidSpecError((f"no runner {name!r}; known: {', '.join(RUNNERS)}",), "TAXIWAY_RUNNER")


def on_engine(name: str, settings: Settings, client: Any, log: Log = print) -> DockerRunner | SwarmRunner:
    """Return the runner `docker` or `swarm` on the engine behind a client; arguments as `containers`."""
    return (jobs if name == "swarm" else containers)(settings, client, log)


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


def jobs(settings: Settings, client: Any, log: Log = print) -> SwarmRunner:
    """Return the runner of jobs of the Swarm that the engine behind a client manages; arguments as `containers`.

    Raises:
        InvalidSpecError: If MLflow's address is one that no container reaches.
    """
    found, authorization = (
        JobEngine(client, settings.containers.url),
        tracking_authorization(settings.tracking_uri),
    )
    store, home = JobStore(settings.tracking_uri, authorization), settings.home / "swarm"
    post = Post(
        store,
        authorization,
        reachable(settings.containers.tracking_uri or store.address),
        home,
        lambda handle: tracking.ensure_experiment(handle, settings),
    )
    return SwarmRunner(
        found,
        lambda package: packages.image(package, found, settings, log),
        post,
        settings.containers,
        home,
    )


def kept_warm(settings: Settings, log: Log, seed: int | None = None) -> WarmRunner:
    """Return the runner of many jobs of one package and seed on this host; close it when they are done."""
    return WarmRunner(
        lambda package: packages.materialise(package, settings), settings.home / "warm", log, seed
    )
