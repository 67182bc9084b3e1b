"""The services of the path, for real: MLflow, the controller, Envoy; and the DAG, run in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from taxiway.deployment import deploy
from taxiway.settings import Settings
from taxiway.trial.bundle import Bundle
from taxiway.trial.layout import Layout, choose_ports
from taxiway.trial.load import Load
from taxiway.trial.samples import read_images
from taxiway.trial.services import HANDLE, Addresses, Services
from taxiway.trial.supervisor import Service, Supervisor
from taxiway_serving.client import Controller
from taxiway_serving.errors import TransportError
from taxiway_serving.runtimes.process import ProcessRuntime
from taxiway_serving.tokens import ensure_token
from tests.ports import keep_ports

RUN_DAG = Path(__file__).with_name("run_dag.py")
START_S = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DagRun:
    """A DAG run that has ended: the state and the result of each task."""

    state: str
    tasks: Mapping[str, Mapping[str, Any]]
    log: str

    def result(self, task: str) -> Any:
        return self.tasks[task]["result"]

    def state_of(self, task: str) -> str:
        return str(self.tasks[task]["state"])


class World:
    """What a path test plays in."""

    def __init__(self, checkout: Path, home: Path) -> None:
        self.layout = Layout(checkout=checkout, home=home)
        self.layout.make()
        keep_ports(self.layout)
        self.addresses = Addresses(ports=choose_ports(self.layout.ports_file))
        token = ensure_token(self.layout.token_file)
        self._services = Services(self.layout, self.addresses, token, os.environ)
        self.supervisor = Supervisor(self.layout.processes_file, self.layout.logs)
        self.controller = Controller(self.addresses.url("controller"), token, actor="tests")
        self.settings = Settings.from_environment(self.environment)

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables under which the library finds this world."""
        return self._services.controller().environment

    def open(self) -> None:
        services = self._services
        for service in (services.mlflow(), services.controller(), services.envoy()):
            self.supervisor.start(service)
        Bundle(self.layout.bundle, self.layout.checkout).reset()
        self.supervisor.run(services.airflow_migrate(), deadline_s=START_S)
        self.supervisor.wait_ready(("mlflow", "controller", "envoy"), deadline_s=START_S)

    def close(self) -> None:
        self.supervisor.stop()

    def end_variants(self) -> None:
        """End what runs on after the controller."""
        runtime = ProcessRuntime(self.layout.taxiway)
        for variant in runtime.observe():
            runtime.stop(variant, grace_s=2)
        runtime.close()

    def deploy(self, version: int) -> None:
        deploy(HANDLE, version, self.settings)

    def roll_out(self, version: int, rollout_id: str) -> None:
        self.controller.start_rollout(HANDLE, {"id": rollout_id, "version": version, "availability": 0.99})

    def weight_pct(self, rollout_id: str) -> float:
        return float(self.controller.rollout(HANDLE, rollout_id)["weight_pct"])

    def wait_for_rollout(self, rollout_id: str, *, within_s: float) -> None:
        """Wait for a rollout's end; the controller may be away for a while."""

        def has_ended() -> bool:
            try:
                return bool(self.controller.rollout(HANDLE, rollout_id)["status"] == "ended")
            except TransportError:
                return False

        wait_until(has_ended, within_s=within_s, what=f"the end of {rollout_id}")

    def run_dag(self, **conf: Any) -> DagRun:
        """Run the example's DAG with `dag.test()` and these params."""
        airflow: Service = self._services.airflow_migrate()
        answer = self.layout.home / f"dag-run-{time.time_ns()}.json"
        dag = self.layout.bundle / "dags" / "taxiway_visual_recognition.py"
        done = subprocess.run(
            [sys.executable, RUN_DAG, dag, json.dumps(conf), answer],
            env=dict(airflow.environment),
            cwd=airflow.cwd,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        if not answer.exists():
            raise AssertionError(done.stdout[-6000:] + done.stderr[-6000:])
        return DagRun(**json.loads(answer.read_text()), log=done.stdout + done.stderr)

    def start(self, code: str) -> subprocess.Popen[str]:
        """Start a program that uses the library, as a notebook or a worker would."""
        return subprocess.Popen(
            [sys.executable, "-c", code],
            env=dict(self.environment),
            cwd=self.layout.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def post(self, body: bytes, *, kind: str = "image/png", **headers: str) -> httpx.Response:
        """Send a request to the endpoint through Envoy."""
        named = {"content-type": kind, **{name.replace("_", "-"): text for name, text in headers.items()}}
        url = f"{self.addresses.endpoint}/predict"
        return httpx.post(url, content=body, headers=named, timeout=60, trust_env=False)

    def change_project(self, name: str, change: Callable[[str], str]) -> None:
        """Commit a change of the example, as a team would."""
        path = self.layout.bundle / "examples" / "visual_recognition" / name
        path.write_text(change(path.read_text()))
        identity = ("-c", "user.name=team", "-c", "user.email=team@example.com")
        command = ["git", *identity, "commit", "--quiet", "--all", "--message", f"change {name}"]
        subprocess.run(command, cwd=self.layout.bundle, check=True)

    @contextmanager
    def traffic(self, *, rate_rps: float = 50) -> Iterator[Load]:
        """Send steady traffic of real digits while the context lasts."""
        images = read_images(self.layout.samples)
        log = self.layout.log(f"failed-requests-{time.time_ns()}")
        load = Load(self.addresses.endpoint, images, rate_rps=rate_rps, log=log)
        load.start()
        try:
            yield load
        finally:
            load.stop()

    def pids(self, *versions: int) -> dict[int, int | None]:
        """Return the process of each of these versions; None for one that does not run."""
        variants = self.controller.endpoint(HANDLE)["variants"]
        return {version: variants[str(version)]["pid"] for version in versions}

    def variant_tree(self, version: int) -> list[psutil.Process]:
        """Return the processes of a variant, found by the mark in their environment."""
        variants = self.controller.endpoint(HANDLE)["variants"]
        pid = variants[str(version)]["pid"]
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]

    def kill(self, processes: Sequence[psutil.Process]) -> None:
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)


def wait_until(fact: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Look every 50 ms until something holds."""
    end = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < end, f"{what} did not happen within {within_s:.0f} s"
        time.sleep(0.05)


def command_line(process: psutil.Process) -> str:
    """Return a process's command line; nothing of one that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
