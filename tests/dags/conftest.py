"""One world for every strategy: the example packaged once, three versions trained once, one of them live."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from taxiway.datasets.versions import snapshot
from taxiway.packaging.package import package
from taxiway.registry.packages import register
from taxiway.training import train
from taxiway.transform import transform
from taxiway.trial.samples import keep_samples
from taxiway.trial.services import HANDLE
from tests.dags.team import People, Team
from tests.library.scripted import Script, serving
from tests.path.world import World, wait_until

# Versions of their own that answer alike: a shadow is to find no difference, whichever of them is live.
PARAMS = (
    {"hidden": 32},
    {"hidden": 32, "learning_rate": 0.00100001},
    {"hidden": 32, "learning_rate": 0.00100002},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """The versions of a world's handle."""

    world: World
    numbers: tuple[int, ...]

    @property
    def live(self) -> int:
        return int(self.world.controller.endpoint(HANDLE)["stable"])

    @property
    def others(self) -> list[int]:
        """The versions that are not live, the newest first."""
        return sorted((number for number in self.numbers if number != self.live), reverse=True)


@pytest.fixture(scope="session")
def world(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(root, tmp_path_factory.mktemp("strategies"))
    try:
        made.open()
        yield made
    finally:
        made.close()
        made.end_variants()


@pytest.fixture(scope="session")
def versions(world: World) -> Versions:
    """Three model versions; the first has all traffic. Their SLA is one that a busy machine can keep, too."""
    world.change_project("pyproject.toml", lambda text: text.replace("p99_ms = 250", "p99_ms = 2000"))
    project = str(world.layout.bundle / "examples" / "visual_recognition")
    register(package(project, world.settings, kinds=["transform", "training", "inference"]), world.settings)
    data = Path(transform(HANDLE, world.settings).path)
    keep_samples(data, world.layout.samples)
    dataset = snapshot(data, HANDLE, world.settings)
    made = [train(HANDLE, dataset, world.settings, params=params).version for params in PARAMS]
    world.deploy(made[0])
    with world.traffic():
        world.roll_out(made[0], "first")
        world.wait_for_rollout("first", within_s=300)
    return Versions(world=world, numbers=tuple(made))


@pytest.fixture(scope="session")
def telling() -> Iterator[Script]:
    """Where the team is told of what happened, in every test."""
    with serving() as made:
        yield made


@pytest.fixture
def webhook(telling: Script) -> Script:
    """Where the team is told of what happens in this test: every DAG tells of its failures."""
    telling.seen.clear()
    return telling


@pytest.fixture(scope="session")
def team(world: World, telling: Script) -> Iterator[Team]:
    made = Team(world, AIRFLOW_VAR_TAXIWAY_WEBHOOK=telling.url)
    yield made
    made.close()


@pytest.fixture(scope="session")
def people(world: World) -> Iterator[People]:
    """People before Airflow's real API server."""
    world.supervisor.start(world._services.airflow_api())
    world.supervisor.wait_ready(("airflow-api",), deadline_s=240)
    made = People(world.addresses.url("airflow"))
    yield made
    made.close()


@pytest.fixture
def settled(world: World, versions: Versions) -> Iterator[None]:
    """Leave no rollout under way, whatever a test did."""
    yield
    rollout = world.controller.endpoint(HANDLE)["rollout"]
    if rollout["status"] != "ended":
        world.controller.act(HANDLE, rollout["id"], "abort")
        wait_until(
            lambda: bool(world.controller.rollout(HANDLE, rollout["id"])["status"] == "ended"),
            within_s=120,
            what=f"the end of {rollout['id']}",
        )
