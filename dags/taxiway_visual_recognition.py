"""Handwritten digits, the whole path: code and data in, a proven model version under live traffic out.

A team commits this file and the model project beside it; the project's folder is named relative to this file.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Asset, Param

from taxiway.operators.deploy import DeployOperator
from taxiway.operators.evaluate import EvaluateOperator
from taxiway.operators.notifier import TaxiwayNotifier
from taxiway.operators.package import PackageOperator
from taxiway.operators.register import RegisterOperator
from taxiway.operators.snapshot import SnapshotOperator
from taxiway.operators.traffic import TrafficOperator
from taxiway.operators.train import TrainOperator
from taxiway.operators.transform import TransformOperator
from taxiway.operators.tune import TuneOperator
from taxiway.operators.verify import VerifyOperator

HANDLE = "visual_recognition"
PROJECT = "../examples/visual_recognition"
PROMOTED = Asset(name=HANDLE, uri=f"mlflow://models/{HANDLE}", group="model")
TELL = TaxiwayNotifier(url="{{ var.value.get('taxiway_webhook', '') }}")

with DAG(
    dag_id="taxiway_visual_recognition",
    schedule="@weekly",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5), "on_failure_callback": [TELL]},
    params={
        "data_revision": Param(
            "",
            type="string",
            title="Data revision",
            description="A dataset version to train on, such as `v3`. Empty: transform the data and snapshot it.",
        ),
        "trials": Param(
            4,
            type="integer",
            minimum=0,
            maximum=1000,
            title="Trials",
            description="Parameter sets that the tuning tries. 0 trains with the project's own parameters.",
        ),
        "strategy": Param(
            "canary",
            enum=["canary", "blue_green"],
            title="Strategy",
            description="`canary` raises the new version's share in steps while the evidence allows it; "
            "`blue_green` switches all of the traffic at once and watches.",
        ),
    },
    tags=["taxiway", HANDLE],
    doc_md=__doc__,
):
    package_code = PackageOperator(
        task_id="package_code", project=PROJECT, components=["transform", "training", "evaluation"]
    )
    register_code = RegisterOperator(task_id="register_code", packages=package_code.output["packages"])
    package_inference = PackageOperator(
        task_id="package_inference", project=PROJECT, components=["inference"]
    )
    register_inference = RegisterOperator(
        task_id="register_inference", packages=package_inference.output["packages"]
    )

    # A model version names both packages. This run uses its own, whatever others register under the handle meanwhile.
    code, inference = register_code.output["packages"], register_inference.output["packages"]

    transform = TransformOperator(task_id="transform", handle=HANDLE, packages=code)
    snapshot = SnapshotOperator(
        task_id="snapshot",
        name=HANDLE,
        folder=transform.output["path"],
        revision="{{ params.data_revision }}",
    )
    tune = TuneOperator(
        task_id="tune",
        handle=HANDLE,
        dataset=snapshot.output,
        trials="{{ params.trials }}",
        repeats=3,
        packages=code,
    )
    train = TrainOperator(
        task_id="train",
        handle=HANDLE,
        dataset=snapshot.output,
        parameters=tune.output["params"],
        packages=[code, inference],
    )
    evaluate = EvaluateOperator(
        task_id="evaluate",
        handle=HANDLE,
        version=train.output["version"],
        dataset=snapshot.output,
        packages=code,
    )
    deploy = DeployOperator(task_id="deploy", handle=HANDLE, version=evaluate.output["version"])
    verify = VerifyOperator(task_id="verify", handle=HANDLE, version=deploy.output["version"])
    traffic = TrafficOperator(
        task_id="traffic",
        handle=HANDLE,
        version=deploy.output["version"],
        strategy="{{ params.strategy }}",
        outlets=[PROMOTED],
    )

    # Live traffic moves to nothing that is not proven.
    verify >> traffic
