"""A DAG run of a real scheduler whose traffic task is killed: Airflow's retry follows the rollout that goes on."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import psutil
import pytest

from taxiway.trial import processes
from taxiway.trial.airflow_api import AirflowApi
from taxiway.trial.services import HANDLE
from taxiway.trial.supervisor import Service
from tests.dags.conftest import Versions
from tests.dags.team import People
from tests.path.world import World, wait_until

# The first test pays for the world.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800), pytest.mark.usefixtures("settled")]

DAG_ID, TASK = "taxiway_canary", "canary"
RATE_RPS = 60.0
RUN_S = 240.0


def start(world: World, service: Service) -> "subprocess.Popen[bytes]":
    with world.layout.log(service.name).open("ab") as log:
        return subprocess.Popen(
            service.command,
            cwd=service.cwd,
            env=dict(service.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture
def airflow(world: World, people: People) -> Iterator[AirflowApi]:
    """Return an Airflow that schedules the canary's DAG while the test lasts, and no other one."""
    services = (world._services.airflow_scheduler(), world._services.airflow_dag_processor())
    started = [start(world, service) for service in services]
    try:
        with AirflowApi(world.addresses.url("airflow")) as made:
            wait_until(lambda: made.has_dag(DAG_ID), within_s=240, what="reading the DAG")
            made.unpause(DAG_ID)
            yield made
        people.pause(DAG_ID)
    finally:
        processes.end_trees([psutil.Process(each.pid) for each in started], grace_s=10)
        for each in started:
            each.wait(60)


def test_killed_traffic_task_is_brought_back_by_airflow_and_follows_its_rollout(
    world: World, versions: Versions, people: People, airflow: AirflowApi
) -> None:
    candidate, run_id, began_at_s = versions.others[0], f"killed-{time.time_ns()}", time.time()
    before = world.controller.endpoint(HANDLE)["rollout"]["id"]
    airflow.trigger(DAG_ID, run_id, {"version": candidate})
    wait_until(
        lambda: world.controller.endpoint(HANDLE)["rollout"]["id"] != before,
        within_s=RUN_S,
        what="the rollout",
    )
    name = world.controller.endpoint(HANDLE)["rollout"]["id"]
    with world.traffic(rate_rps=RATE_RPS) as load:
        wait_until(lambda: world.weight_pct(name) >= 5, within_s=240, what="the first step")
        task = people.task(DAG_ID, run_id, TASK)
        assert (task["state"], task["try_number"]) == ("running", 1)
        os.kill(int(task["pid"]), signal.SIGKILL)
        wait_until(
            lambda: people.task(DAG_ID, run_id, TASK)["try_number"] == 2,
            within_s=RUN_S,
            what="the second try",
        )
        wait_until(
            lambda: airflow.run_state(DAG_ID, run_id) in {"success", "failed"},
            within_s=RUN_S,
            what="the end of the run",
        )
    assert airflow.run_state(DAG_ID, run_id) == "success", people.task(DAG_ID, run_id, TASK)
    result = airflow.result(DAG_ID, run_id, TASK)
    assert (result["rollout_id"], result["outcome"], result["version"]) == (name, "Promoted", candidate)
    entries = world.controller.ledger(HANDLE, limit=10_000)
    begun = [each["rollout"] for each in entries if each["kind"] == "rollout" and each["at_s"] > began_at_s]
    assert begun == [name]
    assert versions.live == candidate
    assert load.counts.failed == 0
