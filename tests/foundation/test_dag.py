"""The shape of the example DAG: what the form asks, what waits for what, what it promises to others."""

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import ParamValidationError

EDGES = {
    "package_code": set(),
    "register_code": {"package_code"},
    "package_inference": set(),
    "register_inference": {"package_inference"},
    "transform": {"register_code"},
    "snapshot": {"transform"},
    "tune": {"snapshot", "register_code"},
    "train": {"snapshot", "tune", "register_code", "register_inference"},
    "evaluate": {"snapshot", "train", "register_code"},
    "deploy": {"evaluate"},
    "verify": {"deploy"},
    "traffic": {"deploy", "verify"},
}


@pytest.fixture(scope="module")
def dag(root: Path) -> DAG:
    values = runpy.run_path(str(root / "dags" / "taxiway_visual_recognition.py"))
    return values["traffic"].dag  # type: ignore[no-any-return]


def test_dag_tasks_wait_for_what_they_need(dag: DAG) -> None:
    assert {name: set(task.upstream_task_ids) for name, task in dag.task_dict.items()} == EDGES


def test_dag_runs_weekly_one_at_a_time_without_catching_up(dag: DAG) -> None:
    assert (str(dag.schedule), dag.catchup, dag.max_active_runs) == ("@weekly", False, 1)


def test_dag_retries_every_task_after_a_short_delay(dag: DAG) -> None:
    for task in dag.tasks:
        assert (task.retries or 0) >= 1, task.task_id
        assert task.retry_delay.total_seconds() <= 10, task.task_id


def test_dag_form_explains_every_param(dag: DAG) -> None:
    params: Mapping[str, Any] = {name: dag.params.get_param(name) for name in dag.params}
    assert set(params) == {"data_revision", "trials", "strategy"}
    assert all(param.description and param.schema["title"] for param in params.values())
    assert params["strategy"].schema["enum"] == ["canary", "blue_green"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("trials", -1), ("trials", "many"), ("strategy", "hope"), ("data_revision", 3)],
)
def test_dag_form_refuses(dag: DAG, name: str, value: object) -> None:
    with pytest.raises(ParamValidationError):
        dag.params.get_param(name).resolve(value)


def test_dag_names_its_project_relative_to_its_own_file(dag: DAG, root: Path) -> None:
    for name in ("package_code", "package_inference"):
        project = getattr(dag.task_dict[name], "project")  # noqa: B009 - mypy knows only the base operator
        assert not Path(project).is_absolute()
        assert (Path(dag.fileloc).parent / project).resolve() == root / "examples" / "visual_recognition"


def test_dag_announces_the_promoted_model(dag: DAG) -> None:
    (asset,) = dag.task_dict["traffic"].outlets
    assert (asset.name, asset.uri, asset.group) == (
        "visual_recognition",
        "mlflow://models/visual_recognition",
        "model",
    )


def test_dag_serializes(dag: DAG) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    assert DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag)).task_ids == list(
        dag.task_ids
    )
