"""What a kill leaves: nothing half-done, nothing running that should not, and no client that notices."""

import os
import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from taxiway.datasets.versions import DatasetVersion
from taxiway.registry import models
from taxiway.registry.models import ModelVersion
from taxiway.training import train
from taxiway.trial.services import HANDLE
from tests.path.world import DagRun, World, command_line, wait_until

# The first test pays for the world and for every DAG run before it.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

SLOW_PARAMS = {"hidden": 96, "epochs": 60}
TRAIN = """
from taxiway.datasets.versions import DatasetVersion
from taxiway.settings import Settings
from taxiway.training import train
train({handle!r}, DatasetVersion.from_json({dataset!r}), Settings.from_environment(), params={params!r})
"""
DEPLOY = """
from taxiway.deployment import deploy
from taxiway.settings import Settings
deploy({handle!r}, {version!r}, Settings.from_environment())
print("deployed")
"""


@pytest.fixture(scope="module")
def dataset(tuned_run: DagRun) -> DatasetVersion:
    return DatasetVersion.from_json(tuned_run.result("snapshot"))


@pytest.fixture(scope="module")
def spare(world: World, dataset: DatasetVersion) -> ModelVersion:
    """A model version that is good, and not live."""
    return train(HANDLE, dataset, world.settings, params={"hidden": 80, "learning_rate": 0.004, "epochs": 8})


@pytest.fixture
def rollout_id(request: pytest.FixtureRequest) -> str:
    return f"{request.node.name}-{time.time_ns()}"


@pytest.fixture(autouse=True)
def settled(world: World, tuned_run: DagRun) -> Iterator[None]:
    """Leave the endpoint as it was, whatever a test did: no rollout under way, the same version live."""
    stable = world.controller.endpoint(HANDLE)["stable"]
    yield
    rollout = world.controller.endpoint(HANDLE)["rollout"]
    if rollout["status"] != "ended":
        world.controller.act(HANDLE, rollout["id"], "abort")
        world.wait_for_rollout(rollout["id"], within_s=120)
    if world.controller.endpoint(HANDLE)["stable"] != stable:
        world.controller.undo(HANDLE, f"undo-{rollout['id']}")
        wait_until(
            lambda: world.controller.endpoint(HANDLE)["stable"] == stable, within_s=120, what="the undo"
        )


def _training_processes(world: World) -> list[psutil.Process]:
    home = str(world.layout.home)
    lines = ((process, command_line(process)) for process in psutil.process_iter())
    return [process for process, line in lines if "train.py" in line and home in line]


def test_killed_training_dies_with_its_task_and_starts_clean_in_the_retry(
    world: World, dataset: DatasetVersion
) -> None:
    code = TRAIN.format(handle=HANDLE, dataset=dataset.to_json(), params=SLOW_PARAMS)
    task = world.start(code)
    wait_until(lambda: bool(_training_processes(world)), within_s=240, what="training")
    task.send_signal(signal.SIGKILL)
    task.communicate(timeout=120)
    wait_until(lambda: not _training_processes(world), within_s=120, what="the end of the training process")
    retry = train(HANDLE, dataset, world.settings, params=SLOW_PARAMS)
    again = train(HANDLE, dataset, world.settings, params=SLOW_PARAMS)
    assert retry == again
    assert models.download(retry, world.settings).is_dir()


def test_killed_deploy_is_found_again_by_the_retry(world: World, dataset: DatasetVersion) -> None:
    made = train(HANDLE, dataset, world.settings, params={"hidden": 72, "learning_rate": 0.004, "epochs": 8})
    code, name = DEPLOY.format(handle=HANDLE, version=made.version), str(made.version)
    task = world.start(code)
    wait_until(lambda: name in world.controller.endpoint(HANDLE)["variants"], within_s=240, what="deploying")
    task.send_signal(signal.SIGKILL)
    task.communicate(timeout=120)
    output, _ = world.start(code).communicate(timeout=300)
    assert "deployed" in output, output
    assert world.controller.endpoint(HANDLE)["variants"][name]["restarts"] == 0

    def is_there_once() -> bool:
        serving = [process for process in psutil.process_iter() if _serves(process, world, made.version)]
        return len(serving) == len(world.variant_tree(made.version))

    # A worker may come or go between two looks; another tree of it would stay.
    wait_until(is_there_once, within_s=60, what="one tree of processes")


def test_killed_controller_stops_no_traffic_and_finishes_the_rollout(
    world: World, spare: ModelVersion, rollout_id: str
) -> None:
    world.deploy(spare.version)
    before = world.pids(spare.version, world.controller.endpoint(HANDLE)["stable"])
    with world.traffic() as load:
        world.roll_out(spare.version, rollout_id)
        wait_until(lambda: world.weight_pct(rollout_id) >= 5, within_s=120, what="the first step")
        os.kill(world.supervisor.pid("controller"), signal.SIGKILL)
        world.wait_for_rollout(rollout_id, within_s=300)
    assert world.controller.rollout(HANDLE, rollout_id)["outcome"] == "Promoted"
    assert None not in before.values()
    assert world.pids(*before) == before
    assert (load.counts.failed, load.counts.requests > 500) == (0, True)


def test_killed_canary_is_noticed_by_no_client_and_rolled_back(
    world: World, spare: ModelVersion, rollout_id: str
) -> None:
    world.deploy(spare.version)
    stable = world.controller.endpoint(HANDLE)["stable"]
    with world.traffic() as load:
        world.roll_out(spare.version, rollout_id)
        wait_until(lambda: world.weight_pct(rollout_id) == 25, within_s=300, what="the second step")
        world.kill(world.variant_tree(spare.version))
        world.wait_for_rollout(rollout_id, within_s=180)
        time.sleep(2)
    rollout = world.controller.rollout(HANDLE, rollout_id)
    assert rollout["outcome"] == "RolledBack"
    assert world.controller.endpoint(HANDLE)["split"]["observed"] == {str(stable): 100.0}
    assert load.counts.failed == 0


def test_killed_stable_is_started_again(world: World, tuned_run: DagRun) -> None:
    stable = world.controller.endpoint(HANDLE)["stable"]
    world.kill(world.variant_tree(stable))
    image = (world.layout.checkout / "examples/visual_recognition/samples/seven.png").read_bytes()
    wait_until(lambda: world.post(image).status_code == 200, within_s=180, what="an answer")
    assert world.post(image).headers["x-taxiway-version"] == str(stable)


def _serves(process: psutil.Process, world: World, version: int) -> bool:
    try:
        environment = process.environ()
    except psutil.Error:
        return False
    mark = environment.get("TAXIWAY_VARIANT", "")
    return environment.get("TAXIWAY_MODEL_VERSION") == str(version) and str(world.layout.home) in mark
