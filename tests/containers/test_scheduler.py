"""With a real scheduler: a task that loses its worker goes on with its container, a killed one takes it along."""

import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from taxiway.datasets import DatasetVersion
from taxiway.engine import Engine
from taxiway.settings import Settings
from taxiway.trial.airflow_api import AirflowApi
from taxiway.trial.layout import Layout, choose_ports
from taxiway.trial.services import Addresses, Services
from taxiway.trial.supervisor import Service, Supervisor
from tests.containers.conftest import BASE_IMAGE, URL, registered, silent
from tests.ports import keep_ports

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1_800)]
Until = Callable[..., None]

DAG_ID = "boxed"
DAG_FILE = """
from airflow.sdk import DAG
from taxiway.operators.train import TrainOperator

with DAG("boxed", params={{"c": 0.5}}, render_template_as_native_obj=True):
    TrainOperator(
        task_id="train", handle={handle!r}, dataset={dataset!r}, parameters={{"c": "{{{{ params.c }}}}"}},
        runner="docker", retries=1, retry_delay=1,
    )
"""
# It waits for a file inside its own container, where nobody but the engine can put one.
WAITING = """
import json, os, pathlib, time
print("begun", flush=True)
while not pathlib.Path("/tmp/go").exists():
    time.sleep(0.1)
output = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
(output / "model").mkdir()
(output / "model" / "weights.json").write_text(os.environ["TAXIWAY_PARAMS"])
(output / "metrics.json").write_text(json.dumps({"score": 1.0}))
"""


class Airflow:
    """An Airflow with a LocalExecutor and one DAG."""

    def __init__(self, folder: Path, root: Path, settings: Settings) -> None:
        self.layout = Layout(checkout=root, home=folder)
        self.layout.make()
        keep_ports(self.layout)
        self.addresses = Addresses(ports=choose_ports(self.layout.ports_file))
        self.supervisor = Supervisor(self.layout.processes_file, self.layout.logs, say=silent)
        self._services = Services(self.layout, self.addresses, "token", os.environ)
        self._ours = {
            # One for all three processes: `airflow db migrate` would have written it into their home.
            "AIRFLOW__API_AUTH__JWT_SECRET": "s" * 64,
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            "DOCKER_HOST": URL,
            "MLFLOW_TRACKING_URI": settings.tracking_uri,
            "TAXIWAY_BASE_IMAGE": BASE_IMAGE,
            "TAXIWAY_DATA_REMOTE": str(settings.data_remote),
            "TAXIWAY_DATA_REPOSITORY": str(settings.data_repository),
            "TAXIWAY_HOME": str(settings.home),
        }

    def start(self, database: Path, dag: str) -> AirflowApi:
        shutil.copy(database, self.layout.airflow / database.name)
        (self.layout.bundle / "dags").mkdir(parents=True)
        (self.layout.bundle / "dags" / "boxed.py").write_text(dag)
        made = (
            self._services.airflow_api,
            self._services.airflow_scheduler,
            self._services.airflow_dag_processor,
        )
        services: list[Service] = [service() for service in made]
        for service in services:
            self.supervisor.start(replace(service, environment={**service.environment, **self._ours}))
        self.supervisor.wait_ready([service.name for service in services], deadline_s=400)
        return AirflowApi(self.addresses.url("airflow"))

    def fail_task(self, run_id: str) -> None:
        path = f"/api/v2/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/train"
        answer = httpx.patch(
            self.addresses.url("airflow") + path, json={"new_state": "failed"}, timeout=60, trust_env=False
        )
        answer.raise_for_status()


@pytest.fixture
def airflow(
    tmp_path: Path, root: Path, boxed: Settings, airflow_home: Path, handled: Path, handle: str,
    dataset: DatasetVersion, commit: Callable[..., str],
) -> Iterator[tuple[Airflow, AirflowApi]]:  # fmt: skip
    (handled / "train.py").write_text(WAITING)
    commit(handled)
    registered(handled, boxed)
    made = Airflow(tmp_path / "airflow", root, boxed)
    try:
        dag = DAG_FILE.format(handle=handle, dataset=dataset.to_json())
        with made.start(airflow_home / "airflow.db", dag) as api:
            yield made, api
    finally:
        made.supervisor.stop()


def test_lost_worker_and_killed_task(
    airflow: tuple[Airflow, AirflowApi],
    boxed: Settings,
    handle: str,
    engine: Engine,
    client: Any,
    until: Until,
) -> None:
    world, api = airflow
    until(lambda: api.has_dag(DAG_ID), 300)
    api.unpause(DAG_ID)

    def found() -> list[str]:
        labels = {"taxiway.handle": handle, "taxiway.job": "true"}
        return [
            each.id for each in engine.containers(labels) if each.is_running and _has_begun(client, each.id)
        ]

    api.trigger(DAG_ID, "lost", {})
    until(lambda: len(found()) == 1, 300)
    (container,) = found()
    _holder(boxed.home / "containers").kill()
    until(lambda: "is running: going on with it" in _log(api, "lost", attempt=2), 300)
    assert found() == [container]
    client.put_archive(container, "/tmp", _go())
    until(lambda: api.run_state(DAG_ID, "lost") in {"success", "failed"}, 300)
    assert api.run_state(DAG_ID, "lost") == "success", _log(api, "lost", attempt=2)
    assert api.result(DAG_ID, "lost", "train")["version"] == 1
    assert engine.find(container) is None

    api.trigger(DAG_ID, "killed", {"c": 0.25})
    until(lambda: len(found()) == 1, 300)
    world.fail_task("killed")
    until(lambda: not found(), 300)
    until(lambda: not engine.containers({"taxiway.handle": handle, "taxiway.job": "true"}), 300)


def _log(api: AirflowApi, run_id: str, *, attempt: int) -> str:
    """Return the log of a try of the task; nothing before it has begun."""
    tasks = [task for task in api.tasks(DAG_ID, run_id) if task.try_number == attempt]
    return api.log(DAG_ID, run_id, tasks[0]) if tasks else ""


def _has_begun(client: Any, container: str) -> bool:
    from docker.errors import APIError  # type: ignore[import-untyped]

    try:
        return b"begun" in client.logs(container)
    except APIError:
        # It was removed since it was listed.
        return False


def _holder(locks: Path) -> psutil.Process:
    """Return the process of the task that attends to a container."""
    for process in psutil.process_iter():
        try:
            files = [file.path for file in process.open_files()]
        except psutil.Error:
            continue
        if any(Path(file).parent == locks and "training" in file for file in files):
            return process
    raise AssertionError("nobody attends to a container")


def _go() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("go"))
    return buffer.getvalue()
