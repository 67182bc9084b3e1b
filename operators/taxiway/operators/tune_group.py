"""A search with several workers as one line of a DAG: a group that opens a study, works at it and closes it."""

from collections.abc import Mapping
from typing import Any

from airflow.sdk import TaskGroup

from taxiway.operators.close_study import CloseStudyOperator
from taxiway.operators.open_study import OpenStudyOperator
from taxiway.operators.tune_worker import TuneWorkerOperator

# What says where a component runs; everything else that is not named below is about the study.
_WHERE = ("taxiway_conn_id", "runner", "docker_conn_id")


def tune_workers(
    *,
    workers: int,
    dataset: Mapping[str, Any],
    group_id: str = "tune",
    parallel: int | str = 1,
    repeats: int | str = 5,
    **study: Any,
) -> CloseStudyOperator:
    """Return the last task of a search with one task a worker; it answers what a TuneOperator answers.

    Args:
        workers: How many tasks work at the study at once.
        dataset: Dataset version to train the trials on (`snapshot.output`).
        group_id: Name of the group; its tasks are `open`, `worker` and `close`.
        parallel: Trials at a time, in each worker; trainings at a time, in the comparison.
        repeats: Seeds with which the best parameters are compared with the live version's; 0 compares nothing.
        study: What an OpenStudyOperator takes, and `runner` and `docker_conn_id` for every task.
    """
    where = {name: study.pop(name) for name in _WHERE if name in study}
    connection = {name: value for name, value in where.items() if name == "taxiway_conn_id"}
    with TaskGroup(group_id):
        opened = OpenStudyOperator(task_id="open", dataset=dataset, **connection, **study)
        plan: Any = opened.output
        working = TuneWorkerOperator.partial(task_id="worker", study=plan, parallel=parallel, **where).expand(
            worker=list(range(workers))
        )
        closed = CloseStudyOperator(
            task_id="close",
            study=plan,
            parallel=parallel,
            repeats=repeats,
            trigger_rule="all_done_min_one_success",
            **where,
        )
        working >> closed
    return closed
