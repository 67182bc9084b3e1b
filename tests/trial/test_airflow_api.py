"""The REST client by answers in Airflow's own form, from a real local server; the real Airflow is in test_trial.py."""

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from taxiway.trial.airflow_api import AirflowApi, Task
from taxiway.trial.errors import AirflowRefusedError

RUN = "/api/v2/dags/digits/dagRuns/one"
ANSWERS: dict[str, Any] = {
    "/api/v2/dags/digits": {"dag_id": "digits"},
    RUN: {"state": "running"},
    f"{RUN}/taskInstances": {
        "task_instances": [
            {"task_id": "later", "state": None, "try_number": 0, "duration": None, "start_date": None},
            {
                "task_id": "train",
                "state": "running",
                "try_number": 2,
                "duration": None,
                "start_date": "2026-01-02",
            },
            {
                "task_id": "snapshot",
                "state": "success",
                "try_number": 1,
                "duration": 2.5,
                "start_date": "2026-01-01",
            },
        ]
    },
    f"{RUN}/taskInstances/train/xcomEntries/return_value": {"value": '{"version": 3}'},
    f"{RUN}/taskInstances/train/logs/2": {
        "content": [
            {
                "event": "Task failed with exception",
                "error_detail": [{"exc_type": "GateError", "exc_value": "0.4 < 0.8"}],
            },
            {"event": "done"},
        ]
    },
}


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answer = ANSWERS.get(self.path.split("?")[0])
        self.send_response(404 if answer is None else 200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer or {"detail": "not found"}).encode())

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def api() -> Iterator[AirflowApi]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with AirflowApi(f"http://127.0.0.1:{server.server_port}") as client:
            yield client
        server.shutdown()


TRAIN = Task(name="train", state="running", try_number=2, duration_s=0.0)


def test_tasks_come_in_the_order_of_their_start(api: AirflowApi) -> None:
    tasks = api.tasks("digits", "one")

    assert [task.name for task in tasks] == ["snapshot", "train", "later"]
    assert tasks[0] == Task(name="snapshot", state="success", try_number=1, duration_s=2.5)
    assert [task.has_ended for task in tasks] == [True, False, False]


def test_result_is_what_the_task_returned(api: AirflowApi) -> None:
    assert api.result("digits", "one", "train") == {"version": 3}
    assert api.result("digits", "one", "snapshot") is None


def test_log_is_plain_lines_with_the_error(api: AirflowApi) -> None:
    assert api.log("digits", "one", TRAIN) == "Task failed with exception\nGateError: 0.4 < 0.8\ndone"


@pytest.mark.parametrize(("dag_id", "is_there"), [("digits", True), ("letters", False)])
def test_dag_is_there_or_not(api: AirflowApi, dag_id: str, is_there: bool) -> None:
    assert api.has_dag(dag_id) is is_there


def test_refusal_names_the_request_and_the_reason(api: AirflowApi) -> None:
    with pytest.raises(
        AirflowRefusedError, match=r"GET /api/v2/dags/digits/dagRuns/two with 404: .*not found"
    ):
        api.run_state("digits", "two")
