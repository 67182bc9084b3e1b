"""Writes the `MLmodel` file that makes MLflow show a folder as a model; nothing is imported from mlflow or asked of it.

A model that training saved with MLflow keeps its own file. The signature is what training left as `signature.json`
in the folder: MLflow's own form, `{"inputs": [...], "outputs": [...]}`.
"""

import datetime
import json
from pathlib import Path
from typing import Any

NAME, SIGNATURE = "MLmodel", "signature.json"


def write(folder: Path, *, run_id: str, key: str) -> None:
    """Describe the model in a folder, unless it is described already.

    Args:
        folder: The model's files.
        run_id: The training run.
        key: Name of the training's result; its first 32 characters are the model's id.
    """
    if (folder / NAME).exists():
        return
    import yaml

    document: dict[str, Any] = {
        "artifact_path": "model",
        "flavors": _flavors(folder),
        "model_uuid": key[:32],
        "run_id": run_id,
        "utc_time_created": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
    }
    if (folder / SIGNATURE).exists():
        given = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
        document["signature"] = {part: json.dumps(given.get(part)) for part in ("inputs", "outputs")}
    (folder / NAME).write_text(yaml.safe_dump(document), encoding="utf-8")


def _flavors(folder: Path) -> dict[str, Any]:
    networks = sorted(folder.glob("*.onnx"))
    if len(networks) != 1:
        return {"taxiway": {"data": "."}}
    data = networks[0].name
    return {
        "onnx": {"data": data, "providers": ["CPUExecutionProvider"], "code": None},
        "python_function": {"loader_module": "mlflow.onnx", "data": data},
    }
