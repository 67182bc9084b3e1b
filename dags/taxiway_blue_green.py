"""Switch all users of a handle to a registered model version at once, watch it, and keep the old one warm.

The story of the strategy, and when not to use it: docs/strategies/blue_green.md.
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
    dag_id="taxiway_blue_green",
    schedule=None,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5), "on_failure_callback": [TELL]},
    render_template_as_native_obj=True,
    params={
        "version": Param(
            type="integer", minimum=1, title="Version", description="Registered model version to switch to."
        ),
        "warm_s": Param(
            3600,
            type="integer",
            minimum=0,
            title="Warm",
            description="Seconds that the old version stays ready for an undo that loads nothing.",
        ),
    },
    tags=["taxiway", HANDLE],
    doc_md=__doc__,
):
    deploy = DeployOperator(task_id="deploy", handle=HANDLE, version="{{ params.version }}")
    verify = VerifyOperator(task_id="verify", handle=HANDLE, version=deploy.output["version"])
    switch = TrafficOperator(
        task_id="switch",
        handle=HANDLE,
        version=deploy.output["version"],
        strategy={"kind": "blue_green", "warm_s": "{{ params.warm_s }}"},
        outlets=[PROMOTED],
    )

    verify >> switch
