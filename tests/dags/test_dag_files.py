"""The shape of every committed DAG: named after its file, explained by its form, retried, documented."""

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator

from taxiway_serving.rollout.steps import Compare

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "dags").glob("taxiway_*.py"))


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def dag(request: pytest.FixtureRequest) -> DAG:
    values = runpy.run_path(str(request.param)).values()
    (found,) = {
        id(dag): dag for value in values if isinstance(dag := getattr(value, "dag", None), DAG)
    }.values()
    return found


def test_dag_is_named_after_its_file(dag: DAG) -> None:
    assert Path(dag.fileloc).stem == dag.dag_id


def test_dag_form_explains_every_param(dag: DAG) -> None:
    params: Mapping[str, Any] = {name: dag.params.get_param(name) for name in dag.params}
    assert params
    assert all(param.description and param.schema["title"] for param in params.values())


def test_dag_that_needs_a_version_does_not_run_by_itself(dag: DAG) -> None:
    """Airflow refuses a schedule where a param has no default."""
    needed = [name for name in dag.params if not dag.params.get_param(name).has_value]
    schedule: object = dag.schedule
    assert schedule is None or not needed


def test_dag_moves_live_traffic_in_one_run_at_a_time(dag: DAG) -> None:
    assert dag.max_active_runs == 1


def test_dag_retries_what_touches_services(dag: DAG) -> None:
    for task in dag.tasks:
        if isinstance(task, BaseOperator):
            assert (task.retries or 0) >= 1, task.task_id


def test_dag_tells_of_every_task_that_fails(dag: DAG) -> None:
    """A deploy that never becomes ready has no rollout that a webhook of the controller could tell of."""
    for task in dag.tasks:
        told = [type(each).__name__ for each in getattr(task, "on_failure_callback", None) or ()]
        assert told == ["TaxiwayNotifier"], task.task_id


def test_dag_serializes(dag: DAG) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    again = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert again.task_ids == list(dag.task_ids)


def test_shadow_dag_and_its_page_have_the_strategys_own_defaults() -> None:
    values = runpy.run_path(str(ROOT / "dags" / "taxiway_shadow.py")).values()
    dag = next(value.dag for value in values if isinstance(getattr(value, "dag", None), DAG))
    own = Compare()
    told = {name: dag.params[name] for name in ("samples", "most_different_pct")}
    assert told == {"samples": own.samples, "most_different_pct": own.most_different_pct}
    page = (ROOT / "docs" / "strategies" / "shadow.md").read_text(encoding="utf-8")
    for name, default in told.items() | {("deadline_s", int(own.deadline_s))}:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert row.endswith(f"| {default} |")


def test_dag_has_its_place_in_the_documentation(dag: DAG) -> None:
    pages = [ROOT / "docs" / "traffic.md", ROOT / "docs" / "operators.md"]
    told = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    assert f"{dag.dag_id}.py" in told
