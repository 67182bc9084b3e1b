"""Open-loop traffic against a real local server: what the client counts."""

import http.server
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taxiway.trial.load import USERS, Load, user_headers


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    status = 200
    fewest = 0
    """No request is answered before so many have come."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._come, self._enough = itertools.count(1), threading.Event()

    def wait_for_the_others(self) -> None:
        if next(self._come) >= self.fewest:
            self._enough.set()
        self._enough.wait()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.server.wait_for_the_others()
        self.send_response(self.server.status)
        self.send_header("x-taxiway-version", "2")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def make_load(server: _Server, log: Path, rate_rps: float = 100.0) -> Load:
    return Load(f"http://127.0.0.1:{server.server_port}", [b"png"], rate_rps=rate_rps, log=log)


def until_counted(load: Load, requests: int) -> None:
    deadline = time.monotonic() + 120.0
    while load.counts.requests < requests:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_load_counts_answers_by_version(server: _Server, tmp_path: Path) -> None:
    load = make_load(server, tmp_path / "failed.log")
    load.start()
    until_counted(load, 20)
    load.stop()

    counts = load.counts
    assert counts.failed == 0
    assert counts.versions == {2: counts.requests}
    assert counts.first_answer_at_s is not None
    assert not (tmp_path / "failed.log").exists()


def test_load_counts_a_refusal_as_failed_and_writes_it_down(server: _Server, tmp_path: Path) -> None:
    server.status = 503
    load = make_load(server, tmp_path / "failed.log")
    load.start()
    until_counted(load, 5)
    load.stop()

    assert load.counts.failed == load.counts.requests
    assert "503" in (tmp_path / "failed.log").read_text()


def test_load_counts_no_answer_as_failed(server: _Server, tmp_path: Path) -> None:
    server.shutdown()
    server.server_close()
    load = make_load(server, tmp_path / "failed.log")
    load.start()
    until_counted(load, 3)
    load.stop()

    assert load.counts.failed == load.counts.requests
    assert load.counts.first_answer_at_s is None


def test_load_does_not_wait_for_a_slow_endpoint(server: _Server, tmp_path: Path) -> None:
    server.fewest = 20
    load = make_load(server, tmp_path / "failed.log", rate_rps=40.0)
    load.start()
    until_counted(load, 20)
    load.stop()

    assert load.counts.failed == 0


def test_users_are_many_and_some_are_unknown() -> None:
    headers = [user_headers(number) for number in range(10 * USERS)]

    assert headers.count({}) == USERS
    assert len({header["x-user-id"] for header in headers if header}) >= 0.85 * USERS
