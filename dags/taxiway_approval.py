"""A canary that waits at 25 % until a person has said that it may go on, or has sent it back.

A rollback outranks the gate: a version that fails while it waits goes back at once, and no answer brings it forward.
The story: docs/strategies/canary.md.
"""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import DAG, Asset, Param

from taxiway.operators.deploy import DeployOperator
from taxiway.operators.notifier import TaxiwayNotifier
from taxiway.operators.sensor import TrafficSensor
from taxiway.operators.traffic import TrafficOperator
from taxiway.operators.verb import RolloutVerbOperator
from taxiway.operators.verify import VerifyOperator

HANDLE = "visual_recognition"
PROMOTED = Asset(name=HANDLE, uri=f"mlflow://models/{HANDLE}", group="model")
TELL = TaxiwayNotifier(url="{{ var.value.get('taxiway_webhook', '') }}")
STEPS = [
    {"setWeight": 5},
    {"analysis": {"units": 40}},
    {"setWeight": 25},
    {"pause": {}},
    {"setWeight": 100},
    {"bake": {"duration_s": 10}},
]

with DAG(
    dag_id="taxiway_approval",
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
        strategy={"kind": "canary", "steps": STEPS},
        until="paused",
    )
    # Nobody has to answer for a rollback to be seen: this fails as soon as the evidence has spoken.
    promoted = TrafficSensor(
        task_id="promoted",
        handle=HANDLE,
        rollout=canary.output["rollout_id"],
        outcome=["Promoted", "FastPromoted"],
        mode="reschedule",
        poke_interval=5,
        timeout=timedelta(days=1),
        outlets=[PROMOTED],
    )
    decide = HITLOperator(
        task_id="decide",
        subject=f"{HANDLE}: may version {{{{ params.version }}}} go on from 25 %?",
        body="{{ ti.xcom_pull(task_ids='canary')['reason'] }}",
        options=["promote", "abort"],
        defaults="abort",
        response_timeout=timedelta(hours=8),
    )
    carry_out = RolloutVerbOperator(
        task_id="carry_out",
        handle=HANDLE,
        rollout=canary.output["rollout_id"],
        verb="{{ ti.xcom_pull(task_ids='decide')['chosen_options'][0] }}",
        step=canary.output["step"],
        on_behalf_of="{{ (ti.xcom_pull(task_ids='decide')['responded_by_user'] or {}).get('name', 'nobody') }}",
    )

    verify >> canary >> [promoted, decide]
    decide >> carry_out
