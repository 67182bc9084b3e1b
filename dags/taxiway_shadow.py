"""Send a copy of live requests to a registered model version, and compare its answers with those that users get.

No user sees an answer of it. The story of the strategy: docs/strategies/shadow.md.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param

from taxiway.operators.deploy import DeployOperator
from taxiway.operators.notifier import TaxiwayNotifier
from taxiway.operators.traffic import TrafficOperator
from taxiway.operators.verify import VerifyOperator

HANDLE = "visual_recognition"
TELL = TaxiwayNotifier(url="{{ var.value.get('taxiway_webhook', '') }}")

with DAG(
    dag_id="taxiway_shadow",
    schedule=None,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=5), "on_failure_callback": [TELL]},
    render_template_as_native_obj=True,
    params={
        "version": Param(
            type="integer", minimum=1, title="Version", description="Registered model version to compare."
        ),
        "sample_pct": Param(
            10,
            type="number",
            exclusiveMinimum=0,
            maximum=100,
            title="Sample",
            description="Part of the live requests that is copied, in per cent.",
        ),
        "samples": Param(
            400,
            type="integer",
            minimum=1,
            title="Samples",
            description="Compared requests after which the shadow is done.",
        ),
        "most_different_pct": Param(
            1.0,
            type="number",
            minimum=0,
            maximum=100,
            title="Most different",
            description="Answers that may differ beyond the live version's own noise, in per cent.",
        ),
    },
    tags=["taxiway", HANDLE],
    doc_md=__doc__,
):
    deploy = DeployOperator(task_id="deploy", handle=HANDLE, version="{{ params.version }}")
    verify = VerifyOperator(task_id="verify", handle=HANDLE, version=deploy.output["version"])
    shadow = TrafficOperator(
        task_id="shadow",
        handle=HANDLE,
        version=deploy.output["version"],
        strategy={
            "kind": "shadow",
            "sample_pct": "{{ params.sample_pct }}",
            "samples": "{{ params.samples }}",
            "most_different_pct": "{{ params.most_different_pct }}",
            "compare": {"pointer": "/label"},
        },
    )

    verify >> shadow
