"""Process trees by pid and creation time: find, record, end. Knows nothing of what the processes do.

A pid alone names nothing for long, since the system uses it again; with its creation time it does. Records of both are
what lets the next trial end what a killed one left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from taxiway.tools import write_atomically

_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_SAME_START_S = 1.0
_LEFT_GRACE_S = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A process that was seen: enough to find it again, and to know it from another with its pid."""

    pid: int
    created_s: float
    name: str

    def find(self) -> psutil.Process | None:
        """Return the process when it still runs."""
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.created_s) < _SAME_START_S
            return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def know(process: psutil.Process) -> Known | None:
    """Return what identifies a process, None when it has ended meanwhile."""
    try:
        return Known(pid=process.pid, created_s=process.create_time(), name=process.name())
    except psutil.Error:
        return None


def adopt_orphans(*, is_on: bool = True) -> bool:
    """Make this process the parent of whatever its descendants leave behind; False where the system cannot (not Linux).

    A worker whose own parent was killed stays a descendant of the trial that way, so the trial finds and ends it.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_CHILD_SUBREAPER, int(is_on), 0, 0, 0) == 0)


def _adopts_orphans() -> bool:
    """Return whether this process gets the children that its descendants leave behind."""
    if sys.platform != "linux":
        return False
    is_on = ctypes.c_int()
    ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(is_on), 0, 0, 0)
    return bool(is_on.value) or os.getpid() == 1


class Family:
    """Every process that began below this one since the family was made, those that lost their parents since included.

    Not for several threads at once.
    """

    def __init__(self) -> None:
        self._others = set(psutil.Process().children())
        self._seen: list[psutil.Process] = []

    def members(self) -> list[psutil.Process]:
        """Return the living; whoever was below this process at an earlier look stays in the family."""
        children = (child for child in psutil.Process().children() if child not in self._others)
        self._seen = _trees([*children, *self._seen])
        return self._seen


def write_record(path: Path, processes: Iterable[psutil.Process]) -> None:
    """Record what identifies processes, for `end_leftovers`."""
    known = [entry for entry in map(know, processes) if entry is not None]
    write_atomically(path, json.dumps([asdict(entry) for entry in known]) + "\n")


def read_record(path: Path) -> tuple[Known, ...]:
    """Return the recorded processes; an absent or torn record is an empty one."""
    try:
        return tuple(Known(**entry) for entry in json.loads(path.read_text()))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return ()


def end_leftovers(path: Path, *, grace_s: float = 5.0) -> tuple[str, ...]:
    """End what a killed trial left behind, by its record, and return the names of what was ended."""
    found = [process for entry in read_record(path) if (process := entry.find()) is not None]
    names = tuple(sorted({_name(process) for process in found}))
    end_trees(found, grace_s=grace_s)
    path.unlink(missing_ok=True)
    return names


def end_trees(roots: Iterable[psutil.Process], *, grace_s: float) -> None:
    """End processes and everything below them, gently first.

    The trees are collected before the first signal: afterwards a child has another parent and is not found any more.
    The roots are told to end, and have `grace_s` to end their children in good order; what is left then is told
    itself, and killed in the end.
    """
    chosen = list(roots)
    tree = _trees(chosen)
    _tell(chosen, "terminate")
    _wait(chosen, grace_s)
    for signal_name, wait_s in (("terminate", _LEFT_GRACE_S), ("kill", 5.0)):
        tree = _trees([*tree, *chosen])
        _tell(tree, signal_name)
        _wait(tree, wait_s)


class OrphanReaper:
    """Takes ended processes that this one adopted off the system's table, where others would take them for living.

    One that was a zombie at two looks running is nobody's: whoever starts a process itself collects it at once.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def look(self, own: Iterable[int]) -> None:
        """Reap the orphans; none where this process adopts none: each child is then of somebody here who waits for it.

        Args:
            own: Pids whose exit codes are still wanted: the services, which are polled and not waited for.
        """
        if not _adopts_orphans():
            return
        mine = set(own)
        ended = {child.pid: child for child in psutil.Process().children() if _has_ended(child)}
        for pid in (ended.keys() & self._seen) - mine:
            _reap_if_ended(ended[pid])
        self._seen = set(ended)


def memory_mb(processes: Iterable[psutil.Process]) -> float:
    """Return the memory of processes together; pages that they share count once where the system can tell."""
    return sum(map(_memory_bytes, processes)) / 1e6


def _memory_bytes(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
        return int(getattr(full, "pss", full.rss))
    except psutil.Error:
        return 0


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return process.name()
    return "ended"


def _trees(roots: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return the living among processes and what is below them; one look at the system's table serves all."""
    children: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter(["ppid"]):
        children.setdefault(process.info["ppid"], []).append(process)
    found: dict[int, psutil.Process] = {}
    ahead = list(roots)
    while ahead:
        process = ahead.pop()
        if process.pid not in found and _is_alive(process):
            found[process.pid] = process
            ahead += children.get(process.pid, [])
    return list(found.values())


def _tell(processes: Iterable[psutil.Process], signal_name: str) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            getattr(process, signal_name)()


def _wait(processes: list[psutil.Process], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while any(_is_alive(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in processes:
        _reap_if_ended(process)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _has_ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _reap_if_ended(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error, ChildProcessError):
        if _has_ended(process) and process.ppid() == os.getpid():
            os.waitpid(process.pid, os.WNOHANG)
