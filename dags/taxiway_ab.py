"""Compare a registered model version with the live one on users, for a report: an experiment, which promotes nothing.

The story of the strategy, and how to read its report: docs/strategies/ab.md.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, get_current_context, task

from taxiway.operators.deploy import DeployOperator
from taxiway.operators.notifier import TaxiwayNotifier
from taxiway.operators.traffic import TrafficOperator
from taxiway.operators.verify import VerifyOperator

HANDLE = "visual_recognition"
TELL = TaxiwayNotifier(url="{{ var.value.get('taxiway_webhook', '') }}")

with DAG(
    dag_id="taxiway_ab",
    schedule=None,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5), "on_failure_callback": [TELL]},
    params={
        "version": Param(
            type="integer", minimum=1, title="Version", description="Registered model version to compare."
        ),
        "weight_pct": Param(
            50,
            type="number",
            exclusiveMinimum=0,
            maximum=100,
            title="Share",
            description="Part of the users that get it, in per cent.",
        ),
        "metric": Param(
            "click",
            type="string",
            title="Metric",
            description="The metric of your feedback that is compared.",
        ),
        "units": Param(
            1000,
            type="integer",
            minimum=1,
            title="Users",
            description="Users of each version after which the experiment is done. Fix it before you look.",
        ),
        "window_s": Param(
            60,
            type="integer",
            minimum=1,
            title="Window",
            description="Seconds after its request within which feedback may still come.",
        ),
    },
    tags=["taxiway", HANDLE],
    doc_md=__doc__,
):

    @task
    def experiment() -> dict[str, Any]:
        """Return the experiment that was asked for."""
        params = get_current_context()["params"]
        return {
            "kind": "ab",
            "by": "hash",
            "weights": {str(params["version"]): params["weight_pct"]},
            "metric": params["metric"],
            "units": params["units"],
            "window_s": params["window_s"],
        }

    deploy = DeployOperator(task_id="deploy", handle=HANDLE, version="{{ params.version }}")
    verify = VerifyOperator(task_id="verify", handle=HANDLE, version=deploy.output["version"])
    compare = TrafficOperator(
        task_id="compare", handle=HANDLE, version=deploy.output["version"], strategy=experiment()
    )

    verify >> compare
