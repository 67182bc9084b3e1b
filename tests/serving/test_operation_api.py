"""Queues, verbs with a meaning, undo and the whole ledger over HTTP, by the controller's own client."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from taxiway_serving.client import Controller
from taxiway_serving.controller.app import create_app
from taxiway_serving.errors import ConflictError, InvalidSpecError, RoleError
from taxiway_serving.ledger.chain import HEAD, Entry, broken_at
from tests.serving.interface import TOKENS, listening, parts_of
from tests.serving.plane import HANDLE, Plane

GATED = {"kind": "canary", "steps": [{"setWeight": 50}, {"pause": {}}, {"setWeight": 100}]}


@pytest.fixture
def url(plane: Plane) -> Iterator[str]:
    with listening(create_app(parts_of(plane))) as address:
        yield address


@pytest.fixture
def client(url: str) -> Controller:
    return Controller(url, TOKENS["operator"], actor="ann", timeout_s=60)


def two_live(plane: Plane) -> None:
    plane.go_live(1)
    plane.go_live(2)


def test_api_gives_the_whole_ledger_so_that_its_chain_can_be_checked(
    client: Controller, plane: Plane
) -> None:
    two_live(plane)
    plane.go_live(11, handle="faces")
    found: list[dict[str, Any]] = []
    while page := client.whole_ledger(after=found[-1]["seq"] if found else 0, limit=20):
        found += page
    entries = [Entry(**{key: row.pop(key) for key in HEAD}, body=row) for row in (dict(row) for row in found)]
    assert {entry.handle for entry in entries} == {HANDLE, "faces"}
    assert broken_at(entries) is None
    mine = client.ledger(HANDLE, limit=10_000)
    assert mine == [row for row in found if row["handle"] == HANDLE]


def test_api_shows_the_ledger_to_viewers_and_not_to_reporters(url: str, plane: Plane) -> None:
    plane.go_live(1)
    assert Controller(url, TOKENS["viewer"], timeout_s=60).whole_ledger()
    with pytest.raises(RoleError):
        Controller(url, TOKENS["reporter"], timeout_s=60).whole_ledger()


def test_api_lists_rollouts_the_newest_first(client: Controller, plane: Plane) -> None:
    two_live(plane)
    plane.deploy(3)
    plane.begin(3, name="running", strategy=GATED)
    plane.begin(3, name="waiting", strategy=GATED, on_running="queue")
    plane.tick(1)
    found = client.rollouts(HANDLE)
    assert [rollout["id"] for rollout in found] == ["waiting", "running", "to-2", "to-1"]
    assert found[0]["status"] == "queued"
    assert [rollout["id"] for rollout in client.rollouts(HANDLE, limit=1)] == ["waiting"]
    assert client.rollouts("stranger") == []


def test_api_undoes_to_a_version_and_to_a_time(client: Controller, plane: Plane) -> None:
    for version in (1, 2, 3):
        plane.go_live(version)
    undone = client.undo(HANDLE, "back", version=1)
    plane.tick(4, requests=10)
    assert (undone["version"], plane.live(HANDLE)) == (1, 1)
    assert client.undo(HANDLE, "back", version=1)["id"] == "back"
    again = client.undo(HANDLE, "to-then", at_s=plane.state("to-2").ended_at_s)
    assert again["version"] == 2


def test_api_refuses_an_undo_with_the_next_step(client: Controller, plane: Plane) -> None:
    two_live(plane)
    with pytest.raises(InvalidSpecError, match="yet to come"):
        client.undo(HANDLE, "back", at_s=plane.now_s + 100)
    plane.deploy(9)
    with pytest.raises(ConflictError, match="prove itself anew"):
        client.undo(HANDLE, "back", version=9)


def test_api_promotes_a_step_once_however_often_it_is_asked(client: Controller, plane: Plane) -> None:
    plane.go_live(1)
    plane.deploy(2)
    plane.begin(2, name="r", strategy=GATED)
    plane.tick(5, requests=10)
    step = client.rollout(HANDLE, "r")["step"]
    steps = [client.act(HANDLE, "r", "promote", step=step)["step"] for _ in range(3)]
    assert steps == [step + 1] * 3


def test_api_adds_and_removes_the_candidate_that_is_named(client: Controller, plane: Plane) -> None:
    plane.go_live(1)
    for version in (2, 3, 4):
        plane.deploy(version)
    plane.tick(3)
    plane.begin(2, name="r", rivals=[3], strategy={"kind": "bandit", "reward": "click"})
    assert client.act(HANDLE, "r", "add", version=4)["rivals"] == [3, 4]
    assert "removed by ann" in client.act(HANDLE, "r", "remove", version=3)["dropped"]["3"]
    with pytest.raises(InvalidSpecError, match="needs a version"):
        client.act(HANDLE, "r", "add")


def test_api_refuses_a_verb_with_a_word_it_does_not_know(url: str, plane: Plane) -> None:
    plane.go_live(1)
    answer = httpx.post(
        f"{url}/v1/endpoints/{HANDLE}/rollouts/to-1/abort",
        json={"verzion": 2},
        headers={"Authorization": f"Bearer {TOKENS['operator']}"},
        trust_env=False,
        timeout=60,
    )
    assert answer.status_code == 422
