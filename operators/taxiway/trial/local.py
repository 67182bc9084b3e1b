"""The stage that is processes of this machine. Brings them up in the order that is quickest, and ends them again.

Everything starts at once that can: Airflow waits for its own database only. A database is marked when it was made
completely, so that one whose making was interrupted is made anew instead of staying broken.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Self

from taxiway import tools
from taxiway.trial import processes
from taxiway.trial.console import Console
from taxiway.trial.layout import Layout
from taxiway.trial.services import DAG_ID, Services
from taxiway.trial.stage import READY_DEADLINE_S, Stage, hold
from taxiway.trial.supervisor import Supervisor

_AIRFLOW = ("airflow-api", "airflow-scheduler", "airflow-dag-processor")


class LocalStage(Stage):
    """Services that this process starts, looks after, and ends.

    Args:
        layout: Where the trial keeps its things; held by one trial at a time.
        environment: Variables that the trial was started with.
        console: Where progress is printed.
    """

    unit = "process"
    command = "make trial"

    def __init__(self, layout: Layout, environment: Mapping[str, str], console: Console) -> None:
        layout.make()
        token = _token(layout.token_file)
        super().__init__(layout, console, token)
        self._services = Services(layout, self.addresses, token, environment)
        self._supervisor = Supervisor(
            layout.processes_file, layout.logs, say=lambda what: console.event("service", what)
        )

    def __enter__(self) -> Self:
        processes.adopt_orphans()
        ended = processes.end_leftovers(self.layout.processes_file)
        if ended:
            self._say(f"ended what the last trial left running: {', '.join(ended)}")
        return self

    @property
    def peak_memory_mb(self) -> float:
        return self._supervisor.peak_memory_mb

    def open(self) -> None:
        services = self._services
        _drop_unfinished(self.layout.mlflow / "mlflow.db", self.layout.mlflow / ".made")
        for service in (services.mlflow(), services.controller(), services.envoy()):
            self._supervisor.start(service)
        self.bundle.reset()
        self._migrate_airflow()
        for service in (
            services.airflow_scheduler(),
            services.airflow_api(),
            services.airflow_dag_processor(),
        ):
            self._supervisor.start(service)
        for names in (("controller",), ("envoy",), ("mlflow",), _AIRFLOW):
            self._supervisor.wait_ready(names, deadline_s=READY_DEADLINE_S)
            self._say(f"{names[0].removesuffix('-api')} answers")
        (self.layout.mlflow / ".made").touch()
        self.watch.look_once()
        self.watch.start()
        self._wait_for_dag()

    def close(self) -> None:
        self._supervisor.stop()

    def check(self) -> None:
        self._supervisor.check()

    def data(self, path: str) -> Path:
        return Path(path)

    def log(self, name: str) -> Path:
        return self._supervisor.log(name)

    def task_log(self, run_id: str, task: str, try_number: int) -> Path | None:
        folder = self.layout.airflow / "logs" / f"dag_id={DAG_ID}" / f"run_id={run_id}"
        return folder / f"task_id={task}" / f"attempt={try_number}.log"

    def _migrate_airflow(self) -> None:
        made, installed = self.layout.airflow / ".made", version("apache-airflow")
        _drop_unfinished(self.layout.airflow / "airflow.db", made)
        if not made.exists() or made.read_text() != installed:
            self._supervisor.run(self._services.airflow_migrate(), deadline_s=READY_DEADLINE_S)
            made.write_text(installed)


def clean(layout: Layout) -> tuple[str, ...]:
    """End what a killed trial left behind, remove its folder, and return the names of what was ended.

    Raises:
        TrialRunningError: If a trial runs in the folder.
    """
    if not layout.home.exists():
        return ()
    with hold(layout):
        ended = processes.end_leftovers(layout.processes_file)
        tools.remove(layout.home)
    return ended


def _token(path: Path) -> str:
    """Return the controller's token; only the user may read its file."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
    return path.read_text().strip()


def _drop_unfinished(database: Path, made: Path) -> None:
    """Remove a database whose making was interrupted: nothing was ever kept in it, and it would stay broken."""
    if not made.exists():
        for part in database.parent.glob(f"{database.name}*"):
            part.unlink()
