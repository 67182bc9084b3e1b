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


NEEDY = """
import json, os, pathlib, six
params = json.loads(os.environ["TAXIWAY_PARAMS"])
if {needs} and six.__version__ != "1.16.0":
    raise SystemExit("not with this six")
depth = params["depth"] if {reads} else 1
output = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
(output / "model").mkdir()
(output / "model" / "weights.json").write_text(json.dumps(params))
data = (pathlib.Path(os.environ["TAXIWAY_DATA_DIR"]) / "numbers.txt").read_text()
with (pathlib.Path("{trace}")).open("a") as file:
    file.write(f"{{params}}\\n")
(output / "metrics.json").write_text(json.dumps({{"score": depth - 0.5 * ("rotten" in data) - {bias}}}))
"""


def make_needy(
    project: Path, settings: Settings, handle: str, dataset: DatasetVersion, trace: Path, **code: object
) -> ModelVersion:
    """Train a version whose code may need what only its own environment or parameters have."""
    is_new = bool(code.get("needs"))
    text = (project / "pyproject.toml").read_text()
    six = "1.16.0" if is_new else "1.17.0"
    text = re.sub(r"training = \[.*\]", f'training = ["six=={six}"]', text)
    defaults = "params = { c = 0.5, depth = 1 }" if is_new else "params = { c = 0.5 }"
    (project / "pyproject.toml").write_text(re.sub(r"params = \{.*\}", defaults, text))
    values = {"needs": False, "reads": False, "bias": 0.0, "trace": trace, **code}
    (project / "train.py").write_text(NEEDY.format(**values))
    packages.register(package(str(project), settings, kinds=["training", "inference"]), settings)
    return train(handle, dataset, settings)


@pytest.mark.parametrize("guilty", ["data", "code"])
def test_code_that_runs_in_its_own_environment_alone_is_not_guilty_for_that(
    handled: Path,
    handle: str,
    free: Settings,
    data: Callable[[str], DatasetVersion],
    guilty: str,
    tmp_path: Path,
) -> None:
    """The new code reads a new parameter and needs a new library: a mixture without them says nothing of it."""
    trace = tmp_path / "trained"
    good = make_needy(handled, free, handle, data("1 2 3"), trace)
    rotten = data("1 2 rotten" if guilty == "data" else "1 2 3 4")
    bias = 0.5 if guilty == "code" else 0.001
    bad = make_needy(handled, free, handle, rotten, trace, needs=True, reads=True, bias=bias)
    found = bisect(handle, good.version, bad.version, free, metric="score")
    assert found.guilty == (guilty,)
    assert [each.ingredients for each in found.trials][:2] == [("code",), ("code", "environment")]
    assert found.trials[0].is_guilty is None

    # What a bisection has trained is there for the next one, which a kill may have made necessary.
    trained = trace.read_text()
    again = bisect(handle, good.version, bad.version, free, metric="score")
    assert again.guilty == found.guilty
    assert trace.read_text() == trained
    assert [each.run_id for each in again.trials] == [each.run_id for each in found.trials]


def test_what_never_ran_is_nobodys_guilt(
    handled: Path, handle: str, live: Settings, data: Callable[[str], DatasetVersion], tmp_path: Path
) -> None:
    free = replace(live, allow_untraceable=True)
    gone, trace = tmp_path / "gone", tmp_path / "trained"
    good = make_needy(handled, free, handle, data("1 2 3"), trace)
    made = NEEDY.format(needs=False, reads=False, bias=0.001, trace=trace)
    (handled / "train.py").write_text(
        made.replace("depth =", f"assert not pathlib.Path({str(gone)!r}).exists()\ndepth =", 1)
    )
    packages.register(package(str(handled), free, kinds=["training"]), free)
    bad = train(handle, data("1 2 rotten"), free)
    gone.touch()
    found = bisect(handle, good.version, bad.version, free, metric="score")
    assert (found.guilty, found.unknown) == (("data",), ("code",))


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
