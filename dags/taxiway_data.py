"""Prepare data on a schedule of its own: whoever trains on them is told of a new version, and of none that is the same.

Several handles may train on what this DAG leaves; `taxiway_training.py` is one of them.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, AssetAlias, Param

from taxiway.operators.notifier import TaxiwayNotifier
from taxiway.operators.snapshot import SnapshotOperator
from taxiway.operators.transform import TransformOperator

HANDLE = "visual_recognition"
TELL = TaxiwayNotifier(url="{{ var.value.get('taxiway_webhook', '') }}")

with DAG(
    dag_id="taxiway_data",
    schedule="@daily",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5), "on_failure_callback": [TELL]},
    params={
        "licence": Param(
            "cc-by-4.0",
            type="string",
            title="Licence",
            description="Licence of the data, as SPDX names it.",
        ),
        "personal_data": Param(
            "none",
            enum=["none", "pseudonymous", "personal", "special"],
            title="Personal data",
            description="Whether the data say something of people; the data repository's policy may forbid it.",
        ),
    },
    tags=["taxiway", HANDLE],
    doc_md=__doc__,
):
    transform = TransformOperator(task_id="transform", handle=HANDLE)
    snapshot = SnapshotOperator(
        task_id="snapshot",
        name=HANDLE,
        folder=transform.output["path"],
        card={"licence": "{{ params.licence }}", "personal_data": "{{ params.personal_data }}"},
        outlets=[AssetAlias(f"dataset/{HANDLE}")],
    )
