"""Who of a fleet is there: what was not seen is unknown, and finding that out holds up no look."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from taxiway_serving.errors import TransportError
from taxiway_serving.routing.admin import Admin
from taxiway_serving.routing.ads import AdsRouter
from taxiway_serving.routing.ads_streams import Session
from taxiway_serving.routing.fleet import Fleet
from taxiway_serving.settings import ServingSettings

UNREACHABLE = "http://127.255.255.255:9"
"""An address that no kernel connects to: the network refuses, and no host."""
PATIENCE_S = 60.0


class Interface(ThreadingHTTPServer):
    """What of an Envoy's admin interface says who it is."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.name, self.clock, self.asked = name, clock, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: Interface

    def do_GET(self) -> None:
        self.server.asked += 1
        content = f'{{"node": {{"id": "{self.server.name}"}}}}'.encode()
        self.send_response_only(200)
        self.send_header("date", formatdate(self.server.clock(), usegmt=True))
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


Make = Callable[..., Interface]


@pytest.fixture
def interface() -> Iterator[Make]:
    with ExitStack() as stack:

        def made(name: str = "gate:8581", clock: Callable[[], float] = time.time) -> Interface:
            server = stack.enter_context(Interface(name, clock))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return server

        yield made


def fleet_of(*urls: str) -> closing[Fleet]:
    return closing(Fleet(urls, timeout_s=PATIENCE_S))


def test_refused_connection_is_nobody_and_an_unreachable_one_is_unknown() -> None:
    with socket.socket() as taken:
        # Nobody else can listen there, nor does it.
        taken.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with fleet_of(gone) as fleet:
            assert (fleet.presence().admins, fleet.presence().faults) == ({}, {})
        with fleet_of(gone, UNREACHABLE) as fleet:
            assert fleet.presence().faults.keys() == {UNREACHABLE}
            with pytest.raises(TransportError, match=UNREACHABLE):
                fleet.ask([], lambda _, admin: admin.logged())


def test_two_envoys_of_one_name_are_not_taken_for_one(interface: Make) -> None:
    with fleet_of(interface().url, interface().url) as fleet:
        with pytest.raises(TransportError, match="gate:8581: several Envoys have this name"):
            fleet.presence().check()
        with pytest.raises(TransportError):
            fleet.ask(["gate:8581"], lambda _, admin: admin.logged())


@pytest.mark.parametrize(("off_s", "is_told"), [(-3600.0, True), (3600.0, True), (0.0, False)])
def test_envoy_whose_clock_is_another_is_told(
    interface: Make, monkeypatch: pytest.MonkeyPatch, off_s: float, *, is_told: bool
) -> None:
    monkeypatch.setattr("taxiway_serving.routing.admin._MOST_APART_S", 600.0)
    there = interface(clock=lambda: time.time() + off_s)
    with fleet_of(there.url) as fleet:
        assert ("its clock is" in fleet.presence().faults.get(there.url, "")) is is_told


def test_silent_envoy_is_asked_once_and_not_by_every_question(
    interface: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look asks about each handle in turn: each would wait for a time-out of its own."""
    monkeypatch.setattr("taxiway_serving.routing.admin._PAUSE_S", 3600.0)
    there = interface()
    with closing(Admin(UNREACHABLE, timeout_s=PATIENCE_S)) as admin:
        with pytest.raises(TransportError) as first:
            admin.routes(["digits"])
        admin._client.close()
        admin._client = httpx.Client(base_url=there.url, timeout=PATIENCE_S, trust_env=False)
        with pytest.raises(TransportError) as second:
            admin.routes(["digits"])
        assert (there.asked, str(first.value)) == (0, str(second.value))
        admin._silent_until_s = 0.0
        assert admin.node() == "gate:8581"


def test_envoy_that_hangs_is_not_waited_for_at_every_question(
    interface: Make, settings: ServingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is connected and cannot be asked. A thousand handles would have waited two seconds each."""
    monkeypatch.setattr("taxiway_serving.routing.ads._NEWS_S", 0.0)
    monkeypatch.setattr("taxiway_serving.routing.fleet.FRESH_S", 3600.0)
    there = interface()
    urls = (there.url, UNREACHABLE)
    with closing(AdsRouter(replace(settings, router="ads", envoy_admin_urls=urls))) as router:
        for number, node in enumerate(("gate:8581", "hangs:8581")):
            router.streams._sessions[number] = Session(number=number, node=node)
        for _ in range(200):
            with pytest.raises(TransportError, match=UNREACHABLE):
                router.observed("digits")
    assert there.asked < 100
