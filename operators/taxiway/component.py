"""What a component sees when it runs: the same variables in a container, a virtual environment and a notebook.

Nothing is started here (see `runners/`), and no credential may ever be put into these variables: secrets are files.
"""

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from taxiway.errors import OutputFaultsError

# What MLflow takes for the name of a metric.
_NAME = re.compile(r"[/\w.\- :]+")
_MOST_NAME = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracking:
    """The MLflow run that a component joins with `mlflow.start_run()`.

    Attributes:
        uri: Address of the server, without credentials.
        run_id: The run that the caller opened.
        experiment_id: Its experiment.
    """

    uri: str
    run_id: str
    experiment_id: str


def environment(
    handle: str,
    *,
    data_dir: Path | None = None,
    output_dir: Path | None = None,
    model_dir: Path | None = None,
    source_models_dir: Path | None = None,
    params: Mapping[str, Any] | None = None,
    secrets_dir: Path | None = None,
    tracking: Tracking | None = None,
    seed: int | None = None,
    threads: int = 1,
) -> dict[str, str]:
    """Return the contract variables of one component.

    Args:
        handle: The model's handle.
        data_dir: Read-only folder of the data.
        output_dir: Empty folder that the component writes to.
        model_dir: Folder of the model under evaluation, or being served.
        source_models_dir: Folder with one subfolder for each source model.
        params: Sent as JSON, keys sorted.
        secrets_dir: Folder of secret files; only its path is passed.
        tracking: The MLflow run to join.
        seed: Sent as `TAXIWAY_SEED` and as Python's hash seed.
        threads: Threads of the numeric libraries; 1 because small models on shared cores are slower with more.
    """
    values: dict[str, str | None] = {
        "TAXIWAY_HANDLE": handle,
        "TAXIWAY_DATA_DIR": _text(data_dir),
        "TAXIWAY_OUTPUT_DIR": _text(output_dir),
        "TAXIWAY_MODEL_DIR": _text(model_dir),
        "TAXIWAY_SOURCE_MODELS_DIR": _text(source_models_dir),
        "TAXIWAY_SECRETS_DIR": _text(secrets_dir),
        "TAXIWAY_PARAMS": json.dumps(dict(params or {}), sort_keys=True),
        "TAXIWAY_SEED": None if seed is None else str(seed),
        "PYTHONHASHSEED": None if seed is None else str(seed % 2**32),
    }
    found = {name: value for name, value in values.items() if value is not None}
    return found | _threads(threads) | _tracking(tracking)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _threads(count: int) -> dict[str, str]:
    return dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(count))


def _tracking(tracking: Tracking | None) -> dict[str, str]:
    if tracking is None:
        return {}
    return {
        "MLFLOW_TRACKING_URI": tracking.uri,
        "MLFLOW_RUN_ID": tracking.run_id,
        "MLFLOW_EXPERIMENT_ID": tracking.experiment_id,
    }


def read_metrics(output_dir: Path) -> dict[str, float]:
    """Return the numbers in `metrics.json`; nested tables become names with dots, text and lists are left out.

    True is 1 and false is 0.

    Raises:
        OutputFaultsError: If the file is missing, is no JSON object, or holds a number that is not finite, or one by a
            name that MLflow does not take.
    """
    path = output_dir / "metrics.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise OutputFaultsError(("metrics.json is missing from TAXIWAY_OUTPUT_DIR",), "results") from exc
    except ValueError as exc:
        raise OutputFaultsError((f"metrics.json is not JSON: {exc}",), "results") from exc
    if not isinstance(document, dict):
        raise OutputFaultsError(
            (f"metrics.json must be an object, got {type(document).__name__}",), "results"
        )
    found = dict(_numbers(document, ""))
    endless = [
        f"metric {name} must be finite, got {found[name]}" for name in found if not isfinite(found[name])
    ]
    faults = (*endless, *_unfit_names(found))
    if faults:
        raise OutputFaultsError(faults, "results")
    return found


def _unfit_names(metrics: Mapping[str, float]) -> Iterator[str]:
    """Yield what is wrong with the names that MLflow would refuse, which here would cost a whole training."""
    for name in metrics:
        is_path = posixpath.normpath(name) == name and not name.startswith(("..", "/")) and name != "."
        if not _NAME.fullmatch(name):
            yield f"metric name {name!r} must be of letters, digits, spaces and _ - . : / alone"
        elif len(name) > _MOST_NAME:
            yield f"metric name {name[:40]!r}… must have at most {_MOST_NAME} characters, got {len(name)}"
        elif not is_path:
            yield f"metric name {name!r} must not begin or end with /, nor hold //, ./ or ../"


def model_folder(output_dir: Path) -> Path:
    """Return the model that training left.

    Raises:
        OutputFaultsError: If `model/` is missing or empty.
    """
    folder = output_dir / "model"
    if not folder.is_dir() or not any(path.is_file() for path in folder.rglob("*")):
        raise OutputFaultsError(("model/ in TAXIWAY_OUTPUT_DIR is missing or empty",), "results")
    return folder


def _numbers(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", float(value)
