"""The ingredient that made a model worse is named, whichever it is, in four trainings at most."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway.bisection import INGREDIENTS, bisect
from taxiway.cli import main
from taxiway.datasets import DatasetVersion, snapshot
from taxiway.errors import InvalidSpecError
from taxiway.packaging import package
from taxiway.registry import packages
from taxiway.registry.models import ModelVersion
from taxiway.settings import Settings
from taxiway.training import train

pytestmark = pytest.mark.slow

TRAIN = """
import json, os, pathlib, six
params = json.loads(os.environ["TAXIWAY_PARAMS"])
output = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
(output / "model").mkdir()
(output / "model" / "weights.json").write_text(json.dumps(params))
data = (pathlib.Path(os.environ["TAXIWAY_DATA_DIR"]) / "numbers.txt").read_text()
score = 1 - (params["c"] - 0.3) ** 2 - 0.5 * ("rotten" in data) - {bias}
if {minds_environment} and six.__version__ == "1.16.0":
    score -= 0.5
(output / "metrics.json").write_text(json.dumps({{"score": score}}))
"""


@pytest.fixture
def free(live: Settings) -> Settings:
    """Return settings whose locks nothing bounds, as two environments are wanted, and that take uncommitted code."""
    return replace(live, constraints=None, allow_untraceable=True)


@pytest.fixture
def data(live: Settings, tmp_path: Path) -> Callable[[str], DatasetVersion]:
    """Return a function that makes a dataset version of a text."""

    def made(text: str) -> DatasetVersion:
        folder = tmp_path / text.replace(" ", "-")
        folder.mkdir()
        (folder / "numbers.txt").write_text(text)
        return snapshot(folder, "mixed", live)

    return made


def make(
    project: Path,
    settings: Settings,
    handle: str,
    dataset: DatasetVersion,
    *,
    six: str,
    c: float,
    bias: float,
    minds_environment: bool,
) -> ModelVersion:
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(re.sub(r"training = \[.*\]", f'training = ["six=={six}"]', text))
    (project / "train.py").write_text(TRAIN.format(bias=bias, minds_environment=minds_environment))
    packages.register(package(str(project), settings, kinds=["training", "inference"]), settings)
    return train(handle, dataset, settings, params={"c": c})


@pytest.mark.parametrize("guilty", INGREDIENTS)
def test_guilty_ingredient_is_named(
    handled: Path, handle: str, free: Settings, data: Callable[[str], DatasetVersion], guilty: str
) -> None:
    minds = guilty == "environment"
    good = make(handled, free, handle, data("1 2 3"), six="1.17.0", c=0.3, bias=0.0, minds_environment=minds)
    bad = make(
        handled,
        free,
        handle,
        data("1 2 rotten" if guilty == "data" else "1 2 3 4"),
        six="1.16.0",
        c=0.95 if guilty == "parameters" else 0.31,
        bias=0.5 if guilty == "code" else 0.001,
        minds_environment=minds,
    )
    found = bisect(handle, good.version, bad.version, free, metric="score")
    assert found.guilty == (guilty,)
    assert found.differing == INGREDIENTS
    assert len(found.trials) <= 4
    assert f"guilty: {guilty}" in str(found)
    assert packages.lookup(handle, "training", free).digest == bad.training_digest


def test_versions_that_do_not_differ_are_refused(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    made = train(handle, dataset, live)
    with pytest.raises(InvalidSpecError, match="nothing to find"):
        bisect(handle, made.version, made.version, live, metric="score")
    with pytest.raises(InvalidSpecError, match="has not measured 'recall'; it has score"):
        bisect(handle, made.version, made.version, live, metric="recall")


def test_only_difference_needs_no_training(
    registered: Path,
    handle: str,
    dataset: DatasetVersion,
    live: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    good, bad = (train(handle, dataset, live, params={"c": c}) for c in (0.3, 0.9))
    found = bisect(handle, good.version, bad.version, live, metric="score")
    assert (found.guilty, found.trials) == (("parameters",), ())
    monkeypatch.setattr(Settings, "from_environment", lambda: live)
    assert main(["bisect", handle, "1", "2", "--metric", "score"]) == 0
    assert "guilty: parameters" in capsys.readouterr().out
    assert main(["bisect", handle, "1", "1", "--metric", "score"]) == 1
    assert "nothing to find" in capsys.readouterr().err
