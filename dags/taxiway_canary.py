"""Bring a registered model version to its users by canary: to a few of them first, to all when the evidence allows it.

The story of the strategy: docs/strategies/canary.md.
"""

from datetime import timedelta

from airflow.sdk import DAG, Asset, Param

from taxiway.operators.deploy import DeployOperator
from taxiway.operators.notifier import TaxiwayNotifier
from taxiway.operators.traffic import TrafficOperator
from taxiway.operators.verify import VerifyOperator

HANDLE = "visual_recognition"
PROMOTED = Asset(name=HANDLE, uri=f"mlflow://models/{HANDLE}", group="model")
TELL = TaxiwayNotifier(url="{{ var.value.get('taxiway_webhook', '') }}")

with DAG(
    dag_id="taxiway_canary",
    schedule=None,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5), "on_failure_callback": [TELL]},
    params={
        "version": Param(
            type="integer", minimum=1, title="Version", description="Registered model version to roll out."
        ),
    },
    tags=["taxiway", HANDLE],
    doc_md=__doc__,
):
    deploy = DeployOperator(task_id="deploy", handle=HANDLE, version="{{ params.version }}")
    verify = VerifyOperator(task_id="verify", handle=HANDLE, version=deploy.output["version"])
    canary = TrafficOperator(
        task_id="canary",
        handle=HANDLE,
        version=deploy.output["version"],
        strategy="canary",
        outlets=[PROMOTED],
    )

    verify >> canary
