"""Following a rollout and waiting for the gateway, against a server that answers what it is told; the rest of
deployment is walked for real in `tests/path`."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from taxiway import deployment
from taxiway.errors import NotReadyError
from taxiway_serving.client import Controller

ROLLOUT = {
    "phase": "Progressing",
    "status": "progressing",
    "outcome": None,
    "weight_pct": 5.0,
    "reason": "40 of 50 units",
}
ENDED = {
    "phase": "Healthy",
    "status": "ended",
    "outcome": "Promoted",
    "weight_pct": 100.0,
    "reason": "proven",
}


class Script:
    """A server that gives its answers in turn, the last one for ever."""

    def __init__(self, url: str, answers: list[tuple[int, dict[str, Any]]]) -> None:
        self.url, self.answers = url, answers
        self.seen: list[tuple[str, str | None]] = []


@pytest.fixture
def script() -> Iterator[Script]:
    """Return a scripted server on a free port."""
    made = Script("", [])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.seen.append((self.path, self.headers.get("x-taxiway-version")))
            status, body = made.answers.pop(0) if len(made.answers) > 1 else made.answers[0]
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "POLL_S", 0.0)
    monkeypatch.setattr(deployment, "ROUTED_POLL_S", 0.0)


@pytest.mark.usefixtures("_impatient")
def test_follow_says_each_change_once_and_outlives_an_absent_controller(script: Script) -> None:
    script.answers = [(200, ROLLOUT), (200, ROLLOUT), (503, {}), (200, ROLLOUT), (200, ENDED)]
    lines: list[str] = []
    found = deployment._follow(Controller(script.url, "token"), "digits", "r1", lines.append)
    assert found == ENDED
    assert [line.split(":")[0] for line in lines] == [
        "Progressing at 5 %",
        "Unknown",
        "Progressing at 5 %",
        "Promoted at 100 %",
    ]


@pytest.mark.usefixtures("_impatient")
def test_wait_for_the_gateway_pins_the_version(script: Script) -> None:
    script.answers = [(503, {}), (404, {}), (200, {})]
    deployment._wait_routed(f"{script.url}/digits", 7, 10.0, "digits/7")
    assert script.seen == [("/digits/readyz", "7")] * 3


@pytest.mark.usefixtures("_impatient")
def test_wait_for_a_gateway_that_never_reaches_it_says_what_it_answered(script: Script) -> None:
    script.answers = [(503, {})]
    with pytest.raises(NotReadyError, match="does not reach it: HTTP 503"):
        deployment._wait_routed(f"{script.url}/digits", 7, 0.0, "digits/7")
