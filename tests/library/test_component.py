"""A component sees the documented variables and no credential; its results are checked."""

import json
from pathlib import Path
from typing import Any

import pytest

from taxiway.component import Tracking, environment, model_folder, read_metrics
from taxiway.errors import OutputFaultsError
from taxiway.settings import child_environment


def test_environment_has_the_contract_variables(tmp_path: Path) -> None:
    found = environment(
        "digits",
        data_dir=tmp_path / "data",
        output_dir=tmp_path / "output",
        model_dir=tmp_path / "model",
        source_models_dir=tmp_path / "sources",
        secrets_dir=tmp_path / "secrets",
        params={"b": 2, "a": 1},
        tracking=Tracking(uri="http://mlflow", run_id="r1", experiment_id="7"),
        seed=3,
    )
    assert found == {
        "TAXIWAY_HANDLE": "digits",
        "TAXIWAY_DATA_DIR": str(tmp_path / "data"),
        "TAXIWAY_OUTPUT_DIR": str(tmp_path / "output"),
        "TAXIWAY_MODEL_DIR": str(tmp_path / "model"),
        "TAXIWAY_SOURCE_MODELS_DIR": str(tmp_path / "sources"),
        "TAXIWAY_SECRETS_DIR": str(tmp_path / "secrets"),
        "TAXIWAY_PARAMS": '{"a": 1, "b": 2}',
        "TAXIWAY_SEED": "3",
        "PYTHONHASHSEED": "3",
        "MLFLOW_TRACKING_URI": "http://mlflow",
        "MLFLOW_RUN_ID": "r1",
        "MLFLOW_EXPERIMENT_ID": "7",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


def test_environment_leaves_out_what_there_is_not() -> None:
    assert not [name for name in environment("digits") if name.endswith("_DIR") or name.startswith("MLFLOW")]


def test_inherited_environment_carries_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "TAXIWAY_TOKEN_FILE", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "secret")
    assert "secret" not in child_environment().values()


def test_metrics_nested_become_names_with_dots(tmp_path: Path) -> None:
    document = {"accuracy": 1, "per_class": {"0": 0.5}, "note": "text", "curve": [1, 2], "is_good": True}
    (tmp_path / "metrics.json").write_text(json.dumps(document))
    assert read_metrics(tmp_path) == {"accuracy": 1.0, "per_class.0": 0.5, "is_good": 1.0}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "missing"),
        ("{", "not JSON"),
        ("[1]", "must be an object"),
        ('{"a": NaN}', "must be finite"),
        ('{"recall@5": 1}', "'recall@5' must be of letters"),
    ],
    ids=["missing", "broken", "list", "nan", "name"],
)
def test_metrics_that_cannot_be_used_are_refused(tmp_path: Path, text: str | None, part: str) -> None:
    if text is not None:
        (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(OutputFaultsError, match=part):
        read_metrics(tmp_path)


@pytest.mark.slow
def test_metric_names_that_mlflow_does_not_take_are_refused_together(tmp_path: Path) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.utils import validation

    longest: int = validation.MAX_ENTITY_KEY_LENGTH
    is_taken: Any = validation._validate_metric_name
    unfit = ["recall@5", "map@[.5:.95]", "acc(%)", "", "/a", "a//b", "a/../b", "../a", ".", "a/"]
    for name in unfit:
        with pytest.raises(MlflowException):
            is_taken(name)
    unfit.append("n" * (longest + 1))
    fit = ["recall_at_5", "per class/ä-1.0:x", "n" * longest]
    for name in fit:
        is_taken(name)
    (tmp_path / "metrics.json").write_text(json.dumps(dict.fromkeys([*fit, *unfit], 0.5)))
    with pytest.raises(OutputFaultsError) as caught:
        read_metrics(tmp_path)
    assert len(caught.value.faults) == len(unfit)
    assert "metric name 'recall@5' must be of letters" in caught.value.faults[0]
    (tmp_path / "metrics.json").write_text(json.dumps(dict.fromkeys(fit, 0.5)))
    assert read_metrics(tmp_path) == dict.fromkeys(fit, 0.5)


def test_model_folder_that_is_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(OutputFaultsError, match="missing or empty"):
        model_folder(tmp_path)
