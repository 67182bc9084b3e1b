"""Ports of loopback for tests: one that a program of its own will listen on, and one that refuses.

A port that the kernel gives and that is let go again may be anybody's by the time it is listened on: another test's, or
the near end of any connection. So these lie below those that the kernel gives, and each belongs to one process of one
test run on the machine for as long as that process lives.
"""

import fcntl
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taxiway.trial.layout import PORT_NAMES, Layout

PORTS = range(12_000, 32_000)
"""Above those of the settings' defaults, below those of connections, which begin at 32,768."""
_LOCKS = os.open(
    Path(tempfile.gettempdir()) / f"taxiway-test-ports-{os.getuid()}", os.O_RDWR | os.O_CREAT, 0o600
)


def free_port() -> int:
    """Return a port that nobody listens on, and that no other call is given, in any process, while this one lives."""
    return next(port for port in _ORDER if _is_ours(port) and _is_free(port))


def keep_ports(layout: Layout) -> None:
    """Have a trial, or what is laid out like one, listen on ports of ours: it takes those that it remembers."""
    layout.home.mkdir(parents=True, exist_ok=True)
    layout.ports_file.write_text(json.dumps({name: free_port() for name in PORT_NAMES}))


@contextmanager
def refusing_port() -> Iterator[int]:
    """Give a port that refuses connections while the context lasts: it is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


def _in_order() -> Iterator[int]:
    """Yield each port once. Processes begin at different ones, so that they seldom ask for the same."""
    start = os.getpid() * 101 % len(PORTS)
    yield from (*PORTS[start:], *PORTS[:start])


_ORDER = _in_order()


def _is_ours(port: int) -> bool:
    """Lock the port's byte of a file that all share; the kernel unlocks it however the process ends."""
    try:
        fcntl.lockf(_LOCKS, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        # Another process has it.
        return False
    return True


def _is_free(port: int) -> bool:
    """Tell whether a program could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            # A program outside of the tests listens there.
            return False
    return True
