"""One world for the whole path, with its first version live: made once, since that is what takes the time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from taxiway.registry import models
from taxiway.trial.samples import keep_samples
from taxiway.trial.services import HANDLE
from tests.path.world import DagRun, World


@pytest.fixture(scope="session")
def world(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(root, tmp_path_factory.mktemp("world"))
    try:
        made.open()
        yield made
    finally:
        made.close()
        made.end_variants()


@pytest.fixture(scope="session")
def first_run(world: World) -> DagRun:
    """The first DAG run: trains, and brings version 1 live with no older version beside it."""
    run = world.run_dag(trials=0)
    assert run.state == "success", run.log[-6000:]
    keep_samples(Path(run.result("transform")["path"]), world.layout.samples)
    return run


@pytest.fixture(scope="session")
def second_run(world: World, first_run: DagRun) -> DagRun:
    """The same DAG run again, with nothing changed."""
    return world.run_dag(trials=0)


@pytest.fixture(scope="session")
def tuned_run(world: World, second_run: DagRun) -> DagRun:
    """A tuned version, rolled out by canary under traffic."""
    with world.traffic() as load:
        run = world.run_dag(trials=3)
    assert load.counts.failed == 0
    promoted = run.result("traffic")["version"]
    assert models.get(HANDLE, models.CHAMPION, world.settings).version == promoted
    return run


@pytest.fixture(scope="session")
def tuned_again(world: World, tuned_run: DagRun) -> DagRun:
    """The tuned DAG run again, with nothing changed."""
    return world.run_dag(trials=3)


@pytest.fixture(scope="session")
def recoded_run(world: World, tuned_again: DagRun) -> DagRun:
    """The same model under new inference code, switched to as blue-green does."""
    world.change_project("service.py", lambda text: text + "\n# Another comment is other code.\n")
    with world.traffic() as load:
        run = world.run_dag(trials=3, strategy="blue_green")
    assert load.counts.failed == 0
    return run


@pytest.fixture(scope="session")
def refused_run(world: World, recoded_run: DagRun) -> DagRun:
    """A DAG run whose model is below a bar that was raised."""
    world.change_project("pyproject.toml", lambda text: text.replace("accuracy = 0.8", "accuracy = 0.999"))
    try:
        return world.run_dag(trials=3)
    finally:
        world.change_project(
            "pyproject.toml", lambda text: text.replace("accuracy = 0.999", "accuracy = 0.8")
        )
