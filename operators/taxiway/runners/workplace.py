"""The workplace of a job that runs as a process on this host: its folder, its command, what it inherits, its log.

Shared by the runners of processes, and how a log is followed by every runner. Nothing is started here.
"""

import errno
import os
import shutil
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from taxiway import component
from taxiway.errors import DiskFullError
from taxiway.packaging import environment as environments
from taxiway.runners import watch
from taxiway.runners.runner import Job, Log
from taxiway.settings import child_environment
from taxiway.tools import remove
from taxiway.trace import Trace

TAIL_LINES, MOST_CHANGED = 40, 5
SOURCE = "source"


def prepare(job: Job, source_dir: Path) -> watch.Code:
    """Empty the job's folder, put a copy of the source into it, and return what that is."""
    remove(job.folder)
    job.output_dir.mkdir(parents=True)
    shutil.copytree(source_dir, job.folder / SOURCE, ignore=shutil.ignore_patterns("__pycache__"))
    return watch.code(job.folder / SOURCE)


def clear(job: Job) -> watch.Code:
    """Remove the copy of the source, and return what it had become."""
    ended = watch.code(job.folder / SOURCE)
    remove(job.folder / SOURCE)
    return ended


@contextmanager
def room(job: Job) -> Iterator[None]:
    """Leave nothing of a job for whose files there is no room, and say so.

    Raises:
        DiskFullError: If the block ends because a file could not be written for lack of room.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        shutil.rmtree(job.folder, ignore_errors=True)
        raise DiskFullError(job.folder, None, shutil.disk_usage(job.folder.parent).free) from error


def is_full(error: BaseException) -> bool:
    """Tell whether something failed because a disk or a quota is full."""
    if isinstance(error, shutil.Error):
        return os.strerror(errno.ENOSPC) in str(error)
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


def arguments(job: Job, python: Path) -> list[str]:
    """Return the program to run and its arguments; `python` is the interpreter of the package's environment."""
    words = job.words
    return [str(python), *words[1:]] if words[0] in ("python", "python3") else words


def environment(job: Job, python: Path) -> dict[str, str]:
    """Return every variable that the component sees: the contract, where programs are, where its reads are noted."""
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
    # MLflow would tell its makers of each run, from a thread that it starts when it is imported.
    own = {"PATH": path, "PYTHONUNBUFFERED": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return inherited | contract | watch.environment(job.folder, time.time()) | own


def follow(lines: Iterable[str], job: Job, log: Log) -> str:
    """Write what a job prints into its log as it comes, hand on each line, and return the last of them."""
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with (job.folder / "log.txt").open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(line)
            tail.append(line.rstrip("\n"))
            log(tail[-1])
    return "\n".join(tail)


def trace(job: Job, began: watch.Code, ended: watch.Code, guardian: int, altered: Iterable[str]) -> Trace:
    """Return what was seen of a job that has ended.

    Args:
        job: The job.
        began: Its source as it was started.
        ended: Its source after the end.
        guardian: Process id of what started the component.
        altered: What was found of its environment.
    """
    given, home = job.inputs, child_environment().get("HOME")
    inputs = {
        "dataset": given.data_dir,
        "model": given.model_dir,
        "source models": given.source_models_dir,
        "secrets": given.secrets_dir,
    }
    seen = watch.trace(
        job.folder,
        inputs,
        started=began,
        ended=ended,
        guardian=guardian,
        home=Path(home) if home else None,
        vouched=job.package.manifest.get("programs", ()),
    )
    return replace(seen, altered=tuple(altered))


def alterations(python: Path) -> Iterator[str]:
    """Say what of an environment is not what was installed.

    Args:
        python: Its interpreter.
    """
    found = environments.changes(python)
    if found:
        more = f" and {len(found) - MOST_CHANGED} more" if len(found) > MOST_CHANGED else ""
        yield f"its environment is not what was installed: {', '.join(found[:MOST_CHANGED])}{more}"
