"""MLflow shows a model folder as a model, and reads it back."""

import json
from pathlib import Path

import pytest
import yaml

from taxiway.registry import mlmodel


def described(folder: Path) -> dict[str, object]:
    mlmodel.write(folder, run_id="r1", key="k" * 64)
    found: dict[str, object] = yaml.safe_load((folder / "MLmodel").read_text())
    return found


def test_model_of_any_files_has_a_flavour(tmp_path: Path) -> None:
    (tmp_path / "weights.json").write_text("{}")
    found = described(tmp_path)
    assert (found["flavors"], found["run_id"]) == ({"taxiway": {"data": "."}}, "r1")


def test_onnx_model_has_the_flavours_of_mlflow(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    flavours = described(tmp_path)["flavors"]
    assert isinstance(flavours, dict)
    assert flavours["onnx"]["data"] == "model.onnx"
    assert flavours["python_function"]["loader_module"] == "mlflow.onnx"


def test_signature_that_training_left_is_kept(tmp_path: Path) -> None:
    inputs = [{"name": "x", "type": "double"}]
    (tmp_path / "signature.json").write_text(json.dumps({"inputs": inputs, "outputs": None}))
    assert described(tmp_path)["signature"] == {"inputs": json.dumps(inputs), "outputs": "null"}


def test_description_that_training_wrote_is_kept(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {own: {}}\n")
    assert described(tmp_path) == {"flavors": {"own": {}}}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_description_is_read_by_mlflow(tmp_path: Path) -> None:
    from mlflow.models import Model

    (tmp_path / "weights.json").write_text("{}")
    tensor = {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 784]}}
    (tmp_path / "signature.json").write_text(json.dumps({"inputs": [tensor], "outputs": [tensor]}))
    mlmodel.write(tmp_path, run_id="r1", key="k" * 64)
    found = Model.load(str(tmp_path / "MLmodel"))
    assert str(found.signature.inputs) == "[Tensor('float32', (-1, 784))]"
