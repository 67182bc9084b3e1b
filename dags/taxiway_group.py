"""Bring new versions of two handles to their users together: both are promoted at one moment, or none is.

For models that only fit each other: one cuts digits out of an image, the other reads them. The story of groups, and
when not to use one: docs/traffic.md.
"""

from datetime import timedelta

from airflow.sdk import DAG, Asset, Param

from taxiway.operators.deploy import DeployOperator
from taxiway.operators.group import TrafficGroupOperator
from taxiway.operators.notifier import TaxiwayNotifier
from taxiway.operators.verify import VerifyOperator

HANDLES = ("visual_recognition", "digit_segmentation")
PROMOTED = [Asset(name=handle, uri=f"mlflow://models/{handle}", group="model") for handle in HANDLES]
TELL = TaxiwayNotifier(url="{{ var.value.get('taxiway_webhook', '') }}")

with DAG(
    dag_id="taxiway_group",
    schedule=None,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5), "on_failure_callback": [TELL]},
    params={
        handle: Param(
            type="integer",
            minimum=1,
            title=f"Version of {handle}",
            description=f"Registered model version of {handle} to roll out.",
        )
        for handle in HANDLES
    },
    tags=["taxiway", *HANDLES],
    doc_md=__doc__,
):
    together = TrafficGroupOperator(
        task_id="together",
        versions={handle: f"{{{{ params.{handle} }}}}" for handle in HANDLES},
        strategy="canary",
        outlets=PROMOTED,
    )
    before = None
    for handle in HANDLES:
        version = f"{{{{ params.{handle} }}}}"
        deploy = DeployOperator(task_id=f"deploy_{handle}", handle=handle, version=version)
        verify = VerifyOperator(task_id=f"verify_{handle}", handle=handle, version=version)
        deploy >> verify >> together
        # One after the other: each is held to its declared rate, and the machine is the same.
        if before is not None:
            before >> verify
        before = verify
