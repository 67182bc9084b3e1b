"""Runs a component as a process on this host, in its package's virtual environment.

The component inherits no more than where programs and certificates are; its processes end with the caller's.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from taxiway.errors import ComponentFailedError, JobStoppedError
from taxiway.packaging import environment as environments
from taxiway.packaging.package import CodePackage, Materialised
from taxiway.runners import guardian, limits, workplace
from taxiway.runners.runner import Job, JobResult, Log
from taxiway.runners.stop import Stop
from taxiway.tools import held_locks

STOP_S = guardian.GRACE_S + 1.0


class ProcessRunner:
    """A runner of processes on this host; it has no state, so any number of threads may share it.

    Args:
        materialise: Returns a package ready to run on this host.
    """

    def __init__(self, materialise: Callable[[CodePackage], Materialised]) -> None:
        self._materialise = materialise

    def prepare(self, package: CodePackage) -> None:
        """Make source and environment of a package ready; see `Runner.prepare`."""
        self._materialise(package)

    def is_known(self, _package: CodePackage, _folder: Path) -> bool:
        """Return False: a process ends with its caller. See `Runner.is_known`."""
        return False

    def forget(self, _package: CodePackage, _folder: Path) -> None:
        """Leave nothing to end: a process ends with its caller. See `Runner.forget`."""

    def run(self, job: Job, log: Log, stop: Stop | None = None) -> JobResult:
        """Run a job; see `Runner.run`."""
        limits.announce(job, log)
        ready = self._materialise(job.package)
        with environments.occupied(ready.python), workplace.room(job):
            return _run(job, ready, log, stop or Stop())


def _run(job: Job, ready: Materialised, log: Log, stop: Stop) -> JobResult:
    began, started = workplace.prepare(job, ready.source_dir), time.monotonic()
    argv = workplace.arguments(job, ready.python)
    with subprocess.Popen(
        [sys.executable, "-I", "-S", guardian.__file__, str(os.getpid()), *argv],
        cwd=job.folder / workplace.SOURCE,
        env=workplace.environment(job, ready.python),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        pass_fds=held_locks(),
    ) as process:
        try:
            with stop.calling(process.terminate):
                tail = workplace.follow(process.stdout or (), job, log)
                process.wait()
        finally:
            _stop(process)
            ended = workplace.clear(job)
    if process.returncode != 0 and stop.is_requested:
        raise JobStoppedError(job.name)
    if process.returncode != 0:
        raise ComponentFailedError(job.name, job.command, process.returncode, tail)
    seen = workplace.trace(job, began, ended, process.pid, workplace.alterations(ready.python))
    return JobResult(output_dir=job.output_dir, seconds=time.monotonic() - started, trace=seen)


def _stop(process: "subprocess.Popen[str]") -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
