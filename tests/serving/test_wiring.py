"""What a controller opens for a term is closed at the end of it: a process may lead many."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from taxiway_serving import runtimes
from taxiway_serving.controller.wiring import leading, sense
from taxiway_serving.errors import TransportError
from taxiway_serving.ledger.sql import SqlStore
from taxiway_serving.ledger.store import Change, Endpoint, Variant
from taxiway_serving.runtimes.runtime import VariantSpec
from taxiway_serving.settings import ServingSettings
from taxiway_serving.testing import FakeRuntime
from tests.serving.conftest import wait_until
from tests.serving.plane import HANDLE


class Elsewhere(ThreadingHTTPServer):
    """A model server that somebody else runs; it keeps its connections open, as servers do."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.asked = 0

    @property
    def connections(self) -> int:
        """How many of this process lead there."""
        found = psutil.Process().net_connections("tcp")
        return sum(bool(each.raddr) and each.raddr.port == self.server_port for each in found)


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Elsewhere

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response_only(200)
        self.send_header("content-length", "0")
        self.end_headers()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def deploy(settings: ServingSettings, port: int) -> None:
    spec = VariantSpec(handle=HANDLE, version=1, model="digits/1", url=f"http://127.0.0.1:{port}")
    store = SqlStore(settings.database_url)
    wanted = Variant(handle=HANDLE, version=1, spec=spec.to_json(), asked_at_s=0.0)
    store.commit(Change(endpoints=(Endpoint(handle=HANDLE),), variants=(wanted,)))
    store.close()


def test_terms_leave_no_connection_to_variants_open(settings: ServingSettings, elsewhere: Elsewhere) -> None:
    deploy(settings, elsewhere.server_port)
    for _ in range(2):
        before = elsewhere.asked
        with leading(replace(settings, tick_s=0.05)) as app:
            wait_until(lambda before=before: elsewhere.asked > before)  # type: ignore[misc]
        wait_until(lambda: elsewhere.connections == 0)
        assert app.routes


def test_runtime_is_closed_with_the_term_that_fails_to_begin(
    settings: ServingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = FakeRuntime()
    monkeypatch.setattr(runtimes, "chosen", lambda _: runtime)
    settings.token_file.mkdir(parents=True)
    with pytest.raises(IsADirectoryError), leading(settings):
        pass
    assert runtime.is_closed


def test_senses_that_cannot_all_be_opened_leave_none_open(
    tmp_path: Path, settings: ServingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise TransportError("the controller's database", "gone meanwhile")

    monkeypatch.setattr("taxiway_serving.controller.wiring.SqlTimeline", refuse)
    with pytest.raises(TransportError, match="gone meanwhile"):
        sense(settings)
    path = str(tmp_path / "controller.db")
    assert [each.path for each in psutil.Process().open_files() if each.path.startswith(path)] == []
