"""Give all of a handle's traffic back to what was live before, or at a time: at once, and without loading anything."""

from datetime import timedelta

from airflow.sdk import DAG, Asset, Param

from taxiway.operators.notifier import TaxiwayNotifier
from taxiway.operators.undo import UndoOperator

HANDLE = "visual_recognition"
PROMOTED = Asset(name=HANDLE, uri=f"mlflow://models/{HANDLE}", group="model")
TELL = TaxiwayNotifier(url="{{ var.value.get('taxiway_webhook', '') }}")

with DAG(
    dag_id="taxiway_undo",
    schedule=None,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5), "on_failure_callback": [TELL]},
    params={
        "to": Param(
            "",
            type="string",
            title="To",
            description="A model version, or a time such as `2026-05-01T12:00:00Z` for what was live then. "
            "Empty: the version before.",
        ),
    },
    tags=["taxiway", HANDLE],
    doc_md=__doc__,
):
    undo = UndoOperator(task_id="undo", handle=HANDLE, to="{{ params.to }}", outlets=[PROMOTED])
