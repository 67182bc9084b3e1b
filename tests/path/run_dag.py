"""Run one DAG file with `dag.test()` and write what became of each task: `run_dag.py DAG_FILE CONF_JSON ANSWER`."""

import json
import runpy
import sys
from pathlib import Path

from airflow.sdk import DAG


def main(dag_file: Path, conf: str, answer: Path) -> None:
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    DagBundlesManager().sync_bundles_to_db()  # type: ignore[no-untyped-call]
    dag = next(value for value in vars_of(dag_file) if isinstance(value, DAG))
    run = dag.test(run_conf=json.loads(conf))
    tasks = {
        ti.task_id: {
            "state": str(ti.state),
            "result": ti.xcom_pull(task_ids=ti.task_id, key="return_value"),
        }
        for ti in run.get_task_instances()
    }
    answer.write_text(json.dumps({"state": str(run.state), "tasks": tasks}))


def vars_of(dag_file: Path) -> list[object]:
    values = runpy.run_path(str(dag_file))
    return [value.dag for value in values.values() if isinstance(getattr(value, "dag", None), DAG)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
