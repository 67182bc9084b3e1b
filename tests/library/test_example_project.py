"""The example project walks from its folder to an evaluated model version through the library alone."""

from pathlib import Path

import pytest

from taxiway.datasets import snapshot
from taxiway.evaluation import evaluate
from taxiway.packaging import package
from taxiway.registry import packages
from taxiway.settings import Settings
from taxiway.training import train
from taxiway.transform import transform

HANDLE = "visual_recognition"


@pytest.mark.slow
def test_example_walks_from_code_to_an_evaluated_version(root: Path, live: Settings, tmp_path: Path) -> None:
    dag = root / "dags" / "taxiway_visual_recognition.py"
    made = package("../examples/visual_recognition", live, beside=dag)
    assert [code.kind for code in made] == ["transform", "training", "evaluation", "inference"]
    packages.register(made, live)
    digits = transform(HANDLE, live, params={"count": 500})
    assert digits.files == 500
    assert transform(HANDLE, live, params={"count": 500}).origin == digits.origin
    dataset = snapshot(digits.path, "example_digits", live)
    version = train(HANDLE, dataset, live, params={"hidden": 64, "learning_rate": 0.01, "epochs": 6})
    # Other tests registered versions of this handle in the same MLflow, and no controller says which is live.
    found = evaluate(HANDLE, version.version, dataset, live, minimum={"accuracy": 0.5}, inconclusive="pass")
    assert found.metrics["accuracy"] > 0.5
    assert found.metrics["images"] == 100
