"""Runs a component as a process on this host, in its package's virtual environment.

The component inherits no more than where programs and certificates are; its processes end with the caller's.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from taxiway import component
from taxiway.errors import ComponentFailedError
from taxiway.packaging.package import CodePackage, Materialised
from taxiway.runners import guardian
from taxiway.runners.runner import Job, JobResult, Log
from taxiway.settings import child_environment
from taxiway.tools import held_locks, remove

TAIL_LINES = 40
STOP_S = guardian.GRACE_S + 1.0
_PARAMETER = re.compile(r"\{(\w+)\}")


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

    def run(self, job: Job, log: Log) -> JobResult:
        """Run a job; see `Runner.run`."""
        ready = self._materialise(job.package)
        _prepare(job, ready.source_dir)
        started = time.monotonic()
        command = [sys.executable, "-I", "-S", guardian.__file__, str(os.getpid()), *_argv(job, ready.python)]
        with subprocess.Popen(
            command,
            cwd=job.folder / "source",
            env=_environment(job, ready.python),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            pass_fds=held_locks(),
        ) as process:
            try:
                tail = _follow(process, job, log)
            finally:
                _stop(process)
                remove(job.folder / "source")
        if process.returncode != 0:
            raise ComponentFailedError(job.name, job.command, process.returncode, "\n".join(tail))
        return JobResult(output_dir=job.output_dir, seconds=time.monotonic() - started)


def _prepare(job: Job, source_dir: Path) -> None:
    remove(job.folder)
    job.output_dir.mkdir(parents=True)
    shutil.copytree(source_dir, job.folder / "source", ignore=shutil.ignore_patterns("__pycache__"))


def _argv(job: Job, python: Path) -> list[str]:
    words = [_filled(word, job.params) for word in shlex.split(job.command)]
    return [str(python), *words[1:]] if words[0] in ("python", "python3") else words


def _filled(word: str, params: Mapping[str, Any]) -> str:
    return _PARAMETER.sub(lambda match: str(params.get(match[1], match[0])), word)


def _environment(job: Job, python: Path) -> dict[str, str]:
    inherited = child_environment()
    path = os.pathsep.join([str(python.parent), inherited.get("PATH", os.defpath)])
    contract = component.environment(
        job.package.handle,
        data_dir=job.inputs.data_dir,
        output_dir=job.output_dir,
        model_dir=job.inputs.model_dir,
        source_models_dir=job.inputs.source_models_dir,
        params=job.params,
        secrets_dir=job.inputs.secrets_dir,
        tracking=job.tracking,
        seed=job.seed,
        threads=job.package.manifest["threads"],
    )
    return inherited | contract | {"PATH": path, "PYTHONUNBUFFERED": "1"}


def _follow(process: "subprocess.Popen[str]", job: Job, log: Log) -> deque[str]:
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with (job.folder / "log.txt").open("w", encoding="utf-8") as file:
        for line in process.stdout or ():
            file.write(line)
            tail.append(line.rstrip("\n"))
            log(tail[-1])
    process.wait()
    return tail


def _stop(process: "subprocess.Popen[str]") -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
