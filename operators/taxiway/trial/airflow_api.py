"""Airflow's REST API, as far as the trial needs it. HTTP only: nothing of Airflow is imported.

The calls are those of the public API, version 2, that any client may make.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx

from taxiway.trial.errors import AirflowRefusedError

_PATIENCE_S = 60.0
ENDED_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task of a DAG run as it stands."""

    name: str
    state: str
    try_number: int
    duration_s: float

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED_STATES


class AirflowApi:
    """A client of one Airflow that asks for no login.

    Args:
        url: Address of the API server, without a slash at its end.
        timeout_s: Of one request.
    """

    def __init__(self, url: str, *, timeout_s: float = 15.0) -> None:
        self._http = httpx.Client(base_url=f"{url}/api/v2", timeout=timeout_s, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def has_dag(self, dag_id: str) -> bool:
        """Tell whether the DAG processor has read the DAG yet."""
        return self._answer("GET", f"/dags/{dag_id}").status_code == httpx.codes.OK

    def import_errors(self) -> tuple[str, ...]:
        """Return what kept DAG files from being read."""
        found = self._ask("GET", "/importErrors")["import_errors"]
        return tuple(f"{error['filename']}: {error['stack_trace']}" for error in found)

    def unpause(self, dag_id: str) -> None:
        self._ask("PATCH", f"/dags/{dag_id}", json={"is_paused": False})

    def unfinished_runs(self, dag_id: str) -> tuple[str, ...]:
        """Return the ids of runs that have not ended: those that an interrupted trial left."""
        found = self._ask("GET", f"/dags/{dag_id}/dagRuns", params={"state": ["queued", "running"]})
        return tuple(run["dag_run_id"] for run in found["dag_runs"])

    def fail_run(self, dag_id: str, run_id: str) -> None:
        self._ask("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", json={"state": "failed"})

    def trigger(self, dag_id: str, run_id: str, conf: Mapping[str, Any]) -> None:
        """Start a run of a DAG with values for its parameters."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
        self._ask("POST", f"/dags/{dag_id}/dagRuns", json=body)

    def run_state(self, dag_id: str, run_id: str) -> str:
        return str(self._ask("GET", f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def tasks(self, dag_id: str, run_id: str) -> tuple[Task, ...]:
        """Return the tasks of a run in the order in which they started; those that have not are last."""
        found = self._ask("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        found.sort(key=lambda task: task["start_date"] or "~")
        return tuple(_task(entry) for entry in found)

    def result(self, dag_id: str, run_id: str, task: str) -> Any:
        """Return what a task returned, None where it returned nothing."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}/xcomEntries/return_value"
        answer = self._answer("GET", path, params={"deserialize": False})
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        value = _checked(answer)["value"]
        return _decoded(value)

    def log(self, dag_id: str, run_id: str, task: Task) -> str:
        """Return the log of a task's last try as plain lines."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task.name}/logs/{max(task.try_number, 1)}"
        answer = self._ask("GET", path, headers={"accept": "application/json"})
        return "\n".join(_lines(answer.get("content", [])))

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        return _checked(self._answer(method, path, **options))

    def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Return the answer; a question is asked again for a while, so that a server may be started again."""
        deadline = time.monotonic() + (_PATIENCE_S if method == "GET" else 0.0)
        while True:
            try:
                return self._http.request(method, path, **options)
            except httpx.TransportError as exc:
                if time.monotonic() > deadline:
                    raise AirflowRefusedError(f"{method} {path}", 0, f"{type(exc).__name__}: {exc}") from exc
                time.sleep(0.5)


def _checked(answer: httpx.Response) -> Any:
    if answer.is_success:
        return answer.json()
    request = f"{answer.request.method} {answer.request.url.path}"
    raise AirflowRefusedError(request, answer.status_code, answer.text[:500])


def _task(entry: Mapping[str, Any]) -> Task:
    return Task(
        name=entry["task_id"],
        state=entry["state"] or "none",
        try_number=entry["try_number"],
        duration_s=entry["duration"] or 0.0,
    )


def _decoded(value: Any) -> Any:
    """Return the value of an XCom, which comes as JSON text or as JSON itself."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return value


def _lines(content: Any) -> Iterator[str]:
    for event in content if isinstance(content, list) else [content]:
        if not isinstance(event, dict):
            yield str(event)
            continue
        yield str(event.get("event", ""))
        for detail in event.get("error_detail") or ():
            yield f"{detail.get('exc_type')}: {detail.get('exc_value')}"
