"""A team's Airflow over a world of real services: its DAGs are run, its people answer what a DAG asks them."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.path.world import DagRun, World, wait_until

RUNNER = Path(__file__).with_name("runner.py")
RUN_S = 400.0


class Run:
    """A DAG run that is under way."""

    def __init__(self, team: "Team", answer: Path) -> None:
        self._team, self._answer = team, answer

    @property
    def has_ended(self) -> bool:
        return self._answer.exists()

    def wait_for(self, fact: Callable[[], bool], *, what: str, within_s: float = RUN_S) -> None:
        """Wait until something holds; a run that has ended before it does shall say why."""

        def holds() -> bool:
            has_ended, is_so = self.has_ended, fact()
            assert is_so or not has_ended, f"the run ended before {what}: {self._team.log[-6000:]}"
            return is_so

        wait_until(holds, within_s=within_s, what=what)

    def result(self, *, within_s: float = RUN_S) -> DagRun:
        """Return what became of it, when it has ended."""
        wait_until(
            lambda: self.has_ended or self._team.is_gone, within_s=within_s, what=self._team.log[-6000:]
        )
        assert self._answer.exists(), self._team.log[-6000:]
        found = json.loads(self._answer.read_text())
        return DagRun(state=found["state"], tasks=found["tasks"], log=self._team.log + found.get("error", ""))


class Team:
    """Runs DAGs with `dag.test()` in one process that stays."""

    def __init__(self, world: World, **variables: str) -> None:
        airflow = world._services.airflow_migrate()
        self._world = world
        self._log = world.layout.log("team").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, str(RUNNER)],
            env=dict(airflow.environment) | variables,
            cwd=airflow.cwd,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def log(self) -> str:
        return self._world.layout.log("team").read_text(errors="replace")

    @property
    def is_gone(self) -> bool:
        return self._process.poll() is not None

    def start(self, name: str, **conf: Any) -> Run:
        """Start `dags/taxiway_<name>.py` with these params."""
        answer = self._world.layout.home / f"{name}-{time.time_ns()}.json"
        dag = self._world.layout.bundle / "dags" / f"taxiway_{name}.py"
        assert self._process.stdin is not None
        print(
            json.dumps({"dag": str(dag), "conf": conf, "answer": str(answer)}),
            file=self._process.stdin,
            flush=True,
        )
        return Run(self, answer)

    def run(self, name: str, **conf: Any) -> DagRun:
        """Run a DAG to its end."""
        return self.start(name, **conf).result()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(60)
        self._log.close()


class People:
    """Who answers in Airflow's page of required actions, through the API that the page uses."""

    def __init__(self, url: str) -> None:
        token = httpx.get(f"{url}/auth/token", timeout=60, trust_env=False).json()["access_token"]
        self._http = httpx.Client(
            base_url=f"{url}/api/v2",
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
            trust_env=False,
        )

    def questions(self, dag_id: str) -> list[Mapping[str, Any]]:
        """Return what a DAG asks and nobody has answered."""
        answer = self._http.get(f"/dags/{dag_id}/dagRuns/~/hitlDetails", params={"response_received": False})
        found: list[Mapping[str, Any]] = answer.json().get("hitl_details", [])
        return [each for each in found if each["task_instance"]["state"] == "awaiting_input"]

    def answer(self, question: Mapping[str, Any], choice: str) -> None:
        """Choose one of a question's options."""
        ti = question["task_instance"]
        path = f"/dags/{ti['dag_id']}/dagRuns/{ti['dag_run_id']}/taskInstances/{ti['task_id']}/-1/hitlDetails"
        self._http.patch(path, json={"chosen_options": [choice], "params_input": {}}).raise_for_status()

    def task(self, dag_id: str, run_id: str, task_id: str) -> Mapping[str, Any]:
        """Return a task of a run as it stands: its state, its try, its process."""
        answer = self._http.get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}").raise_for_status()
        found: Mapping[str, Any] = answer.json()
        return found

    def pause(self, dag_id: str) -> None:
        """Let the scheduler begin nothing more of a DAG."""
        self._http.patch(f"/dags/{dag_id}", json={"is_paused": True}).raise_for_status()

    def close(self) -> None:
        self._http.close()
