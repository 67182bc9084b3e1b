"""Run DAG files one after another in one process, as lines of standard input ask: importing Airflow is what takes time.

A line is `{"dag": path, "conf": {...}, "answer": path}`; what became of each task is written to the answer's path.
"""

import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

from airflow.sdk import DAG


def main() -> None:
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    DagBundlesManager().sync_bundles_to_db()  # type: ignore[no-untyped-call]
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            found = run(Path(asked["dag"]), asked["conf"])
        except Exception as error:  # noqa: BLE001 - whatever it is, the test that asked shall see it
            found = {"state": "broken", "tasks": {}, "error": repr(error)}
        draft = Path(asked["answer"] + ".draft")
        draft.write_text(json.dumps(found, default=str), encoding="utf-8")
        os.replace(draft, asked["answer"])


def run(dag_file: Path, conf: dict[str, Any]) -> dict[str, Any]:
    values = runpy.run_path(str(dag_file)).values()
    dag = next(value.dag for value in values if isinstance(getattr(value, "dag", None), DAG))
    run = dag.test(run_conf=conf)
    tasks = {
        (ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]"): {
            "state": str(ti.state),
            "result": ti.xcom_pull(task_ids=ti.task_id, key="return_value", map_indexes=ti.map_index),
        }
        for ti in run.get_task_instances()
    }
    return {"state": str(run.state), "tasks": tasks}


if __name__ == "__main__":
    main()
