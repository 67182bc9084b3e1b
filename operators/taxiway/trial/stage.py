"""Brings up what the story needs, in the order that is quickest, and ends it again.

Everything starts at once that can: Airflow waits for its own database only. A database is marked when it was made
completely, so that one whose making was interrupted is made anew instead of staying broken.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from taxiway import tools
from taxiway.trial import processes, screen
from taxiway.trial.airflow_api import AirflowApi
from taxiway.trial.bundle import Bundle
from taxiway.trial.console import Console
from taxiway.trial.errors import StoryBrokenError, TrialRunningError
from taxiway.trial.layout import Layout, choose_ports
from taxiway.trial.services import DAG_ID, HANDLE, Addresses, Services
from taxiway.trial.supervisor import Supervisor
from taxiway.trial.watch import Watch
from taxiway_serving.client import Controller

_READY_DEADLINE_S = 180.0
_AIRFLOW = ("airflow-api", "airflow-scheduler", "airflow-dag-processor")


class Stage:
    """The running services of one trial, and the clients of them.

    Args:
        layout: Where the trial keeps its things; held by one trial at a time.
        environment: Variables that the trial was started with.
        console: Where progress is printed.
    """

    def __init__(self, layout: Layout, environment: Mapping[str, str], console: Console) -> None:
        self.layout, self._console = layout, console
        layout.make()
        self._lock = hold(layout)
        self.addresses = Addresses(ports=choose_ports(layout.ports_file))
        token = _token(layout.token_file)
        self._services = Services(layout, self.addresses, token, environment)
        self.supervisor = Supervisor(
            layout.processes_file, layout.logs, say=lambda what: console.event("service", what)
        )
        self.bundle = Bundle(layout.bundle, layout.checkout)
        self.airflow = AirflowApi(self.addresses.url("airflow"))
        self.controller = Controller(self.addresses.url("controller"), token)
        self.watch = Watch(
            lambda: self.controller.endpoint(HANDLE),
            on_split=lambda shares: console.event("traffic", screen.split_words(shares)),
        )

    def __enter__(self) -> Self:
        processes.adopt_orphans()
        ended = processes.end_leftovers(self.layout.processes_file)
        if ended:
            self._say(f"ended what the last trial left running: {', '.join(ended)}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._console.event("end", "ending every process")
        self.watch.stop()
        self.supervisor.stop()
        self._lock.close()
        self._console.event("end", "nothing is left running")

    def open(self) -> None:
        """Start every service and return when all answer and Airflow knows the DAG.

        Raises:
            ServiceFailedError: If one ends, or does not answer in time.
            StoryBrokenError: If Airflow cannot read the DAG file.
        """
        services = self._services
        _drop_unfinished(self.layout.mlflow / "mlflow.db", self.layout.mlflow / ".made")
        for service in (services.mlflow(), services.controller(), services.envoy()):
            self.supervisor.start(service)
        self.bundle.reset()
        self._migrate_airflow()
        for service in (
            services.airflow_scheduler(),
            services.airflow_api(),
            services.airflow_dag_processor(),
        ):
            self.supervisor.start(service)
        for names in (("controller",), ("envoy",), ("mlflow",), _AIRFLOW):
            self.supervisor.wait_ready(names, deadline_s=_READY_DEADLINE_S)
            self._say(f"{names[0].removesuffix('-api')} answers")
        (self.layout.mlflow / ".made").touch()
        self.watch.look_once()
        self.watch.start()
        self._wait_for_dag()

    def _migrate_airflow(self) -> None:
        made, installed = self.layout.airflow / ".made", version("apache-airflow")
        _drop_unfinished(self.layout.airflow / "airflow.db", made)
        if not made.exists() or made.read_text() != installed:
            self.supervisor.run(self._services.airflow_migrate(), deadline_s=_READY_DEADLINE_S)
            made.write_text(installed)

    def _wait_for_dag(self) -> None:
        deadline = time.monotonic() + _READY_DEADLINE_S
        while not self.airflow.has_dag(DAG_ID):
            self.supervisor.check()
            errors = self.airflow.import_errors()
            if errors or time.monotonic() > deadline:
                what = f"Airflow could not read the DAG {DAG_ID}"
                log = self.supervisor.log("airflow-dag-processor")
                raise StoryBrokenError("start", what, "\n".join(errors), log)
            time.sleep(0.2)
        self.airflow.unpause(DAG_ID)

    def _say(self, what: str) -> None:
        self._console.event("start", what)


def hold(layout: Layout) -> IO[str]:
    """Return the lock of a trial's folder; the system frees it when its holder ends, however it ends.

    Raises:
        TrialRunningError: If another trial holds it.
    """
    lock = layout.lock_file.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        lock.seek(0)
        holder = int(lock.read().strip() or 0)
        lock.close()
        raise TrialRunningError(layout.home, holder) from exc
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


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
