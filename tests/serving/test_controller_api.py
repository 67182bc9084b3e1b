"""The controller's HTTP interface: authentication, refusals in words, idempotence; by its own client."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from taxiway_serving.client import Controller
from taxiway_serving.controller.app import VariantBody, create_app
from taxiway_serving.controller.main import only_controller_of
from taxiway_serving.errors import (
    AuthenticationError,
    ConflictError,
    InvalidSpecError,
    NotFoundError,
    NotReadyError,
    TransportError,
)
from taxiway_serving.names import VariantId
from taxiway_serving.runtimes.runtime import VariantSpec
from taxiway_serving.tokens import ensure_token
from tests.serving.interface import TOKENS, listening, parts_of
from tests.serving.plane import HANDLE, Plane


@pytest.fixture
def url(plane: Plane) -> Iterator[str]:
    with listening(create_app(parts_of(plane))) as address:
        yield address


@pytest.fixture
def client(url: str) -> Controller:
    return Controller(url, TOKENS["operator"], actor="ann", timeout_s=60)


def _body(plane: Plane, version: int) -> dict[str, object]:
    spec = plane.spec(version).to_json()
    return {key: value for key, value in spec.items() if key not in ("handle", "version")}


def test_api_takes_what_a_specification_has_with_the_same_defaults() -> None:
    """Handle and version stand in the path, and whether it is a copy no caller says."""
    spec = VariantSpec(handle=HANDLE, version=1, model="m", url="http://127.0.0.1:1")
    names = {item.name for item in fields(VariantSpec)} - {"handle", "version", "copy"}
    assert VariantBody(model="m", url=spec.url).model_dump() == {name: getattr(spec, name) for name in names}


def test_api_refuses_a_wrong_or_missing_token(url: str) -> None:
    for token in ("", "wrong"):
        with pytest.raises(AuthenticationError, match="TAXIWAY_TOKEN_FILE"):
            Controller(url, token, timeout_s=60).endpoints()


def test_api_walks_a_rollout(client: Controller, plane: Plane) -> None:
    client.deploy(HANDLE, 1, _body(plane, 1))
    plane.tick(3)
    assert client.wait_ready(HANDLE, 1, deadline_s=1)["phase"] == "ready"
    started = client.start_rollout(HANDLE, {"id": "scheduled__2026-11-22T00:00:00+00:00", "version": 1})
    plane.tick(10, requests=20)
    rollout = client.rollout(HANDLE, started["id"])
    assert (rollout["phase"], rollout["outcome"], rollout["actor"]) == ("Healthy", "Promoted", "ann")
    endpoint = client.endpoint(HANDLE)
    assert endpoint["split"]["observed"] == {"1": 100.0}
    assert [entry["kind"] for entry in client.ledger(HANDLE)][:1] == ["deployed"]


def test_api_aborts_twice_as_once(client: Controller, plane: Plane) -> None:
    plane.go_live(1)
    client.deploy(HANDLE, 2, _body(plane, 2))
    client.start_rollout(HANDLE, {"id": "r", "version": 2})
    plane.tick(4)
    assert client.act(HANDLE, "r", "abort") == client.act(HANDLE, "r", "abort")
    plane.tick(3)
    assert client.rollout(HANDLE, "r")["outcome"] == "Aborted"


def test_api_names_every_fault_of_a_rollout_at_once(client: Controller, plane: Plane) -> None:
    plane.go_live(1)
    body = {
        "id": "",
        "version": 2,
        "alpha": 7,
        "strategy": {"kind": "magic", "steps": [{"setWeight": 150}, {"x": 1}]},
    }
    with pytest.raises(InvalidSpecError) as caught:
        client.start_rollout(HANDLE, body)
    for fault in ("id:", "alpha:", "strategy:", "step 1", "step 2"):
        assert fault in str(caught.value)


def test_api_says_what_is_not_there(client: Controller) -> None:
    with pytest.raises(NotFoundError, match="deploy a model version"):
        client.endpoint("nothing")


def test_api_refuses_a_name_that_is_no_handle(client: Controller) -> None:
    with pytest.raises(InvalidSpecError, match="Not-A-Handle"):
        client.endpoint("Not-A-Handle")


def test_api_refuses_second_rollout_with_next_step(client: Controller, plane: Plane) -> None:
    plane.go_live(1)
    client.deploy(HANDLE, 2, _body(plane, 2))
    client.start_rollout(HANDLE, {"id": "a", "version": 2})
    with pytest.raises(ConflictError, match="abort it"):
        client.start_rollout(HANDLE, {"id": "b", "version": 2})


def test_client_reports_variant_that_missed_its_deadline_with_its_log(
    client: Controller, plane: Plane
) -> None:
    plane.runtime.break_(VariantId(handle=HANDLE, version=1))
    client.deploy(HANDLE, 1, _body(plane, 1))
    plane.tick(2)
    with pytest.raises(NotReadyError, match="starting as process"):
        client.wait_ready(HANDLE, 1, deadline_s=0.1)


def test_client_says_that_a_controller_is_away() -> None:
    with pytest.raises(TransportError, match="trying again is safe"):
        Controller("http://127.0.0.1:1", "token").endpoints()


def test_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "home" / "token"
    assert ensure_token(path) == ensure_token(path)
    assert path.stat().st_mode & 0o077 == 0
    assert list(path.parent.iterdir()) == [path]


def test_empty_token_file_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch()
    with pytest.raises(InvalidSpecError, match="remove it"):
        ensure_token(path)


def test_second_controller_of_a_home_is_refused(tmp_path: Path) -> None:
    with only_controller_of(tmp_path), pytest.raises(ConflictError), only_controller_of(tmp_path):
        pass
