"""A new dataset version is an event of its asset, the same bytes are none, and a run uses the version that began it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import Asset

from taxiway.datasets import facts, get
from taxiway.operators.dataset import announced_tag
from taxiway.settings import Settings
from tests.datasets.conftest import write

DAGS = """
from airflow.sdk import DAG, Asset, AssetAlias
from taxiway.operators.append import AppendOperator
from taxiway.operators.dataset import DatasetOperator
from taxiway.operators.snapshot import SnapshotOperator

with DAG(dag_id="data") as data:
    told = [AssetAlias("dataset/digits")]
    SnapshotOperator(task_id="keep", name="digits", folder="{folder}", card={{"licence": "mit"}}, outlets=told)
with DAG(dag_id="more") as more:
    AppendOperator(task_id="add", name="digits", folder="{more}", outlets=told)
prepared = Asset("dataset/digits", "taxiway://datasets/digits", group="dataset")
with DAG(dag_id="training", schedule=[prepared]) as training:
    DatasetOperator(task_id="choose", name="digits")
with DAG(dag_id="other_training", schedule=[prepared]) as other_training:
    DatasetOperator(task_id="choose", name="digits")
"""

# Airflow's API server answers a task through the same tables; what a scheduler would begin is read from its queue.
RUN = """
import json, runpy, sys
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.serialization.serialized_objects import LazyDeserializedDAG
from airflow.dag_processing.collection import update_dag_parsing_results_in_db
from airflow.models.asset import AssetDagRunQueue, AssetEvent
from airflow.utils.session import create_session
DagBundlesManager().sync_bundles_to_db()
dags = [value for value in runpy.run_path(sys.argv[1]).values() if type(value).__name__ == "DAG"]
with create_session() as session:
    from airflow.models.dag import DagModel
    update_dag_parsing_results_in_db(
        bundle_name="dags-folder", bundle_version=None, dags=[LazyDeserializedDAG.from_dag(dag) for dag in dags],
        import_errors={}, parse_duration=None, warnings=set(), session=session,
    )
    for found in session.query(DagModel).all():
        found.is_paused = False
by_name = {dag.dag_id: dag for dag in dags}
for name in sys.argv[3:]:
    run = by_name[name].test()
    assert str(run.state) == "success", run.state
    result = {ti.task_id: ti.xcom_pull(task_ids=ti.task_id, key="return_value") for ti in run.get_task_instances()}
with create_session() as session:
    events = [event.extra for event in session.query(AssetEvent).order_by(AssetEvent.id)]
    queued = sorted(row.target_dag_id for row in session.query(AssetDagRunQueue))
open(sys.argv[2], "w").write(json.dumps({"events": events, "queued": queued, "result": result}))
"""


def run_dags(tmp_path: Path, airflow_home: Path, *names: str) -> dict[str, Any]:
    """Run DAGs one after another in a fresh Airflow; return the asset events, what is queued, the last results."""
    answer, file = tmp_path / "answer.json", tmp_path / "dags" / "d.py"
    command = [sys.executable, "-c", RUN, str(file), str(answer), *names]
    database = shutil.copy(airflow_home / "airflow.db", tmp_path / "airflow.db")
    environment = os.environ | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


@pytest.mark.slow
def test_data_run_twice_are_trained_on_once_by_whoever_waits_for_them(
    tmp_path: Path, data: Path, airflow_home: Path, home: Path
) -> None:
    """R35, R36: two trainings wait for one asset; the same bytes made again begin neither."""
    more = write(tmp_path / "more", {"d.txt": "four"})
    write(tmp_path / "dags", {"d.py": DAGS.format(folder=data, more=more)})
    found = run_dags(tmp_path, airflow_home, "data", "data", "more", "training")
    assert [event["tag"] for event in found["events"]] == ["digits@v1", "digits@v2"]
    assert found["queued"] == ["other_training", "training"]
    settings = Settings.from_environment()
    first = get("digits", "v1", settings)
    assert found["events"][0] == first.to_json()
    assert facts(first, settings).made_by["taxiway.airflow.task_id"] == "keep"
    assert facts(first, settings).card.licence == "mit"
    # Nothing began that run but a person: it takes the latest.
    assert found["result"]["choose"]["tag"] == "digits@v2"


def test_run_uses_the_newest_version_that_began_it() -> None:
    events = {
        Asset("dataset/letters"): [SimpleNamespace(extra={"tag": "letters@v9", "version": 9})],
        Asset("dataset/digits"): [
            SimpleNamespace(extra={"tag": f"digits@v{number}", "version": number}) for number in (3, 10, 2)
        ]
        + [SimpleNamespace(extra={})],
    }
    context: Any = {"triggering_asset_events": events}
    assert announced_tag(context, "digits") == "digits@v10"
    assert announced_tag(context, "signs") == ""
    assert announced_tag({}, "digits") == ""
