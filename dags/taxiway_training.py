"""Train on data that another DAG prepared, once for each new version of them. The data's DAG is `taxiway_data.py`."""

from datetime import timedelta

from airflow.sdk import DAG, Asset, Param

from taxiway.operators.dataset import DatasetOperator
from taxiway.operators.evaluate import EvaluateOperator
from taxiway.operators.notifier import TaxiwayNotifier
from taxiway.operators.train import TrainOperator

HANDLE = "visual_recognition"
DATA = Asset(name=f"dataset/{HANDLE}", uri=f"taxiway://datasets/{HANDLE}", group="dataset")
TELL = TaxiwayNotifier(url="{{ var.value.get('taxiway_webhook', '') }}")

with DAG(
    dag_id="taxiway_training",
    schedule=[DATA],
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5), "on_failure_callback": [TELL]},
    params={
        "data_revision": Param(
            "",
            type="string",
            title="Data revision",
            description="A dataset version, such as `v3`. Empty: the one that began this run, or the latest.",
        ),
    },
    tags=["taxiway", HANDLE],
    doc_md=__doc__,
):
    dataset = DatasetOperator(task_id="dataset", name=HANDLE, revision="{{ params.data_revision }}")
    train = TrainOperator(task_id="train", handle=HANDLE, dataset=dataset.output)
    EvaluateOperator(
        task_id="evaluate", handle=HANDLE, version=train.output["version"], dataset=dataset.output
    )
