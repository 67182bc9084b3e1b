"""Fixtures of the tests with a real Docker engine, beside those of `tests/projects.py`: MLflow, projects and datasets.

The engine is the one of DOCKER_HOST or of Docker's own socket. Where none answers the tests are skipped; with
TAXIWAY_TESTS_NEED_DOCKER=1, as in CI, they fail.
"""

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from taxiway import engine as engines
from taxiway.engine import Engine
from taxiway.packaging import CodePackage, package
from taxiway.packaging.environment import Lock
from taxiway.packaging.image import Image, build
from taxiway.registry import packages
from taxiway.runners import DockerRunner, Inputs, Job, Stop
from taxiway.runners import containers as runner_of
from taxiway.settings import Containers, Settings
from tests.containers import base_image

BASE_IMAGE = f"taxiway-tests/python-{base_image.RECIPE}:{{python}}"
URL = os.environ.get("DOCKER_HOST") or Containers().url


@pytest.fixture(scope="session")
def client() -> Iterator[Any]:
    """Return a client of the engine, with the base image on it."""
    if not _listens(URL):
        if os.environ.get("TAXIWAY_TESTS_NEED_DOCKER"):
            pytest.fail(f"TAXIWAY_TESTS_NEED_DOCKER is set, and no Docker engine answers at {URL}")
        pytest.skip(f"no Docker engine answers at {URL}")
    found = engines.connect(Containers(url=URL))
    base = BASE_IMAGE.format(python=base_image.VERSION)
    base_image.make(found, base)
    yield found
    # The base and the environments stay: the next session is faster by them.
    for image in found.images(filters={"label": [f"taxiway.base={base}", "taxiway.handle"]}):
        found.remove_image(image["Id"], force=True)
    found.close()


def _listens(url: str) -> bool:
    """Ask with a plain socket: the SDK leaves one open where nobody answers, which is a warning and so an error."""
    scheme, _, rest = url.partition("://")
    family = socket.AF_UNIX if scheme == "unix" else socket.AF_INET
    address = rest if scheme == "unix" else (rest.rpartition(":")[0], int(rest.rpartition(":")[2]))
    with socket.socket(family) as probe:
        return probe.connect_ex(address) == 0


@pytest.fixture(scope="session")
def engine(client: Any) -> Engine:
    """Return the engine."""
    return Engine(client, URL)


@pytest.fixture
def boxed(live: Settings, client: Any) -> Iterator[Settings]:
    """Return settings of a home of the test's own whose components run in containers; nothing of them is left."""
    settings = replace(live, runner="docker", containers=Containers(url=URL, base_image=BASE_IMAGE))
    yield settings
    runner_of(settings, client).reap(older_than_s=0)


@pytest.fixture
def runner(boxed: Settings, client: Any) -> DockerRunner:
    """Return a runner of containers."""
    return runner_of(boxed, client)


def registered(folder: Path, settings: Settings, kinds: Sequence[str] | None = None) -> None:
    """Package components of a project, all unless some are named, and register them."""
    packages.register(package(str(folder), settings, kinds=kinds, log=silent), settings)


def silent(_line: str) -> None:
    return None


def plain_package(manifest: dict[str, Any]) -> CodePackage:
    """Return a package that nobody registered, for a runner that asks no registry."""
    return CodePackage(
        handle="tiny",
        kind="training",
        digest="d" * 64,
        source_hash="0" * 64,
        lock_hash="",
        python=base_image.VERSION,
        manifest=manifest,
    )


@pytest.fixture(scope="session")
def plain_image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Return an image of an environment with nothing in it, and no source."""
    containers = Containers(url=URL, base_image=BASE_IMAGE)
    return built_plain(engine, containers, tmp_path_factory.mktemp("images"))


def built_plain(engine: Engine, containers: Containers, home: Path) -> Image:
    """Build an image of an environment with nothing in it, and no source."""
    (home / "source").mkdir()
    settings = Settings(home=home, data_repository=home, containers=containers)
    package = plain_package({})
    return build(package, home / "source", Lock(text="", python=package.python), engine, settings, silent)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Job]:
    """Return a function that makes a job of a few lines of Python."""

    def made(script: str, *, inputs: Inputs | None = None, name: str = "job", **manifest: Any) -> Job:
        package = plain_package({"command": "python -c {script}", "threads": 1, **manifest})
        return Job(
            package=package, folder=tmp_path / name, inputs=inputs or Inputs(), params={"script": script}
        )

    return made


@pytest.fixture
def bare(tmp_path: Path, plain_image: Image, engine: Engine) -> Iterator[DockerRunner]:
    """Return a runner that needs no registry: every package's image is the plain one."""
    made = bare_runner(tmp_path, plain_image, engine)
    yield made
    made.stop()
    made.reap(0)


def bare_runner(tmp_path: Path, image: Image, engine: Engine, **containers: Any) -> DockerRunner:
    return DockerRunner(engine, lambda _: image, Containers(url=URL, **containers), tmp_path / "home")


def containers_of(engine: Engine, runner: DockerRunner) -> list[str]:
    """Return the names of the containers that a runner's home has on the engine."""
    owner = runner._attendance.owner()
    return [found.name for found in engine.containers({"taxiway.owner": owner})]


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A job that runs in a thread of its own: what was heard of it, what asks for its end, and how it failed then."""

    lines: list[str]
    stop: Stop
    ends: list[BaseException]


@contextmanager
def begun(runner: DockerRunner, job: Job, until: Callable[..., None], word: str = "begun") -> Iterator[Begun]:
    """Run a job that says a word when it has begun, and wait for its end after the block, which sees to it."""
    found = Begun(lines=[], stop=Stop(), ends=[])
    thread = threading.Thread(
        target=lambda: found.ends.append(caught(lambda: runner.run(job, found.lines.append, found.stop)))
    )
    thread.start()
    try:
        until(lambda: word in found.lines, 120)
        yield found
    except BaseException:
        found.stop.request()
        raise
    finally:
        thread.join(120)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Have a disk of memory at a folder while the block lasts; only root may."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def caught(act: Callable[[], object]) -> BaseException:
    """Return how something failed, for a thread to hand to its test."""
    try:
        act()
    except Exception as error:  # noqa: BLE001
        return error
    raise AssertionError("it ended well")
