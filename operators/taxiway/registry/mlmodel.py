"""Writes the `MLmodel` file that makes MLflow show a folder as a model; nothing is imported from mlflow or asked of it.

A model that training saved with MLflow keeps its own file. The signature is what training left as `signature.json`
in the folder: MLflow's own form, `{"inputs": [...], "outputs": [...]}`.
"""

import datetime
import json
from pathlib import Path
from typing import Any

from taxiway.tools import digest

NAME, SIGNATURE = "MLmodel", "signature.json"
# What says when and in which run it was made, and nothing of what is loaded. `reproduce.py` has the same list, since it
# runs where Taxiway is not.
_OF_THE_MAKING = (
    "artifact_path:",
    "model_id:",
    "model_size_bytes:",
    "model_uuid:",
    "run_id:",
    "utc_time_created:",
)


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


def hash_of(folder: Path) -> str:
    """Return the hash of what the description in a folder says of the model; "" where there is none.

    Which code loads which files is in it. When and in which run it was made is not: the same model that is trained
    again has the same hash. `reproduction/standalone/reproduce.py` does the same.
    """
    if not (folder / NAME).is_file():
        return ""
    # More than \n ends a line of YAML, and all of that ends one here: nothing hides behind a line that is left out.
    lines = (folder / NAME).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    return digest([line for line in lines if not line.startswith(_OF_THE_MAKING)])


def _flavors(folder: Path) -> dict[str, Any]:
    networks = sorted(folder.glob("*.onnx"))
    if len(networks) != 1:
        return {"taxiway": {"data": "."}}
    data = networks[0].name
    return {
        "onnx": {"data": data, "providers": ["CPUExecutionProvider"], "code": None},
        "python_function": {"loader_module": "mlflow.onnx", "data": data},
    }
