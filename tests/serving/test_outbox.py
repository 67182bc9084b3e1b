"""What is told of rollouts: stored with its decision, posted at least once, signed, and given up in the end."""

import hashlib
import hmac
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from taxiway_serving.controller import outbox as controller_outbox
from taxiway_serving.controller.outbox import MOST_TRIES, Postman, delivering, read_secret, telling
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.ledger.outbox import Delivery
from taxiway_serving.ledger.outbox_sql import MOST_FAILED, SqlOutbox
from taxiway_serving.ledger.sql import SqlStore
from taxiway_serving.ledger.store import Change, Note
from taxiway_serving.settings import ServingSettings
from tests.serving.conftest import wait_until

LONG_S = 1e9


class Sink:
    """A real webhook on loopback.

    Attributes:
        posts: What it accepted: headers, and the body's bytes.
        status: What it answers.
        calls: How often it was called.
    """

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], bytes]] = []
        self.status, self.calls = 204, 0
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                sink.calls += 1
                if sink.status < 300:
                    sink.posts.append(({k.lower(): v for k, v in self.headers.items()}, content))
                self.send_response(sink.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks/s3cr3t"

    @property
    def events(self) -> list[str]:
        return [json.loads(content)["event"] for _, content in self.posts]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no machine be too slow: what a webhook does is said by the test."""
    monkeypatch.setattr(controller_outbox, "TIMEOUT_S", 60.0)


@pytest.fixture
def sink() -> Iterator[Sink]:
    with closing(Sink()) as made:
        yield made


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    with closing(SqlStore(url, keeps_deliveries=True)) as made:
        yield made


@pytest.fixture
def outbox(url: str) -> Iterator[SqlOutbox]:
    with closing(SqlOutbox(url)) as made:
        yield made


def _delivery(number: int = 1, *, at_s: float = 0.0) -> Delivery:
    event = f"event-{number}"
    return Delivery(id=f"id-{number}", event=event, at_s=at_s, body={"event": event, "text": "told"})


def _told(*numbers: int) -> Change:
    return Change(deliveries=tuple(_delivery(number) for number in numbers))


Post = Callable[..., Postman]


@pytest.fixture
def postman(outbox: SqlOutbox, sink: Sink) -> Post:
    def made(*, now_s: float = 100.0, **changes: Any) -> Postman:
        usual: dict[str, Any] = {"outbox": outbox, "url": sink.url, "clock": lambda: now_s}
        return Postman(**{**usual, **changes})

    return made


def _left(outbox: SqlOutbox) -> int:
    return len(outbox.due(LONG_S, limit=1000)) + len(outbox.failed())


def test_outbox_posts_in_order_and_forgets_what_has_arrived(
    store: SqlStore, outbox: SqlOutbox, sink: Sink, postman: Post
) -> None:
    store.commit(_told(1, 2, 3))
    postman().deliver()
    headers, content = sink.posts[0]
    assert sink.events == ["event-1", "event-2", "event-3"]
    assert json.loads(content) == {"id": "id-1", "event": "event-1", "text": "told"}
    assert (headers["x-taxiway-delivery"], headers["x-taxiway-event"]) == ("id-1", "event-1")
    assert "x-taxiway-signature" not in headers
    assert _left(outbox) == 0


def test_outbox_signs_what_it_posts(store: SqlStore, sink: Sink, postman: Post) -> None:
    store.commit(_told(1))
    postman(secret=b"key").deliver()
    headers, content = sink.posts[0]
    expected = hmac.new(b"key", content, hashlib.sha256).hexdigest()
    assert headers["x-taxiway-signature"] == f"sha256={expected}"


@pytest.mark.slow
def test_outbox_tries_again_with_doubling_waits(
    store: SqlStore, outbox: SqlOutbox, sink: Sink, postman: Post
) -> None:
    store.commit(_told(1))
    sink.status = 500
    for tenths in range(71):
        postman(now_s=tenths / 10).deliver()
    assert (sink.calls, [due.tries for due in outbox.due(LONG_S, limit=9)]) == (4, [4])
    sink.status = 200
    postman(now_s=15.0).deliver()
    assert (sink.events, _left(outbox)) == (["event-1"], 0)


def test_outbox_gives_up_in_the_end_and_keeps_what_it_could_not_tell(
    store: SqlStore, outbox: SqlOutbox, sink: Sink, postman: Post, caplog: pytest.LogCaptureFixture
) -> None:
    store.commit(_told(1))
    sink.status = 400
    for day in range(MOST_TRIES + 3):
        postman(now_s=day * 86_400.0).deliver()
    assert sink.calls == MOST_TRIES
    assert ([each.id for each in outbox.failed()], outbox.due(LONG_S, limit=9)) == (["id-1"], [])
    assert "given up" in caplog.text
    assert "127.0.0.1" in caplog.text


def test_outbox_keeps_the_address_and_the_secret_out_of_the_log(
    store: SqlStore, sink: Sink, postman: Post, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    store.commit(_told(1))
    sink.status = 500
    postman(secret=b"signing-key").deliver()
    sink.close()
    postman(now_s=LONG_S, secret=b"signing-key").deliver()
    assert "ConnectError" in caplog.text
    assert "s3cr3t" not in caplog.text
    assert "signing-key" not in caplog.text


def test_outbox_goes_on_behind_what_is_refused(
    store: SqlStore, outbox: SqlOutbox, sink: Sink, postman: Post
) -> None:
    store.commit(_told(1, 2))
    sink.status = 500
    postman(now_s=0.0).deliver()
    assert sink.calls == 1
    sink.status = 200
    postman(now_s=0.5).deliver()
    assert sink.events == ["event-2"]
    postman(now_s=1.0).deliver()
    assert sink.events == ["event-2", "event-1"]


def test_outbox_keeps_only_the_newest_of_what_it_gave_up(
    store: SqlStore, outbox: SqlOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_FAILED == 1000
    monkeypatch.setattr("taxiway_serving.ledger.outbox_sql.MOST_FAILED", 2)
    store.commit(_told(1, 2, 3))
    for number in (1, 2, 3):
        outbox.given_up(f"id-{number}")
    assert [each.id for each in outbox.failed()] == ["id-2", "id-3"]


def test_outbox_does_not_grow_where_nobody_is_told(url: str, outbox: SqlOutbox) -> None:
    with closing(SqlStore(url)) as store:
        store.commit(_told(1))
    assert _left(outbox) == 0


def test_outbox_holds_a_delivery_with_its_decision_or_not_at_all(store: SqlStore, outbox: SqlOutbox) -> None:
    bad = Note(at_s=1.0, handle="digits", kind="verb", actor="ann", reason="why", body={"n": object()})
    with pytest.raises(TypeError):
        store.commit(Change(notes=(bad,), deliveries=(_delivery(),)))
    assert _left(outbox) == 0


def test_outbox_holds_the_same_delivery_once(store: SqlStore, outbox: SqlOutbox) -> None:
    store.commit(_told(1))
    store.commit(_told(1))
    assert _left(outbox) == 1


def test_outbox_worker_delivers_by_itself_while_its_context_lasts(
    store: SqlStore, sink: Sink, postman: Post
) -> None:
    with delivering(postman(), every_s=0.01):
        store.commit(_told(1))
        wait_until(lambda: sink.events == ["event-1"])
    store.commit(_told(2))
    assert sink.events == ["event-1"]


def test_outbox_worker_outlives_a_pass_that_fails(store: SqlStore, sink: Sink, url: str) -> None:
    clock = iter([1.0])

    def now_s() -> float:
        return next(clock, None) or time.time()

    class Shaky(SqlOutbox):
        def due(self, now_s: float, *, limit: int) -> Any:
            if now_s == 1.0:
                raise OSError("the disk hiccups")
            return super().due(now_s, limit=limit)

    store.commit(_told(1))
    with closing(Shaky(url)) as shaky:
        postman = Postman(outbox=shaky, url=sink.url, clock=now_s)
        with delivering(postman, every_s=0.01):
            wait_until(lambda: sink.events == ["event-1"])


def test_webhook_of_the_settings_is_told_and_signed(tmp_path: Path, sink: Sink) -> None:
    secret = tmp_path / "secret"
    secret.write_text("key\n")
    environ = {
        "TAXIWAY_HOME": str(tmp_path),
        "TAXIWAY_WEBHOOK_URL": sink.url,
        "TAXIWAY_WEBHOOK_SECRET_FILE": str(secret),
    }
    settings = ServingSettings.from_environment(environ)
    assert "s3cr3t" not in repr(settings)
    with closing(SqlStore(settings.database_url, keeps_deliveries=True)) as store, telling(settings):
        store.commit(_told(1))
        wait_until(lambda: bool(sink.posts))
    assert sink.posts[0][0]["x-taxiway-signature"].startswith("sha256=")


def test_without_a_webhook_nothing_is_opened(tmp_path: Path) -> None:
    with telling(ServingSettings.under(tmp_path)):
        assert list(tmp_path.iterdir()) == []


def test_webhook_address_with_a_fault_is_refused_without_showing_it() -> None:
    with pytest.raises(InvalidSpecError, match="TAXIWAY_WEBHOOK_URL") as caught:
        ServingSettings.from_environment({"TAXIWAY_WEBHOOK_URL": "hooks.example/s3cr3t"})
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "", " \n"], ids=["missing", "empty", "blank"])
def test_webhook_secret_that_is_none_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidSpecError, match="webhook secret"):
        read_secret(path)


STORE_AND_DIE = """
import os, signal, sys
from taxiway_serving.ledger.outbox import Delivery
from taxiway_serving.ledger.sql import SqlStore
from taxiway_serving.ledger.store import Change
store = SqlStore(sys.argv[1], keeps_deliveries=True)
store.commit(Change(deliveries=(Delivery(id="id-1", event="rolled_back", at_s=0.0, body={"event": "rolled_back"}),)))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_outbox_survives_the_death_of_its_process(url: str, sink: Sink) -> None:
    died = subprocess.run([sys.executable, "-c", STORE_AND_DIE, url], check=False, timeout=60)
    assert died.returncode == -9
    with closing(SqlOutbox(url)) as outbox:
        Postman(outbox=outbox, url=sink.url, clock=time.time).deliver()
        assert (sink.events, _left(outbox)) == (["rolled_back"], 0)
