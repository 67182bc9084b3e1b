"""What the whole path costs over its bare scripts: `python -m benchmarks.path`.

The example's DAG is run once with `dag.test()`, its first time, without tuning, on real services, with the environments
of its packages made before. Then its scripts are run by hand, one after the other, in the same environments on the same
data. What is left is packaging, lineage, serving, verification and Airflow, task by task.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.report import Figure, report
from benchmarks.services import START_S, Running, running
from taxiway import component
from taxiway.datasets import DatasetVersion, fetch
from taxiway.packaging import package
from taxiway.registry import models, packages
from taxiway.trial.bundle import Bundle
from taxiway.trial.services import HANDLE
from taxiway_serving.runtimes.process import ProcessRuntime

RUN_DAG = """
import json, runpy, sys
from airflow.sdk import DAG
from airflow.dag_processing.bundles.manager import DagBundlesManager
DagBundlesManager().sync_bundles_to_db()
values = runpy.run_path(sys.argv[1]).values()
dag = next(value.dag for value in values if isinstance(getattr(value, "dag", None), DAG))
import time
began = time.monotonic()
run = dag.test(run_conf={"trials": 0})
seconds = time.monotonic() - began
tasks = {
    ti.task_id: {
        "seconds": (ti.end_date - ti.start_date).total_seconds(),
        "result": ti.xcom_pull(task_ids=ti.task_id, key="return_value"),
    }
    for ti in run.get_task_instances()
}
open(sys.argv[2], "w").write(json.dumps({"state": str(run.state), "seconds": seconds, "tasks": tasks}))
"""
SCRIPTS = ("transform", "training", "evaluation")


def run_dag(world: Running) -> Mapping[str, Any]:
    """Run the example's DAG, and return its seconds and those of each task."""
    airflow = world.services.airflow_migrate()
    answer = world.layout.home / "dag-run.json"
    dag = world.layout.bundle / "dags" / "taxiway_visual_recognition.py"
    done = subprocess.run(
        [sys.executable, "-c", RUN_DAG, dag, answer],
        env=dict(airflow.environment),
        cwd=airflow.cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if not answer.exists():
        raise RuntimeError(done.stdout[-4000:] + done.stderr[-4000:])
    found: dict[str, Any] = json.loads(answer.read_text())
    if found["state"] != "success":
        raise RuntimeError(f"the DAG run ended as {found['state']}: {done.stdout[-4000:]}")
    return found


def run_scripts(world: Running, dag: Mapping[str, Any]) -> dict[str, float]:
    """Run the scripts of the example by hand, and return the seconds of each."""
    settings, folder = world.settings, world.layout.home / "by-hand"
    dataset = DatasetVersion.from_json(dag["tasks"]["snapshot"]["result"])
    model = models.download(
        models.get(HANDLE, dag["tasks"]["train"]["result"]["version"], settings), settings
    )
    inputs: dict[str, dict[str, Any]] = {
        "transform": {},
        "training": {"data_dir": fetch(dataset, settings)},
        "evaluation": {"data_dir": fetch(dataset, settings), "model_dir": model},
    }
    return {kind: _run_script(world, kind, folder / kind, inputs[kind]) for kind in SCRIPTS}


def _run_script(world: Running, kind: str, output: Path, inputs: Mapping[str, Any]) -> float:
    made = packages.lookup(HANDLE, kind, world.settings)
    ready = packages.materialise(made, world.settings)
    output.mkdir(parents=True)
    variables = component.environment(
        HANDLE, output_dir=output, params=made.manifest["params"], seed=0, **inputs
    )
    began = time.monotonic()
    subprocess.run(
        [ready.python, *str(made.manifest["command"]).split()[1:]],
        cwd=ready.source_dir,
        env={**world.environment, **variables, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - began


def make_environments(world: Running) -> None:
    """Make every environment that the example's packages need, by packaging a copy under another name."""
    copy = world.layout.home / "copy"
    source = world.layout.bundle / "examples" / "visual_recognition"
    subprocess.run(["cp", "-r", str(source), str(copy)], check=True)
    file = copy / "pyproject.toml"
    file.write_text(file.read_text().replace(f'handle = "{HANDLE}"', 'handle = "copy"'))
    package(str(copy), world.settings, log=lambda line: print(f"  {line}", file=sys.stderr))


@contextmanager
def world() -> Iterator[Running]:
    """Run the services of the path, with Airflow's database and the bundle of the checkout."""
    with running("mlflow", "controller", "envoy") as found:
        Bundle(found.layout.bundle, found.layout.checkout).reset()
        found.supervisor.run(found.services.airflow_migrate(), deadline_s=START_S)
        try:
            yield found
        finally:
            found.supervisor.stop()
            runtime = ProcessRuntime(found.layout.taxiway)
            for variant in runtime.observe():
                runtime.stop(variant, grace_s=2)
            runtime.close()


def main() -> int:
    """Measure, and report; there is no bar."""
    with world() as found:
        make_environments(found)
        dag = run_dag(found)
        bare = run_scripts(found, dag)
    tasks = {name: task["seconds"] for name, task in dag["tasks"].items()}
    figures = [
        Figure(name="the DAG, s", value=dag["seconds"]),
        Figure(name="its scripts by hand, s", value=sum(bare.values())),
        Figure(name="DAG over scripts", value=dag["seconds"] / sum(bare.values())),
        *(Figure(name=f"by hand: {kind}, s", value=seconds) for kind, seconds in bare.items()),
        *(Figure(name=f"task: {name}, s", value=seconds) for name, seconds in tasks.items()),
        Figure(name="between the tasks, s", value=dag["seconds"] - sum(tasks.values())),
    ]
    return report("path", figures)


if __name__ == "__main__":
    sys.exit(main())
