"""MLflow shows a model folder as a model, and reads it back."""

import json
from pathlib import Path

import pytest
import yaml

from taxiway.registry import mlmodel
from taxiway.reproduction.standalone import reproduce


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


SAID = "artifact_path: model\nflavors:\n  python_function:\n    loader_module: a\nrun_id: {run}\n"


def hashed(folder: Path, text: str) -> str:
    (folder / "MLmodel").write_bytes(text.encode())
    found = mlmodel.hash_of(folder)
    assert reproduce.is_described(folder, {"mlmodel": found})
    return found


def test_hash_of_a_description_is_what_is_loaded_and_not_when_it_was_made(tmp_path: Path) -> None:
    assert mlmodel.hash_of(tmp_path) == ""
    first = hashed(tmp_path, SAID.format(run="r1"))
    assert hashed(tmp_path, "model_id: m-1\n" + SAID.format(run="r2")) == first
    for other in (
        SAID.format(run="r1").replace("loader_module: a", "loader_module: b"),
        SAID.format(run="r1\rflavors: {own: {}}"),
        SAID.format(run="r1\u2028flavors: {own: {}}"),
        SAID.format(run="\n  r1"),
        "",
    ):
        assert hashed(tmp_path, other) != first
        assert not reproduce.is_described(tmp_path, {"mlmodel": first})
    assert reproduce.is_described(tmp_path, {}), "a version from before this was kept"


def test_description_of_ours_has_the_same_hash_in_every_run(tmp_path: Path) -> None:
    found = []
    for run in ("r1", "r2"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "weights.json").write_text("{}")
        mlmodel.write(tmp_path / run, run_id=run, key=run * 16)
        found.append(mlmodel.hash_of(tmp_path / run))
    assert found[0] == found[1]


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
