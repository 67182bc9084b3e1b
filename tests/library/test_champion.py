"""The live version is what the controller says; where it is away, what the alias says."""

from dataclasses import replace
from pathlib import Path

import pytest

from taxiway import champion
from taxiway.datasets import DatasetVersion
from taxiway.errors import AuthenticationError, ModelNotFoundError
from taxiway.packaging import package
from taxiway.registry import models, packages
from taxiway.settings import Settings
from taxiway.training import train
from tests.library.scripted import Script

pytestmark = pytest.mark.slow


def test_champion_follows_the_controller_and_outlives_its_absence(
    handled: Path, handle: str, dataset: DatasetVersion, live: Settings, script: Script
) -> None:
    packages.register(package(str(handled), live, kinds=["training", "inference"]), live)
    away = replace(live, controller_url="http://127.0.0.1:9")
    lines: list[str] = []
    assert champion.find(handle, away, lines.append) is None
    first, second = (train(handle, dataset, live, seed=seed) for seed in (0, 1))
    models.set_alias(handle, models.CHAMPION, first.version, live)
    assert champion.find(handle, away, lines.append) == first
    assert ["the controller did not answer" in line for line in lines] == [True] * 2
    doubt = champion.look(handle, away).doubt
    assert f"may be another than {handle}/{first.version}, as the alias champion says" in doubt

    there = replace(live, controller_url=script.url)
    script.answers = [(200, {"stable": second.version, "previous": None})]
    assert champion.find(handle, there, lines.append) == second
    assert models.get(handle, models.CHAMPION, live) == second
    assert len(lines) == 2
    assert champion.look(handle, there).doubt == ""

    # What the controller serves and MLflow does not have is no first version, and nor is what it does not tell us.
    script.answers = [(200, {"stable": 99, "previous": None})]
    with pytest.raises(ModelNotFoundError):
        champion.look(handle, there)
    script.answers = [(401, {})]
    with pytest.raises(AuthenticationError):
        champion.look(handle, there)
