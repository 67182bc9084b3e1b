"""A search in a DAG: one task, or one a worker; with no trials the same DAG answers the defaults."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from taxiway.datasets import DatasetVersion
from taxiway.operators.open_study import OpenStudyOperator
from taxiway.operators.train import TrainOperator
from taxiway.operators.tune import TuneOperator
from taxiway.operators.tune_group import tune_workers
from taxiway.settings import Settings
from taxiway.tuning import Limits

RUNNER = Path(__file__).parents[1] / "dags" / "runner.py"
DATASET = {"name": "numbers"}

SEARCH = """
from datetime import UTC, datetime
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowSkipException
from taxiway.operators.tune import TuneOperator
from taxiway.operators.tune_group import tune_workers

class Wanted(BaseOperator):
    template_fields = ("said",)

    def __init__(self, *, said, **kwargs):
        super().__init__(**kwargs)
        self.said = said

    def execute(self, context):
        if self.said == "no":
            raise AirflowSkipException("no search is wanted")

asked = {{"handle": {handle!r}, "dataset": {dataset!r}, "trials": "{{{{ params.trials }}}}", "repeats": 0}}
with DAG("search", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), params={{"trials": 0, "wanted": "yes"}}):
    closed = tune_workers(workers=2, goal={{"pruner": "none"}}, **asked)
    again = TuneOperator(task_id="again", goal={{"pruner": "none"}}, **asked)
    closed >> again
    Wanted(task_id="wanted", said="{{{{ params.wanted }}}}") >> closed.dag.get_task("tune.open")
"""


def test_group_is_open_then_workers_then_close() -> None:
    with DAG("d", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        tuned = tune_workers(workers=3, handle="tiny", dataset=DATASET, trials=9, runner="docker")
        TrainOperator(task_id="train", handle="tiny", dataset=DATASET, parameters=tuned.output["params"])  # type: ignore[index]
    assert set(dag.task_ids) == {"tune.open", "tune.worker", "tune.close", "train"}
    assert dag.get_task("tune.worker").upstream_task_ids == {"tune.open"}
    assert dag.get_task("tune.close").upstream_task_ids == {"tune.open", "tune.worker"}
    assert dag.get_task("train").upstream_task_ids == {"tune.close"}
    # A worker that is lost costs its time, and not the study.
    assert tuned.trigger_rule == "all_done_min_one_success"
    worker: Any = dag.get_task("tune.worker")
    assert (tuned.runner, worker.partial_kwargs["runner"]) == ("docker", "docker")


@pytest.mark.parametrize("nothing", [None, "", {}], ids=["none", "an empty text", "an empty mapping"])
@pytest.mark.parametrize("operator", [OpenStudyOperator, TuneOperator])
def test_template_that_renders_to_nothing_asks_for_nothing(
    operator: type[OpenStudyOperator], nothing: Any
) -> None:
    version = DatasetVersion(
        name="numbers",
        version=1,
        tag="numbers@v1",
        commit="c" * 40,
        hash="h",
        size_bytes=1,
        files=1,
        repository="r",
    )
    task = operator(
        task_id="t", handle="tiny", dataset=version.to_json(), trials="3", goal=nothing, parameters=nothing
    )
    assert task.asked() == {
        "handle": "tiny",
        "dataset": version,
        "trials": 3,
        "goal": None,
        "params": None,
        "seed": 0,
        "limits": Limits(),
        "digests": {},
    }


@pytest.mark.slow
@pytest.mark.usefixtures("registered", "airflow_home")
def test_search_with_workers_in_a_dag_answers_what_one_task_answers(
    handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path
) -> None:
    asked: list[dict[str, Any]] = [{"trials": 3}, {"trials": 0}, {"wanted": "no"}]
    found, none, skipped = run_dags(handle, dataset, live, tmp_path, *asked)
    closed, again = found["tune.close"]["result"], found["again"]["result"]
    assert closed["trials"] == 3
    assert sum(found[f"tune.worker[{at}]"]["result"]["finished"] for at in range(2)) == 3
    assert {key: closed[key] for key in ("params", "value", "study", "front")} == {
        key: again[key] for key in ("params", "value", "study", "front")
    }
    assert none["tune.close"]["result"]["params"] == none["again"]["result"]["params"] == {"c": 0.5}
    assert {task["state"] for name, task in skipped.items() if name != "wanted"} == {"skipped"}


def run_dags(
    handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path, *confs: dict[str, Any]
) -> list[dict[str, Any]]:
    file = tmp_path / "dags" / "search.py"
    file.parent.mkdir()
    file.write_text(SEARCH.format(handle=handle, dataset=dataset.to_json()))
    environment = {
        **os.environ,
        "TAXIWAY_HOME": str(live.home),
        "MLFLOW_TRACKING_URI": live.tracking_uri,
        "TAXIWAY_DATA_REPOSITORY": str(live.data_repository),
        "TAXIWAY_DATA_REMOTE": str(live.data_remote),
        "AIRFLOW__CORE__DAGS_FOLDER": str(file.parent),
    }
    answers = [tmp_path / f"answer-{at}.json" for at in range(len(confs))]
    lines = [
        json.dumps({"dag": str(file), "conf": conf, "answer": str(answer)})
        for conf, answer in zip(confs, answers, strict=True)
    ]
    done = subprocess.run(
        [sys.executable, RUNNER],
        env=environment,
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    found = [json.loads(answer.read_text()) for answer in answers if answer.exists()]
    said = done.stdout[-6000:] + done.stderr[-3000:]
    assert [each["state"] for each in found] == ["success"] * len(confs), said
    return [each["tasks"] for each in found]
