"""Stands between a caller and a component's processes, and ends all of them when the caller is gone.

Run as a script by the interpreter of the library, with nothing but the standard library:
`python -I -S guardian.py <caller's pid> <program> <arguments…>`. It leads a session; the component leads a process
group in it. Linux tells it of the caller's death at once, elsewhere it looks every second.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from types import FrameType

GRACE_S = 2.0
LOOK_S = 1.0
_PR_SET_PDEATHSIG = 1


def main(caller: int, command: list[str]) -> int:
    """Run the command and return its exit code, negative for a signal."""
    signal.signal(signal.SIGTERM, _leave)
    _die_with_parent(signal.SIGTERM)
    if os.getppid() != caller:
        return -signal.SIGTERM
    # This process has one thread, so code between fork and exec is safe.
    child = subprocess.Popen(command, process_group=0, preexec_fn=_die_at_once)  # noqa: PLW1509
    try:
        return _wait(child, caller)
    except _LeftError:
        return -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_group(child)


class _LeftError(Exception):
    """The caller asked to end, or is gone."""


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise _LeftError


def _wait(child: "subprocess.Popen[bytes]", caller: int) -> int:
    while os.getppid() == caller:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(LOOK_S)
    return -signal.SIGTERM


def _end_group(child: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + GRACE_S
    if child.poll() is None:
        _signal_group(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(max(0.0, end - time.monotonic()))
    _signal_group(child.pid, signal.SIGKILL)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _die_with_parent(number: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def _die_at_once() -> None:
    _die_with_parent(signal.SIGKILL)


if __name__ == "__main__":
    code = main(int(sys.argv[1]), sys.argv[2:])
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)
