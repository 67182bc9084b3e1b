"""What a search found beside the live version, as it is, on items that the search did not look at."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxiway.datasets import DatasetVersion
from taxiway.packaging import package
from taxiway.registry import models, packages, tracking
from taxiway.settings import Settings
from taxiway.training import train
from taxiway.tuning import open_study, tune
from taxiway.tuning.comparison import Rival, rival_of

pytestmark = pytest.mark.slow


def quiet(_line: str) -> None:
    return None


def runs_of(kind: str, handle: str, settings: Settings) -> tuple[tracking.Run, ...]:
    experiment = tracking.ensure_experiment(handle, settings)
    return tracking.find_runs(experiment, {"taxiway.kind": kind}, settings)


def test_verdict_is_measured_on_held_out_items_against_the_live_version_and_not_twice(
    judged: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    asked: dict[str, Any] = {"trials": 4, "params": {"luck": 1, "c": 0.9}, "repeats": 3, "log": quiet}
    found = tune(handle, dataset, live, **asked)
    assert (found.better, found.rival) == ("yes", "the defaults"), found
    assert found.low is not None
    assert found.difference is not None
    assert 0 < found.low <= found.difference
    assert "400 items that the search did not see, and 3 seeds" in found.verdict
    # Three seeds of the best, and of the defaults.
    assert len(runs_of("repeat", handle, live)) == len(runs_of("repeat evaluation", handle, live)) == 6
    assert tune(handle, dataset, live, **asked) == found
    assert len(runs_of("repeat", handle, live)) == 6
    assert not list((live.home / "runs").glob("*/output"))

    # The live version is measured as it is, and not trained again: its parameters alone would be poor.
    champion = train(handle, dataset, live, params={"luck": 1, "c": 0.3})
    models.set_alias(handle, models.CHAMPION, champion.version, live)
    again = tune(handle, dataset, live, **asked)
    assert again.rival == f"{handle}/{champion.version}"
    assert again.better in ("no", "inconclusive")
    assert len(runs_of("repeat", handle, live)) == 6
    assert [run.tags["taxiway.model_version"] for run in runs_of("evaluation", handle, live)] == ["1"]


@pytest.mark.usefixtures("judged")
def test_nothing_is_called_better_for_what_read_files_that_are_no_inputs(
    handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path
) -> None:
    """But for that file it is the search of the test before, whose parameters are better."""
    (tmp_path / "peek").write_text("the answers")
    params = {"luck": 1, "c": 0.9, "peek": str(tmp_path / "peek")}
    found = tune(handle, dataset, live, trials=4, params=params, repeats=3, log=quiet)
    assert found.better == "inconclusive"
    assert found.low is not None
    assert found.low > 0
    assert "is better over 400 items" in found.verdict
    assert f"that cannot be relied on: {tmp_path / 'peek'}" in found.verdict


@pytest.mark.usefixtures("registered")
def test_nothing_is_called_better_without_items_that_the_search_did_not_see(
    handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    found = tune(handle, dataset, live, trials=2, params={"c": 0.9}, repeats=3, log=quiet)
    assert (found.better, found.difference) == ("inconclusive", None)
    assert "no evaluation is registered" in found.verdict


def test_rival_is_the_default_where_nothing_is_live(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    away = replace(live, controller_url="http://127.0.0.1:9")
    base = open_study(handle, dataset, away, trials=1, log=quiet).recipe(away)
    lines: list[str] = []
    assert rival_of(base, away, lines.append) == Rival(name="the defaults", params={"c": 0.5})
    assert "the controller did not answer" in lines[0]
    # Of versions that are there one may be live, and nobody could tell.
    packages.register(package(str(registered), live, kinds=["inference"]), live)
    train(handle, dataset, live)
    (doubt,) = rival_of(base, away, lines.append).doubts
    assert "the controller did not answer" in doubt
