"""The DAGs of prepared data as they are committed: one keeps a version, once; the other trains on it."""

import pytest

from taxiway.datasets import facts, get
from taxiway.packaging.package import package
from taxiway.registry.packages import register
from taxiway.trial.services import HANDLE
from tests.dags.conftest import Versions
from tests.dags.team import Team
from tests.path.world import World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]


def test_data_are_kept_by_one_dag_and_trained_on_by_another(
    world: World, versions: Versions, team: Team
) -> None:
    project = str(world.layout.bundle / "examples" / "visual_recognition")
    register(package(project, world.settings, kinds=["evaluation"]), world.settings)
    kept = team.run("data")
    assert kept.state == "success", kept.log[-8000:]
    version = get(HANDLE, "latest", world.settings)
    assert kept.result("snapshot") == version.to_json()
    said = facts(version, world.settings)
    assert (said.card.licence, said.card.personal_data) == ("cc-by-4.0", "none")

    trained = team.run("training", data_revision=version.tag)
    assert trained.result("dataset") == version.to_json()
    assert trained.state_of("train") == "success", trained.log[-8000:]
    # Whether it is as good as the live version, which was trained with other parameters, is the gate's business.
    assert trained.state_of("evaluate") == "success" or "did not pass the gate" in trained.log
