"""Where the story is played: the clients of everything that runs, whatever runs it. No process is started here.

`local.py` runs it as processes of this machine, `compose.py` in containers; both are a `Stage`.
"""

from __future__ import annotations

import fcntl
import os
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from taxiway.trial import screen
from taxiway.trial.airflow_api import AirflowApi
from taxiway.trial.bundle import Bundle
from taxiway.trial.console import Console
from taxiway.trial.errors import StoryBrokenError, TrialRunningError
from taxiway.trial.layout import Layout, choose_ports
from taxiway.trial.services import DAG_ID, HANDLE, Addresses
from taxiway.trial.watch import Watch
from taxiway_serving.client import Controller

READY_DEADLINE_S = 180.0


class Stage(ABC):
    """The running services of one trial, and the clients of them.

    Args:
        layout: Where the trial keeps its things; held by one trial at a time.
        console: Where progress is printed.
        token: The controller's token.
    """

    def __init__(self, layout: Layout, console: Console, token: str) -> None:
        self.layout, self._console = layout, console
        self._lock = hold(layout)
        self.addresses = Addresses(ports=choose_ports(layout.ports_file))
        self.bundle = Bundle(layout.bundle, layout.checkout)
        self.airflow = AirflowApi(self.addresses.url("airflow"))
        self.controller = Controller(self.addresses.url("controller"), token)
        self.watch = Watch(
            lambda: self.controller.endpoint(HANDLE),
            on_split=lambda shares: console.event("traffic", screen.split_words(shares)),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._console.event("end", f"ending every {self.unit}")
        self.watch.stop()
        self.close()
        self._lock.close()
        self._console.event("end", "nothing is left running")

    @property
    @abstractmethod
    def unit(self) -> str:
        """What its services are, in a word."""

    @property
    @abstractmethod
    def peak_memory_mb(self) -> float:
        """Memory of everything together, at its highest until now."""

    @property
    @abstractmethod
    def command(self) -> str:
        """What its user types to play again."""

    @abstractmethod
    def open(self) -> None:
        """Start every service and return when all answer and Airflow knows the DAG.

        Raises:
            ServiceFailedError: If one ends, or does not answer in time.
            StoryBrokenError: If Airflow cannot read the DAG file.
        """

    @abstractmethod
    def close(self) -> None:
        """End every service; may be called however far `open` came."""

    @abstractmethod
    def check(self) -> None:
        """Raise what is wrong with the services.

        Raises:
            ServiceFailedError: If one ended for good.
        """

    @abstractmethod
    def data(self, path: str) -> Path:
        """Return a folder of this machine with what a task left at a path where it ran."""

    @abstractmethod
    def log(self, name: str) -> Path:
        """Return the log of a service, as a file."""

    def task_log(self, run_id: str, task: str, try_number: int) -> Path | None:
        """Return the log of a task as a file, None where it is none of this machine."""
        return None

    def _wait_for_dag(self) -> None:
        deadline = time.monotonic() + READY_DEADLINE_S
        while not self.airflow.has_dag(DAG_ID):
            self.check()
            errors = self.airflow.import_errors()
            if errors or time.monotonic() > deadline:
                what = f"Airflow could not read the DAG {DAG_ID}"
                raise StoryBrokenError("start", what, "\n".join(errors), self.log("airflow-dag-processor"))
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
