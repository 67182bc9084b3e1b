"""The example's notebook, executed headless: it uses dataset, training and tuning functions on a real MLflow."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from taxiway.datasets import get
from taxiway.registry import tracking
from taxiway.settings import Settings
from taxiway.tools import program

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
HANDLE = "visual_recognition"


@pytest.fixture
def notebook(root: Path, tmp_path: Path) -> Path:
    """Return a copy of the example, which no commit holds."""
    folder = shutil.copytree(root / "examples" / "visual_recognition", tmp_path / "example")
    return folder / "explore.ipynb"


def execute(notebook: Path, live: Settings) -> list[str]:
    """Return the texts of what its cells answered."""
    told = {
        "MLFLOW_TRACKING_URI": live.tracking_uri,
        "TAXIWAY_HOME": str(live.home),
        "TAXIWAY_DATA_REPOSITORY": str(live.home / "own-datasets"),
        "TAXIWAY_DATA_REMOTE": str(live.home / "own-remote"),
        "TAXIWAY_CONSTRAINTS": str(live.constraints),
    }
    command = [str(program("jupyter-execute")), "--inplace", "--timeout=400", str(notebook)]
    done = subprocess.run(
        command, env=os.environ | told, capture_output=True, text=True, timeout=540, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    outputs = [each for cell in json.loads(notebook.read_text())["cells"] for each in cell.get("outputs", [])]
    return [
        "".join(each["data"]["text/plain"]) for each in outputs if each["output_type"] == "execute_result"
    ]


def test_notebook_is_kept_without_outputs(notebook: Path) -> None:
    cells = json.loads(notebook.read_text())["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if "outputs" in cell)


def test_notebook_runs_and_its_runs_and_versions_appear(notebook: Path, live: Settings) -> None:
    """R3, R9, R12: put, load, train, tune, compare, evaluate, readiness."""
    answers = execute(notebook, live)
    assert answers[0] == "1200"
    assert "Comparison" in answers[1]
    assert answers[3].startswith("(True,")
    assert "the code is in no Git commit" in answers[4]

    experiment = tracking.ensure_experiment(HANDLE, live)
    trials = tracking.find_runs(experiment, {"taxiway.kind": "trial"}, live)
    trained = tracking.find_runs(experiment, {"taxiway.kind": "training"}, live)
    assert {run.status for run in trained} == {"FINISHED"}
    assert len(trained) + len(trials) >= 5
    assert len(tracking.find_versions(HANDLE, {}, live)) >= 4
    where = Settings(home=live.home, data_repository=live.home / "own-datasets")
    assert get("digits", "latest", where).files == 1500
