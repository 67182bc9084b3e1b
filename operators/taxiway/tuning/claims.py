"""Whose trial is whose: tells the trials of workers that live from those that a killed worker left open.

A worker holds a lock on this host, which the kernel frees when it dies, and shows a sign of life in the study for the
workers of other hosts.
"""

import contextlib
import fcntl
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taxiway.tools import exclusive

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

WORKER, SIGN = "taxiway_worker", "taxiway_sign_of_life:"
BEAT_S = 20.0
LEASE_S = 120.0
UNCLAIMED_S = 10.0


class Worker:
    """One worker of a study, alive as long as its context lasts.

    Args:
        study: The study that it works at, as an object of its own.
        folder: Folder of this host where workers hold their locks.
    """

    def __init__(self, study: "optuna.Study", folder: Path) -> None:
        self._study = study
        self._folder = folder
        self._name = uuid.uuid4().hex
        self._place = f"{socket.gethostname()}:{folder.resolve()}"
        self._seen: dict[int, float] = {}

    @contextlib.contextmanager
    def working(self) -> Iterator["Worker"]:
        """Live while the context lasts."""
        path, ended = self._lock_of(self._name), threading.Event()
        with exclusive(path):
            self._show()
            beat = threading.Thread(target=self._beat, args=(ended,), daemon=True, name="sign of life")
            beat.start()
            try:
                yield self
            finally:
                ended.set()
                beat.join()
                path.unlink(missing_ok=True)

    def claim(self, trial: "Trial") -> None:
        """Say that a trial is this worker's."""
        trial.set_user_attr(WORKER, {"name": self._name, "place": self._place})

    def is_abandoned(self, trial: "FrozenTrial") -> bool:
        """Tell whether nobody runs an open trial any more; one that nobody claimed yet is given some seconds."""
        owner: dict[str, Any] | None = trial.user_attrs.get(WORKER)
        if owner is None:
            first = self._seen.setdefault(trial.number, time.monotonic())
            return time.monotonic() - first >= UNCLAIMED_S
        if owner["name"] == self._name:
            return False
        if owner["place"] == self._place:
            return not _is_held(self._lock_of(owner["name"]))
        return time.time() - self._sign(owner) > LEASE_S

    def is_silent(self, trial: "FrozenTrial", signs: dict[str, float]) -> bool:
        """Tell whether the worker of an open trial is on another host, and has shown no new sign of life.

        Args:
            trial: The trial.
            signs: The sign that each worker showed first; a new one is noted in it.
        """
        owner: dict[str, Any] | None = trial.user_attrs.get(WORKER)
        if owner is None or owner["place"] == self._place:
            return False
        sign = self._sign(owner)
        return signs.setdefault(owner["name"], sign) == sign

    def _sign(self, owner: dict[str, Any]) -> float:
        return float(self._study.user_attrs.get(SIGN + owner["name"], 0))

    def _lock_of(self, name: str) -> Path:
        return self._folder / f"{name}.worker"

    def _show(self) -> None:
        self._study.set_user_attr(SIGN + self._name, time.time())

    def _beat(self, ended: threading.Event) -> None:
        from optuna.exceptions import StorageInternalError

        while not ended.wait(BEAT_S):
            # A storage that is away for a while is asked again; a worker is given up after several signs.
            with contextlib.suppress(StorageInternalError, OSError):
                self._show()


def _is_held(path: Path) -> bool:
    """Tell whether a worker of this host holds its lock; one whose lock is gone has ended."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
