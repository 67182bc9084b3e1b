"""What tests of runners share: a tiny package, and a job whose caller ends before it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from taxiway.packaging import CodePackage


def tiny_package(command: str = "python main.py") -> CodePackage:
    """Return a training package that nobody registered; its source is where the test puts it."""
    return CodePackage(
        handle="tiny",
        kind="training",
        digest="d" * 64,
        source_hash="",
        lock_hash="",
        python="",
        manifest={"command": command, "threads": 1},
    )


def end_caller(program: str, folder: Path, number: int, until: Callable[..., None]) -> None:
    """Run a program that runs a job, end it by a signal, and wait until no process of the job is left.

    Args:
        program: Python that takes the folder as its argument and runs the job in its subfolder `job`; the job writes
            the numbers of its processes to `pids` in its output, whole.
        folder: Folder of the test's own.
        number: The signal.
        until: The fixture.
    """
    caller = subprocess.Popen([sys.executable, "-c", program, str(folder)], stderr=subprocess.DEVNULL)
    pids = folder / "job" / "output" / "pids"
    until(pids.exists, 120)
    family = [psutil.Process(int(pid)) for pid in pids.read_text().split()]
    os.kill(caller.pid, number)
    caller.wait(60)
    until(lambda: not any(is_alive(process) for process in family))


def is_alive(process: psutil.Process | int) -> bool:
    """Tell whether a process, or whoever has its number, runs; one that ended and was not reaped does not."""
    try:
        found = psutil.Process(process) if isinstance(process, int) else process
        return found.is_running() and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
