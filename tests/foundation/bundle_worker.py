"""Runs the task `package` of the DAG `team` as Airflow does, from the bundle `team`: `bundle_worker.py COMMIT`.

The DAG processor's part (read the bundle, write the DAG), the scheduler's (a run that is pinned to a commit) and the
worker's own supervisor, in a process of its own, on the database of AIRFLOW_HOME. Prints the task's state and result.
"""

import json
import sys
from typing import Any

from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
from airflow.executors.workloads import BundleInfo
from airflow.models.dagbag import DBDagBag  # noqa: TID251 - this script plays the scheduler
from airflow.models.taskinstance import TaskInstance  # noqa: TID251
from airflow.models.xcom import XComModel  # noqa: TID251
from airflow.sdk import timezone
from airflow.sdk.api.datamodels._generated import TaskInstance as Workload
from airflow.sdk.execution_time.supervisor import InProcessTestSupervisor, supervise_task
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType


def read_bundle(commit: str) -> None:
    manager: Any = DagBundlesManager()  # type: ignore[no-untyped-call]
    manager.sync_bundles_to_db()
    bundle = manager.get_bundle("team", version=commit)
    bundle.initialize()
    bag = BundleDagBag(dag_folder=bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)
    assert not bag.import_errors, bag.import_errors
    sync_bag_to_db(bag, bundle.name, commit)


def queue_task() -> Workload:
    now = timezone.utcnow()
    with create_session() as session:
        dag: Any = DBDagBag().get_latest_version_of_dag("team", session=session)
        run = dag.create_dagrun(
            run_id=f"manual__{now.isoformat()}",
            logical_date=now,
            data_interval=(now, now),
            run_after=now,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.RUNNING,
            session=session,
        )
        (ti,) = run.get_task_instances(session=session)
        ti.state, ti.try_number = TaskInstanceState.QUEUED, 1
        session.flush()
        same = ("id", "task_id", "dag_id", "run_id", "try_number", "map_index", "dag_version_id")
        return Workload(**{name: getattr(ti, name) for name in same})


def main(commit: str) -> None:
    read_bundle(commit)
    task = queue_task()
    supervise_task(
        ti=task,
        bundle_info=BundleInfo(name="team", version=commit),
        dag_rel_path="team_dag.py",
        token="",
        client=InProcessTestSupervisor._api_client(),  # type: ignore[no-untyped-call]
        subprocess_logs_to_stdout=True,
    )
    with create_session() as session:
        ended: Any = session.get(TaskInstance, task.id)
        found = XComModel.get_many(run_id=task.run_id, dag_ids="team", task_ids="package", key="packages")
        packages = [XComModel.deserialize_value(row) for row in session.scalars(found)]
    print(json.dumps({"state": ended.state, "packages": packages[0] if packages else None}))


if __name__ == "__main__":
    main(sys.argv[1])
