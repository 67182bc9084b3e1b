"""Starts the services of a trial, sees that they live, and ends all of them. Knows nothing of what they are for.

The processes have sessions of their own, so that a Ctrl-C in the terminal reaches the supervisor alone, which ends
them in good order. What it started, and everything below, is recorded every second: should the supervisor itself be
killed, the next one finds the rest by that record.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from taxiway.trial import processes
from taxiway.trial.errors import ServiceFailedError

_LOOK_EVERY_S = 1.0
_MAX_STARTS = 4
_STARTS_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A program that the trial keeps running.

    Attributes:
        name: One word; the log file is called after it.
        command: Program and arguments.
        environment: All its variables.
        cwd: Working directory.
        health_url: Address that answers 200 once the service is ready; None counts a living process as ready.
        stop_rank: Services of a lower rank are ended first; those of one rank together.
        grace_s: Seconds that it has to end by itself after SIGTERM.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: Path
    health_url: str | None = None
    stop_rank: int = 0
    grace_s: float = 6.0


@dataclass(slots=True)
class _Running:
    service: Service
    process: subprocess.Popen[bytes]
    starts_s: list[float] = field(default_factory=list)
    is_ready: bool = False


class Supervisor:
    """Owns the trial's processes from `start` to `stop`.

    Methods are called from one thread; a thread of its own looks after the processes in between. `stop` may be called
    at any time and more than once, and leaves no descendant of this process behind.

    Args:
        record: File that keeps pid and creation time of every process.
        logs: Folder of the log files.
        say: Called with a line when a service that had ended was started again.
    """

    def __init__(self, record: Path, logs: Path, *, say: Callable[[str], None] = print) -> None:
        self._record, self._logs, self._say = record, logs, say
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._failure: ServiceFailedError | None = None
        self._reaper = processes.OrphanReaper()
        self._family = processes.Family()
        self._http = httpx.Client(trust_env=False, timeout=2.0)
        self._thread = threading.Thread(target=self._look_after, name="supervisor", daemon=True)
        self.peak_memory_mb = 0.0

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def start(self, service: Service) -> None:
        """Start a service; its log goes on where the last one ended."""
        with self._lock:
            process = self._spawn(service)
            self._running[service.name] = _Running(service, process, [time.monotonic()])
            self._write_record()
        if not self._thread.is_alive():
            self._thread.start()

    def run(self, job: Service, *, deadline_s: float) -> None:
        """Run a program to its end.

        Raises:
            ServiceFailedError: If it ends with an error, or not by the deadline.
        """
        with self._lock:
            process = self._spawn(job)
            self._write_record()
        try:
            code = process.wait(deadline_s)
        except subprocess.TimeoutExpired as exc:
            raise ServiceFailedError(
                job.name, f"took more than {deadline_s:.0f} s", self.log(job.name)
            ) from exc
        if code != 0:
            raise ServiceFailedError(job.name, f"ended with {_how(code)}", self.log(job.name))

    def wait_ready(self, names: Iterable[str], *, deadline_s: float) -> None:
        """Wait until every named service answers.

        Raises:
            ServiceFailedError: If one ends, or does not answer by the deadline.
        """
        deadline = time.monotonic() + deadline_s
        for name in names:
            while not self._ready(name):
                self.check()
                if time.monotonic() > deadline:
                    what = (
                        f"was not ready after {deadline_s:.0f} s ({self._running[name].service.health_url})"
                    )
                    raise ServiceFailedError(name, what, self.log(name))
                time.sleep(0.1)

    def check(self) -> None:
        """Raise what is wrong with the services.

        Raises:
            ServiceFailedError: If one ended before it was ready, or ends again and again.
        """
        if self._failure is not None:
            raise self._failure

    def pid(self, name: str) -> int:
        return self._running[name].process.pid

    def stop(self) -> None:
        """End every process; those that a service started and left to themselves too."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)
        for rank in sorted({entry.service.stop_rank for entry in self._running.values()}):
            self._stop_rank(rank)
        processes.end_trees(self._family.members(), grace_s=4.0)
        for entry in self._running.values():
            entry.process.wait()
        self._running.clear()
        self._record.unlink(missing_ok=True)
        self._http.close()

    def _stop_rank(self, rank: int) -> None:
        chosen = [entry for entry in self._running.values() if entry.service.stop_rank == rank]
        roots = []
        for entry in chosen:
            with contextlib.suppress(psutil.Error):
                roots.append(psutil.Process(entry.process.pid))
        processes.end_trees(roots, grace_s=max(entry.service.grace_s for entry in chosen))

    def _spawn(self, service: Service) -> subprocess.Popen[bytes]:
        with self.log(service.name).open("ab") as log:
            return subprocess.Popen(
                service.command,
                cwd=service.cwd,
                env=dict(service.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _ready(self, name: str) -> bool:
        entry = self._running[name]
        if entry.process.poll() is None and not entry.is_ready:
            entry.is_ready = self._answers(entry.service.health_url)
        return entry.is_ready

    def _answers(self, url: str | None) -> bool:
        if url is None:
            return True
        try:
            return self._http.get(url).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def _look_after(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            with self._lock:
                self._restart_ended()
                self._reaper.look(entry.process.pid for entry in self._running.values())
                members = self._write_record()
            used_mb = processes.memory_mb([psutil.Process(), *members])
            self.peak_memory_mb = max(self.peak_memory_mb, used_mb)

    def _write_record(self) -> list[psutil.Process]:
        members = self._family.members()
        processes.write_record(self._record, members)
        return members

    def _restart_ended(self) -> None:
        for entry in self._running.values():
            code = entry.process.poll()
            if code is not None and self._failure is None:
                self._restart(entry, code)

    def _restart(self, entry: _Running, code: int) -> None:
        name, now = entry.service.name, time.monotonic()
        recent = [start for start in entry.starts_s if now - start < _STARTS_WITHIN_S]
        if not entry.is_ready or len(recent) >= _MAX_STARTS:
            self._failure = ServiceFailedError(name, f"ended with {_how(code)}", self.log(name))
            return
        entry.process = self._spawn(entry.service)
        entry.starts_s = [*recent, now]
        self._say(f"{name} ended with {_how(code)} and was started again")


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"code {code}"
