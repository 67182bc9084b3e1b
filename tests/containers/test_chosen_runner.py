"""A task asks the engine through the provider's hook, whichever runner it names; no Swarm is needed for that."""

import pytest

from taxiway.operators.train import TrainOperator
from taxiway.runners import DockerRunner, SwarmRunner
from tests.containers.conftest import URL


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.usefixtures("airflow_home", "client")
@pytest.mark.parametrize(("name", "kind"), [("docker", DockerRunner), ("swarm", SwarmRunner)])
def test_task_gets_the_runner_that_it_names(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: type[DockerRunner | SwarmRunner]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", URL)
    monkeypatch.setenv("TAXIWAY_CONTAINER_TRACKING_URI", "http://mlflow:5000")
    task = TrainOperator(task_id="train", handle="digits", dataset={}, runner=name)
    found = task.component_runner()
    assert isinstance(found, kind)
    task.on_kill()
    found._engine.rest()
