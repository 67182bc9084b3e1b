"""The ports that tests are given: each to one process alone, however many look for one at once."""

import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests import ports

TAKER = """
import sys
from tests import ports
ports._ORDER = iter(ports.PORTS)
print(*(ports.free_port() for _ in range(20)), flush=True)
sys.stdin.read()
"""


def test_ports_are_given_to_one_process_each(root: Path) -> None:
    """All begin at the same one, and none of them listens anywhere."""
    given: list[str] = []
    with ExitStack() as stack:
        argv = [sys.executable, "-c", TAKER]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        for taker in [stack.enter_context(subprocess.Popen(argv, cwd=root, **pipes)) for _ in range(3)]:  # type: ignore[call-overload]
            assert taker.stdout is not None
            given += taker.stdout.readline().split()
    assert len(set(given)) == len(given) == 60


def test_port_that_somebody_listens_on_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        free = ports.free_port()
        monkeypatch.setattr(ports, "_ORDER", iter([port, free]))
        assert ports.free_port() == free


def test_refusing_port_refuses() -> None:
    with ports.refusing_port() as port, pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}", trust_env=False, timeout=60)
