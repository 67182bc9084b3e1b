"""A client of several controllers: it finds the one that leads, waits for one that will, and says who was asked."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from taxiway_serving import client
from taxiway_serving.client import Controller
from taxiway_serving.controller.error_answers import add_error_answers
from taxiway_serving.controller.standby import create_standby
from taxiway_serving.errors import InvalidSpecError, NotFoundError, NotLeaderError, TransportError
from taxiway_serving.settings import ServingSettings
from tests.ports import refusing_port
from tests.serving.interface import listening


class Turning:
    """An application that is another one after so many requests, as a controller's is from time to time."""

    def __init__(self, first: ASGIApp, then: ASGIApp, *, after: int) -> None:
        self._first, self._then, self._left = first, then, after

    @property
    def has_turned(self) -> bool:
        return self._left < 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._left -= 1
        await (self._first if self._left >= 0 else self._then)(scope, receive, send)


def leading(commands: list[Mapping[str, Any]]) -> FastAPI:
    app = FastAPI()
    add_error_answers(app)

    @app.get("/v1/endpoints")
    def endpoints() -> dict[str, Any]:
        return {"endpoints": [{"handle": "digits"}]}

    @app.post("/v1/endpoints/{handle}/rollouts/{name}/{verb}")
    def act(handle: str, name: str, verb: str, body: dict[str, Any]) -> dict[str, Any]:
        commands.append(body)
        return {"id": name}

    @app.get("/v1/endpoints/{handle}")
    def show(handle: str) -> None:
        raise NotFoundError("endpoint", handle)

    return app


@pytest.fixture
def commands() -> list[Mapping[str, Any]]:
    return []


@pytest.fixture
def standby() -> FastAPI:
    return create_standby("http://me", lambda: "http://leader")


def test_client_goes_on_to_the_one_that_leads(commands: list[Mapping[str, Any]], standby: FastAPI) -> None:
    with listening(standby) as one, listening(leading(commands)) as two, refusing_port() as nobody:
        controller = Controller(f"http://127.0.0.1:{nobody}, {one}/,{two}", "token", timeout_s=60)
        assert controller.endpoints() == [{"handle": "digits"}]
        controller.act("digits", "r", "promote")
        assert commands[0]["command_id"]
        with pytest.raises(NotFoundError):
            controller.endpoint("letters")


def test_client_waits_for_the_next_leader(
    commands: list[Mapping[str, Any]], standby: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FAILOVER_S", 600.0)
    first = Turning(leading(commands), standby, after=1)
    second = Turning(standby, leading(commands), after=3)
    with listening(first) as one, listening(second) as two:
        controller = Controller(f"{one},{two}", "token", timeout_s=60)
        assert controller.endpoints()
        assert controller.endpoints()
    assert second.has_turned


def test_client_gives_up_in_the_end_and_says_who_leads(
    standby: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "FAILOVER_S", 0.1)
    with ExitStack() as stack:
        urls = [stack.enter_context(listening(standby)) for _ in range(2)]
        with pytest.raises(NotLeaderError, match="http://leader") as caught:
            Controller(",".join(urls), "token", timeout_s=60).endpoints()
    assert isinstance(caught.value, TransportError)
    assert (caught.value.controller, caught.value.leader) == ("http://me", "http://leader")


def test_client_of_one_controller_waits_for_nobody(standby: FastAPI) -> None:
    with listening(standby) as url, pytest.raises(NotLeaderError):
        Controller(url, "token", timeout_s=60).endpoints()


def test_standby_answers_that_it_stands_by_and_nothing_else(standby: FastAPI) -> None:
    with listening(standby) as url:
        health = httpx.get(f"{url}/healthz", trust_env=False, timeout=60)
        refused = httpx.put(f"{url}/v1/endpoints/digits/variants/1", json={}, trust_env=False, timeout=60)
    assert health.json() == {"status": "ok", "role": "standby", "leader": "http://leader"}
    assert (refused.status_code, refused.json()["error"]["reason"]) == (503, "NotLeaderError")


def test_password_of_the_database_may_lie_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p@ss/w:rd\n")
    environ = {
        "TAXIWAY_DATABASE_URL": "postgresql+psycopg://ann@db/taxiway",
        "TAXIWAY_DATABASE_PASSWORD_FILE": str(file),
    }
    settings = ServingSettings.from_environment(environ)
    assert settings.database_url == "postgresql+psycopg://ann:p%40ss%2Fw%3Ard@db/taxiway"
    assert "p%40ss" not in repr(settings)


@pytest.mark.parametrize(
    "url",
    ["postgresql://ann:s3cret@db/x", "postgresql://db/x", "sqlite:////tmp/x.db"],
    ids=["two", "nobody", "file"],
)
def test_password_file_that_fits_no_address_is_refused(tmp_path: Path, url: str) -> None:
    (tmp_path / "password").write_text("p")
    environ = {"TAXIWAY_DATABASE_URL": url, "TAXIWAY_DATABASE_PASSWORD_FILE": str(tmp_path / "password")}
    with pytest.raises(InvalidSpecError, match="must name a user") as caught:
        ServingSettings.from_environment(environ)
    assert "s3cret" not in str(caught.value)


def test_password_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    environ = {
        "TAXIWAY_DATABASE_URL": "postgresql://ann@db/x",
        "TAXIWAY_DATABASE_PASSWORD_FILE": str(tmp_path / "none"),
    }
    with pytest.raises(InvalidSpecError, match="cannot be read"):
        ServingSettings.from_environment(environ)
