"""Processes of one variant, found by a mark in their environment, and their orderly end.

A BentoML worker has a session of its own and outlives its arbiter's SIGKILL, so neither a process group nor a
parent's id finds every process of a variant. A variable that all of them inherit does.
"""

import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import Final

import psutil

from taxiway_serving.names import ENV_VARIANT

_KILL_WAIT_S: Final = 5.0
_TERMINATE_WAIT_S: Final = 1.0
_POLL_S: Final = 0.02


def mark_of(process: psutil.Process) -> str | None:
    """Return the variant's mark in a process's environment; None if it has none, is gone, or is another user's."""
    try:
        return process.environ().get(ENV_VARIANT)
    except (psutil.Error, OSError):
        return None


def carries(pid: int, mark: str) -> bool:
    """Tell whether a live process has this id and carries this mark: a reused id does not."""
    try:
        return mark_of(psutil.Process(pid)) == mark
    except psutil.NoSuchProcess:
        return False


def marked(prefix: str) -> list[psutil.Process]:
    """Return every live process whose mark begins so, whoever its parent is."""
    return [p for p in psutil.process_iter() if (mark_of(p) or "").startswith(prefix)]


def listens(processes: Iterable[psutil.Process], port: int) -> bool:
    """Tell whether one of the processes listens on a TCP port: another program may have taken it."""
    return any(_listens(process, port) for process in processes)


def end(root: int | None, processes: Sequence[psutil.Process], *, grace_s: float) -> None:
    """End all processes: the root politely first, then whoever is left.

    Args:
        root: Id of the process that ends the others when it is asked to; None if it is gone.
        processes: All of them, collected before anything was signalled.
        grace_s: Seconds that the root is given to finish what is under way.
    """
    _terminate([process for process in processes if process.pid == root], grace_s)
    # Whoever the root has left behind has no one to be ended by but us.
    for process in _terminate(processes, _TERMINATE_WAIT_S):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _wait(processes, _KILL_WAIT_S)


def _terminate(processes: Sequence[psutil.Process], wait_s: float) -> list[psutil.Process]:
    """Ask processes to end, and return those that still live after a while."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    return _wait(processes, wait_s)


def _wait(processes: Sequence[psutil.Process], wait_s: float) -> list[psutil.Process]:
    """Wait until none lives, and return those that still do. A zombie is dead: who should bury it may never come."""
    deadline = time.monotonic() + wait_s
    left = [process for process in processes if _lives(process)]
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        left = [process for process in left if _lives(process)]
    return left


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def _listens(process: psutil.Process, port: int) -> bool:
    try:
        connections = process.net_connections("tcp")
    except (psutil.Error, OSError):
        return False
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections)
