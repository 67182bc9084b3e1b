"""The numbers of a run are those of `metrics.json`, whatever the component logged to MLflow while it ran."""

from pathlib import Path

import pytest

from taxiway.datasets import DatasetVersion
from taxiway.errors import ComponentFailedError, GateFailedError
from taxiway.evaluation import evaluate
from taxiway.packaging import package
from taxiway.registry import packages, tracking
from taxiway.settings import Settings
from taxiway.training import train
from tests.projects import EVALUATE, TRAIN, commit_all

pytestmark = pytest.mark.slow

LOG = """
import json, os, pathlib, time, urllib.request

def send(what, body):
    body = {"run_id": os.environ["MLFLOW_RUN_ID"], "timestamp": int(time.time() * 1000), **body}
    url = os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/runs/" + what
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"}))

for step in range(3):
    send("log-metric", {"key": "score", "value": 0.97 + step / 100, "step": step * 1000})
send("log-metric", {"key": "only_logged", "value": 1.0, "step": 0})
"""
# What is logged differs in each try, as a time stamp does; the first try fails.
FALL = """
send("log-parameter", {"key": "logging_dir", "value": str(time.time())})
fall = pathlib.Path(json.loads(os.environ["TAXIWAY_PARAMS"])["fall"])
if fall.exists():
    send("log-metric", {"key": "only_in_the_first_try", "value": 1.0, "step": 30})
    fall.unlink()
    raise SystemExit("fell")
"""


def test_gate_and_version_read_what_the_component_left_at_its_end(
    handled: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    """MLflow shows the value of the highest step: the best of the last batches, and not what was measured."""
    (handled / "train.py").write_text(LOG + TRAIN)
    (handled / "evaluate.py").write_text(LOG + EVALUATE)
    commit_all(handled)
    packages.register(package(str(handled), live), live)
    poor = train(handle, dataset, live, params={"c": 0.9})
    assert poor.metrics == {"score": pytest.approx(0.64)}
    with pytest.raises(GateFailedError) as caught:
        evaluate(handle, poor.version, dataset, live, minimum={"score": 0.9, "only_logged": 0.5})
    assert caught.value.reasons == (
        "score 0.64 is below its minimum 0.9",
        "only_logged was not measured, its minimum is 0.5",
    )


def test_retry_starts_clean_where_the_try_before_logged_what_cannot_be_taken_back(
    handled: Path, handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path
) -> None:
    (handled / "train.py").write_text(LOG + FALL + TRAIN)
    commit_all(handled)
    packages.register(package(str(handled), live), live)
    (tmp_path / "fall").touch()
    params = {"fall": str(tmp_path / "fall")}
    with pytest.raises(ComponentFailedError):
        train(handle, dataset, live, params=params)
    made = train(handle, dataset, live, params=params)
    assert set(made.metrics) == {"score"}
    experiment = tracking.ensure_experiment(handle, live)
    (left,) = tracking.find_runs(experiment, {"taxiway.kind": "abandoned"}, live)
    assert (left.status, left.tags["taxiway.superseded_by"]) == ("KILLED", made.run_id)
    assert "only_in_the_first_try" in left.metrics
    assert train(handle, dataset, live, params=params) == made
