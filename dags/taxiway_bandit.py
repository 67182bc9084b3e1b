"""Let several registered model versions earn their traffic: the more reward a version brings, the more users it gets.

The story of the strategy, what a reward is, and when not to use it: docs/strategies/bandit.md.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, Param, get_current_context, task

from taxiway.operators.deploy import DeployOperator
from taxiway.operators.notifier import TaxiwayNotifier
from taxiway.operators.traffic import TrafficOperator
from taxiway.operators.verify import VerifyOperator

HANDLE = "visual_recognition"
PROMOTED = Asset(name=HANDLE, uri=f"mlflow://models/{HANDLE}", group="model")
TELL = TaxiwayNotifier(url="{{ var.value.get('taxiway_webhook', '') }}")

with DAG(
    dag_id="taxiway_bandit",
    schedule=None,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5), "on_failure_callback": [TELL]},
    params={
        "versions": Param(
            type="array",
            items={"type": "integer", "minimum": 1},
            minItems=1,
            title="Versions",
            description="Registered model versions to try beside the one that is live.",
        ),
        "reward": Param(
            "click",
            type="string",
            title="Reward",
            description="The metric of your feedback that the bandit maximises.",
        ),
        "options": Param(
            {"window_s": 60},
            type="object",
            title="Options",
            description="Further options of the bandit, such as how long after its request a reward may come.",
        ),
    },
    tags=["taxiway", HANDLE],
    doc_md=__doc__,
):

    @task
    def versions() -> list[int]:
        """Return the versions that were asked for."""
        return list(get_current_context()["params"]["versions"])

    @task
    def strategy() -> dict[str, Any]:
        """Return the bandit that was asked for."""
        params = get_current_context()["params"]
        return {
            "kind": "bandit",
            "rivals": params["versions"][1:],
            "reward": params["reward"],
            **params["options"],
        }

    arms = versions()
    deploy = DeployOperator.partial(task_id="deploy", handle=HANDLE).expand(version=arms)
    # One after the other: each is held to its declared rate, and the machine is the same.
    verify = VerifyOperator.partial(task_id="verify", handle=HANDLE, max_active_tis_per_dagrun=1).expand(
        version=arms
    )
    bandit = TrafficOperator(
        task_id="bandit",
        handle=HANDLE,
        version="{{ params.versions[0] }}",
        strategy=strategy(),
        outlets=[PROMOTED],
    )

    deploy >> verify >> bandit
