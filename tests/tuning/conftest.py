"""Fixtures of the tests of tuning: beside those of `tests/projects.py`, a project that is made to be searched."""

from pathlib import Path

import pytest

from taxiway.packaging import package
from taxiway.registry import packages
from taxiway.settings import Settings
from tests.projects import commit_all, write_project

# `curse` names a file: while it is there a trial does badly, step by step, and does not end by itself; `hold` one that
# makes it wait; `fall` one that makes it fail, once; `peek` one that it reads, and is none of its inputs. Metrics go to
# MLflow as any program could send them.
TRAIN = """
import json, os, pathlib, time, urllib.request
params = json.loads(os.environ["TAXIWAY_PARAMS"])
output = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])

def there(name):
    return pathlib.Path(params.get(name, "/nowhere")).exists()

def log(value, step):
    body = {"run_id": os.environ["MLFLOW_RUN_ID"], "key": "score", "value": value, "step": step,
            "timestamp": int(time.time() * 1000)}
    url = os.environ["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/runs/log-metric"
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"}))

for step in range(params.get("steps", 0)):
    log(0.01 if there("curse") else 0.5, step)
if there("hold"):
    pathlib.Path(params["hold"]).with_suffix(".pid").write_text(str(os.getpid()))
while there("hold") or there("curse"):
    time.sleep(0.05)
if there("fall"):
    pathlib.Path(params["fall"]).unlink()
    raise SystemExit("fell")
if there("peek"):
    pathlib.Path(params["peek"]).read_text()
c = params["c"]
(output / "model").mkdir()
(output / "model" / "weights.json").write_text(json.dumps({"c": c, "seed": int(os.environ["TAXIWAY_SEED"])}))
luck = int(os.environ["TAXIWAY_SEED"]) % 7 / 1000
metrics = {"score": 1 - (c - 0.3) ** 2 + luck * params.get("luck", 0), "size": 10 * c, "one": 1.0}
(output / "metrics.json").write_text(json.dumps(metrics))
"""

# The nearer `c` is to 0.3, the more of 400 items are right; each seed is lucky with some items of its own.
EVALUATE = """
import csv, json, os, pathlib, random
weights = json.loads((pathlib.Path(os.environ["TAXIWAY_MODEL_DIR"]) / "weights.json").read_text())
output = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
draws, right = random.Random(weights["seed"]), 0.95 - abs(weights["c"] - 0.3)
rows = [[n, "a", "a" if n / 400 < right - 0.05 or draws.random() < 0.2 else "b"] for n in range(400)]
with (output / "predictions.csv").open("w", newline="") as file:
    csv.writer(file).writerows([["id", "label", "prediction"], *rows])
accuracy = sum(row[1] == row[2] for row in rows) / len(rows)
(output / "metrics.json").write_text(json.dumps({"accuracy": accuracy}))
"""


@pytest.fixture
def judged(registered: Path, live: Settings) -> Path:
    """Return the project, with an evaluation that leaves predictions registered as well."""
    (registered / "evaluate.py").write_text(EVALUATE)
    path = registered / "pyproject.toml"
    bars = 'minimum = { score = 0.9 }\ncompare = "score"\ntolerance = 0.01\n'
    path.write_text(path.read_text().replace(bars, 'compare = "accuracy"\n'))
    commit_all(registered)
    packages.register(package(str(registered), live, kinds=["evaluation", "inference"]), live)
    return registered


@pytest.fixture
def registered(tmp_path: Path, handle: str, live: Settings) -> Path:
    """Return the project, its training package registered."""
    folder = write_project(tmp_path / "project", handle)
    (folder / "train.py").write_text(TRAIN)
    commit_all(folder)
    packages.register(package(str(folder), live, kinds=["training"]), live)
    return folder
