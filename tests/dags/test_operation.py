"""What a team does beside the strategies, live: groups, arms that come and go, and being told of what never began."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taxiway.datasets.versions import get
from taxiway.deployment import deploy
from taxiway.operators.verb import RolloutVerbOperator
from taxiway.packaging.package import package
from taxiway.registry.packages import register
from taxiway.traffic import shift
from taxiway.training import train
from taxiway.trial.load import Load
from taxiway.trial.samples import read_images
from taxiway.trial.services import HANDLE
from tests.dags.conftest import PARAMS, Versions
from tests.dags.team import Team
from tests.dags.users import rewarded
from tests.library.scripted import Script
from tests.path.world import World, wait_until

# The first test pays for the world.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800), pytest.mark.usefixtures("settled")]

OTHER = "digit_segmentation"
RATE_RPS = 50.0
BROKEN = '\nif os.environ.get("TAXIWAY_VARIANT"):\n    raise RuntimeError("no such weights")\n'
FIRST = {"kind": "all_at_once", "bake_s": 1}
BANDIT = {"kind": "bandit", "reward": "click", "window_s": 3, "update_s": 1, "min_s": 600, "floor": 0.05}


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """A second handle of the world: a version that is live, and one that is to be."""

    live: int
    candidate: int


@pytest.fixture(scope="module")
def second(world: World, versions: Versions) -> Second:
    """The example once more under another handle, as a team would commit it, trained on the same data."""
    examples = world.layout.bundle / "examples"
    shutil.copytree(examples / HANDLE, examples / OTHER)
    project = examples / OTHER / "pyproject.toml"
    project.write_text(project.read_text().replace(f'handle = "{HANDLE}"', f'handle = "{OTHER}"'))
    subprocess.run(["git", "add", "--all"], cwd=world.layout.bundle, check=True)
    world.change_project("pyproject.toml", lambda text: text)
    register(package(str(project.parent), world.settings, kinds=["training", "inference"]), world.settings)
    dataset = get(HANDLE, "latest", world.settings)
    made = [train(OTHER, dataset, world.settings, params=params).version for params in PARAMS[:2]]
    deploy(OTHER, made[0], world.settings)
    shift(OTHER, made[0], world.settings, strategy=FIRST, rollout_id="first-of-the-other")
    return Second(live=made[0], candidate=made[1])


@contextmanager
def traffic_of(world: World, handle: str) -> Iterator[Load]:
    """Send steady traffic to a handle while the context lasts."""
    url, log = f"{world.addresses.url('gateway')}/{handle}", world.layout.log(f"failed-{time.time_ns()}")
    load = Load(url, read_images(world.layout.samples), rate_rps=RATE_RPS, log=log)
    load.start()
    try:
        yield load
    finally:
        load.stop()


def test_group_dag_promotes_both_handles_at_one_moment(
    world: World, versions: Versions, team: Team, second: Second
) -> None:
    candidate = versions.others[0]
    with traffic_of(world, HANDLE) as one, traffic_of(world, OTHER) as other:
        run = team.run("group", **{HANDLE: candidate, OTHER: second.candidate})
    assert run.state == "success", run.log[-8000:]
    together = run.result("together")
    assert {handle: each["outcome"] for handle, each in together.items()} == dict.fromkeys(
        (HANDLE, OTHER), "Promoted"
    )
    ends = {
        world.controller.rollout(handle, each["rollout_id"])["ended_at_s"]
        for handle, each in together.items()
    }
    assert len(ends) == 1
    assert versions.live == candidate
    assert world.controller.endpoint(OTHER)["stable"] == second.candidate
    assert (one.counts.failed, other.counts.failed) == (0, 0)


def test_canary_dag_tells_the_team_of_a_version_that_never_becomes_ready(
    world: World, versions: Versions, team: Team, webhook: Script
) -> None:
    """No rollout ever begins, so nobody but Airflow could tell of it."""
    broken = _broken_version(world)
    webhook.seen.clear()
    before = world.controller.endpoint(HANDLE)["rollout"]["id"]
    run = team.run("canary", version=broken)
    assert (run.state, run.state_of("deploy")) == ("failed", "failed")
    assert world.controller.endpoint(HANDLE)["rollout"]["id"] == before
    (told,) = [body for _, _, body in webhook.seen]
    assert told["text"].startswith(f"{HANDLE}: failed: {HANDLE}/{broken} is not ready after ")
    assert "(taxiway_canary.deploy failed)" in told["text"]
    assert "no such weights" in told["task"]["error"]
    assert told["rollout"] == {}


def _broken_version(world: World) -> int:
    """Register a model version whose service breaks when it is started where it is served."""
    project = str(world.layout.bundle / "examples" / HANDLE)
    world.change_project("service.py", lambda text: text + BROKEN)
    try:
        register(package(project, world.settings, kinds=["inference"]), world.settings)
        dataset = get(HANDLE, "latest", world.settings)
        return train(HANDLE, dataset, world.settings, params={"hidden": 8}).version
    finally:
        world.change_project("service.py", lambda text: text.replace(BROKEN, ""))
        register(package(project, world.settings, kinds=["inference"]), world.settings)


class TaskInstance:
    """The part of a running task instance that an operator reads."""

    dag_id, run_id, try_number, map_index = "taxiway_bandit", "manual__1", 1, -1

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id


@pytest.fixture
def say(
    world: World, monkeypatch: pytest.MonkeyPatch, airflow_home: Path
) -> Callable[[str, str, int], dict[str, Any]]:
    """Do a verb to a rollout as a task does; Airflow's own database says nothing, so the environment applies."""
    for name, value in world.environment.items():
        if name.startswith("TAXIWAY_"):
            monkeypatch.setenv(name, value)

    def done(rollout: str, verb: str, version: int) -> dict[str, Any]:
        task_id = f"{verb}_{version}"
        operator = RolloutVerbOperator(
            task_id=task_id, handle=HANDLE, rollout=rollout, verb=verb, version=version
        )
        context: Any = {"ti": TaskInstance(task_id)}
        return operator.execute(context)

    return done


def test_arm_joins_and_leaves_a_bandit_that_runs(
    world: World, versions: Versions, say: Callable[[str, str, int], dict[str, Any]]
) -> None:
    stable, (first, second) = versions.live, versions.others
    name = f"bandit-{time.time_ns()}"
    for version in (first, second):
        world.deploy(version)

    def share(version: int) -> float:
        observed = world.controller.endpoint(HANDLE)["split"]["observed"] or {}
        return float(observed.get(str(version), 0.0))

    shift(HANDLE, first, world.settings, strategy=BANDIT, rollout_id=name, until="begun")
    with rewarded(world, {stable: 0.3, first: 0.3, second: 0.8}):
        wait_until(lambda: share(first) > 0, within_s=240, what="the first arm's share")
        assert share(second) == 0
        say(name, "add", second)
        wait_until(lambda: share(second) > 40, within_s=300, what="most of the traffic for the better arm")
        say(name, "remove", second)
        wait_until(
            lambda: share(first) > 0 == share(second), within_s=240, what="the end of the arm that left alone"
        )
    seen = world.controller.rollout(HANDLE, name)
    assert seen["status"] != "ended"
    assert "removed by airflow taxiway_bandit.remove" in seen["dropped"][str(second)]
