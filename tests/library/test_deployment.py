"""Waiting for the gateway, against a server that answers what it is told; the rest is walked in `tests/path`."""

import pytest

from taxiway import deployment
from taxiway.errors import NotReadyError
from tests.library.scripted import Script


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "ROUTED_POLL_S", 0.0)


def test_wait_for_the_gateway_pins_the_version(script: Script) -> None:
    script.answers = [(503, {}), (404, {}), (200, {})]
    deployment._wait_routed(f"{script.url}/digits/readyz", 7, 10.0, "digits/7")
    assert script.asked("GET") == ["/digits/readyz"] * 3
    assert [headers["x-taxiway-version"] for headers in script.headers] == ["7"] * 3


def test_wait_for_a_gateway_that_never_reaches_it_says_what_it_answered(script: Script) -> None:
    script.answers = [(503, {})]
    with pytest.raises(NotReadyError, match="does not reach it: HTTP 503"):
        deployment._wait_routed(f"{script.url}/digits/readyz", 7, 0.0, "digits/7")
