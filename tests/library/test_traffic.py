"""Following, looking and commanding, against a controller that answers what it is told; `tests/dags` has real ones."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from taxiway import traffic
from taxiway.errors import (
    ForbiddenStrategyError,
    InvalidSpecError,
    NotFoundError,
    RolledBackError,
    RolloutEndedError,
    SupersededError,
    TransportError,
)
from taxiway.packaging.package import CodePackage
from taxiway.settings import Settings
from taxiway_serving.client import Controller
from tests.library.scripted import Script, serving

ROLLOUT: dict[str, Any] = {
    "id": "r1",
    "handle": "digits",
    "version": 2,
    "stable": 1,
    "phase": "Progressing",
    "status": "progressing",
    "outcome": None,
    "weight_pct": 5.0,
    "step": 1,
    "reason": "40 of 50 units",
    "started_at_s": 1.0,
    "ended_at_s": None,
}
PAUSED = ROLLOUT | {"phase": "Paused", "status": "paused", "reason": "paused by its step"}
ENDED = ROLLOUT | {
    "phase": "Healthy",
    "status": "ended",
    "outcome": "Promoted",
    "weight_pct": 100.0,
    "reason": "proven",
    "ended_at_s": 9.0,
}
ENDPOINT: dict[str, Any] = {"stable": 1, "previous": None, "phase": "Progressing", "rollout": ROLLOUT}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    monkeypatch.setattr(traffic, "POLL_S", 0.0)
    with serving() as made:
        yield made


@pytest.fixture
def controlled(script: Script, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings whose controller is the script; aliases have a registry of their own in `tests/path`."""
    monkeypatch.setattr(traffic, "project_aliases", lambda handle, settings: None)
    return replace(settings, controller_url=script.url)


def controller(script: Script) -> Controller:
    return Controller(script.url, "token")


def test_follow_says_each_change_once_and_outlives_an_absent_controller(script: Script) -> None:
    script.answers = [(200, ROLLOUT), (200, ROLLOUT), (503, {}), (200, ROLLOUT), (200, ENDED)]
    lines: list[str] = []
    found = traffic.follow(controller(script), {"digits": "r1"}, lines.append)
    assert found == {"digits": ENDED}
    assert [line.split(":")[0] for line in lines] == ["Progressing", "Unknown", "Progressing", "Promoted"]


def test_follow_gives_up_on_a_controller_that_stays_away(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "PATIENCE_S", 0.0)
    script.answers = [(503, {})]
    with pytest.raises(TransportError):
        traffic.follow(controller(script), {"digits": "r1"}, print)


def test_follow_comes_back_at_a_pause_only_when_asked_to(script: Script) -> None:
    script.answers = [(200, ROLLOUT), (200, PAUSED), (200, ENDED)]
    assert traffic.follow(controller(script), {"digits": "r1"}, print, until="paused") == {"digits": PAUSED}
    script.answers = [(200, ROLLOUT), (200, PAUSED), (200, ENDED)]
    assert traffic.follow(controller(script), {"digits": "r1"}, print) == {"digits": ENDED}


def test_follow_of_a_group_waits_for_the_last(script: Script) -> None:
    other = ENDED | {"handle": "letters"}
    script.by_path = {"GET /v1/endpoints/digits/rollouts/r1": (200, ENDED)}
    script.answers = [(200, ROLLOUT), (200, other)]
    lines: list[str] = []
    found = traffic.follow(controller(script), {"digits": "r1", "letters": "r2"}, lines.append)
    assert found == {"digits": ENDED, "letters": other}
    assert {line.split(":")[0] for line in lines} == {"digits", "letters"}
    assert script.asked("GET").count("/v1/endpoints/digits/rollouts/r1") == 1


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        ("RolledBack", RolledBackError),
        ("Superseded", SupersededError),
        ("Aborted", RolloutEndedError),
    ],
)
def test_result_of_a_rollout_without_promotion_is_an_error(
    outcome: str, error: type[RolloutEndedError], controlled: Settings
) -> None:
    with pytest.raises(error, match=f"digits/2 ended as {outcome}: 5 of 9 failed") as caught:
        traffic._result(ENDED | {"outcome": outcome, "reason": "5 of 9 failed"}, controlled)
    assert type(caught.value) is error


@pytest.mark.parametrize(
    ("seen", "version"),
    [
        (ENDED, 2),
        (ENDED | {"outcome": "FastPromoted"}, 2),
        (ENDED | {"winner": 3}, 3),
        (ENDED | {"outcome": "Completed", "winner": 3}, 1),
        (PAUSED, 2),
    ],
    ids=["promoted", "promoted in full", "bandit's winner", "experiment ended", "at a gate"],
)
def test_result_names_the_version_that_matters_next(
    seen: dict[str, Any], version: int, controlled: Settings
) -> None:
    result = traffic._result(seen, controlled)
    assert (result.version, result.previous) == (version, 1)
    assert result.outcome == seen["outcome"]


def test_result_carries_what_was_measured(controlled: Settings) -> None:
    seen = ENDED | {
        "outcome": "Completed",
        "weights": {"2": 50.0},
        "arms": {"2": {"mean": 0.1}},
        "dropped": [],
    }
    assert traffic._result(seen, controlled).report == {
        "weights": {"2": 50.0},
        "arms": {"2": {"mean": 0.1}},
    }


@pytest.mark.parametrize(
    ("asked", "is_reached"),
    [
        ({}, True),
        ({"version": 1}, True),
        ({"version": 2}, False),
        ({"phase": "Progressing"}, True),
        ({"phase": "Healthy"}, False),
        ({"outcome": "Promoted"}, False),
        ({"version": 1, "outcome": "Promoted"}, False),
    ],
    ids=str,
)
def test_look_asks_for_what_is_given(
    asked: dict[str, Any], is_reached: bool, script: Script, controlled: Settings
) -> None:
    script.answers = [(200, ENDPOINT)]
    found = traffic.look("digits", controlled, **asked)
    assert found.is_reached is is_reached
    assert "version 1 is live" in found.reason
    assert ("waiting for" in found.reason) is not is_reached


def test_look_at_a_rollout_that_was_named_is_at_that_one(script: Script, controlled: Settings) -> None:
    script.by_path = {"GET /v1/endpoints/digits/rollouts/r0": (200, ENDED | {"id": "r0"})}
    script.answers = [(200, ENDPOINT)]
    found = traffic.look("digits", controlled, rollout_id="r0", outcome=["Promoted", "Completed"])
    assert (found.is_reached, found.view["id"]) == (True, "r0")


def test_look_at_a_rollout_that_ended_otherwise_is_final(script: Script, controlled: Settings) -> None:
    ended = ENDED | {"outcome": "RolledBack", "reason": "errors"}
    script.by_path = {"GET /v1/endpoints/digits/rollouts/r1": (200, ended)}
    script.answers = [(200, ENDPOINT | {"rollout": ended})]
    with pytest.raises(RolledBackError, match="errors"):
        traffic.look("digits", controlled, rollout_id="r1", outcome="Promoted")
    assert not traffic.look("digits", controlled, outcome="Promoted").is_reached


def test_look_takes_an_absent_controller_for_not_yet(controlled: Settings) -> None:
    away = replace(controlled, controller_url="http://127.0.0.1:9")
    found = traffic.look("digits", away, version=1)
    assert not found.is_reached
    assert "127.0.0.1:9" in found.reason


@pytest.mark.parametrize("rollout_id", [None, "r1"])
def test_look_takes_an_endpoint_that_is_not_known_yet_for_not_yet(
    rollout_id: str | None, script: Script, controlled: Settings
) -> None:
    error = {"reason": "NotFoundError", "facts": ["endpoint", "digits", "deploy a model version first"]}
    script.answers = [(404, {"error": error})]
    found = traffic.look("digits", controlled, rollout_id=rollout_id, outcome="Promoted")
    assert not found.is_reached
    assert "no endpoint 'digits'" in found.reason


def test_look_for_a_rollout_that_a_known_endpoint_does_not_have_is_final(
    script: Script, controlled: Settings
) -> None:
    error = {"reason": "NotFoundError", "facts": ["rollout", "r9", "see the ledger of digits"]}
    script.by_path = {"GET /v1/endpoints/digits/rollouts/r9": (404, {"error": error})}
    script.answers = [(200, ENDPOINT)]
    with pytest.raises(NotFoundError, match="r9"):
        traffic.look("digits", controlled, rollout_id="r9")


def test_command_says_who_asked(script: Script, controlled: Settings) -> None:
    script.answers = [(200, ROLLOUT)]
    assert traffic.command("digits", "r1", "abort", controlled, actor="ann") == ROLLOUT
    assert script.asked("POST") == ["/v1/endpoints/digits/rollouts/r1/abort"]
    assert script.headers[0]["x-taxiway-actor"] == "ann"


def frozen(**manifest: Any) -> CodePackage:
    sla = {"availability": 0.99, "p99_ms": 50.0, "rate_rps": 20.0}
    return CodePackage(
        handle="digits",
        kind="inference",
        digest="d",
        source_hash="s",
        lock_hash="l",
        python="3.11",
        manifest={"sla": sla} | manifest,
    )


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> dict[str, CodePackage]:
    """Return the one package that every version has; a real registry answers in `tests/dags`."""
    found = {"code": frozen()}
    monkeypatch.setattr(traffic, "_candidate", lambda handle, version, settings: found["code"])
    return found


def test_request_puts_options_of_the_rollout_beside_the_strategy(
    registered: dict[str, CodePackage], settings: Settings
) -> None:
    strategy = {"kind": "bandit", "reward": "click", "rivals": [3], "max_users": 500, "shield": False}
    assert traffic._request("digits", 2, settings, strategy) == {
        "version": 2,
        "strategy": {"kind": "bandit", "reward": "click"},
        "rivals": [3],
        "max_users": 500,
        "shield": False,
        "availability": 0.99,
        "latency_ms": 50.0,
    }


def test_request_prefers_what_the_strategy_says_to_the_sla(
    registered: dict[str, CodePackage], settings: Settings
) -> None:
    wanted = traffic._request(
        "digits", 2, settings, {"kind": "canary", "latency_ms": 20, "availability": 0.9}
    )
    assert (wanted["latency_ms"], wanted["availability"]) == (20, 0.9)


def test_strategy_that_the_project_forbids_is_refused_before_anybody_is_asked(
    registered: dict[str, CodePackage], script: Script, controlled: Settings
) -> None:
    registered["code"] = frozen(traffic={"forbid": ["blue_green"], "reason": "patients see it"})
    with pytest.raises(
        ForbiddenStrategyError, match=r"digits forbids .* blue_green: patients see it; no traffic"
    ):
        traffic.shift("digits", 2, controlled, strategy={"kind": "blue_green"}, rollout_id="r1")
    assert script.seen == []


@pytest.mark.parametrize(
    ("strategy", "own", "total"),
    [
        ({"kind": "canary", "total_deadline_s": 7 * 86_400}, {"kind": "canary"}, 7 * 86_400),
        ({"kind": "bandit", "deadline_s": 60}, {"kind": "bandit", "deadline_s": 60}, None),
        (
            {"kind": "bandit", "deadline_s": 60, "total_deadline_s": 90},
            {"kind": "bandit", "deadline_s": 60},
            90,
        ),
    ],
    ids=["the rollout's", "the strategy's", "both"],
)
def test_request_tells_the_deadline_of_a_rollout_from_that_of_its_strategy(
    strategy: dict[str, Any],
    own: dict[str, Any],
    total: float | None,
    registered: dict[str, CodePackage],
    settings: Settings,
) -> None:
    wanted = traffic._request("digits", 2, settings, strategy)
    assert (wanted["strategy"], wanted.get("deadline_s")) == (own, total)


def test_group_names_the_handle_that_failed_first(
    registered: dict[str, CodePackage], script: Script, controlled: Settings
) -> None:
    went_along = ENDED | {"outcome": "RolledBack", "reason": "letters went back", "ended_at_s": 9.0}
    failed = went_along | {"handle": "letters", "reason": "errors", "ended_at_s": 8.0}
    script.by_path = {
        "POST /v1/groups": (200, {"rollouts": []}),
        "GET /v1/endpoints/digits/rollouts/g-digits-v2": (200, went_along),
        "GET /v1/endpoints/letters/rollouts/g-letters-v5": (200, failed),
    }
    with pytest.raises(RolledBackError, match=r"letters.*: errors"):
        traffic.shift_group(
            {"digits": 2, "letters": 5}, controlled, strategy={"kind": "canary"}, group="g", log=print
        )


@pytest.mark.parametrize(
    ("to", "target"),
    [
        (None, {}),
        ("", {}),
        (3, {"version": 3}),
        ("3", {"version": 3}),
        ("1970-01-01T00:00:45Z", {"at_s": 45}),
        ("1970-01-01T00:00:45", {"at_s": 45}),
        ("1970-01-01T01:00:45+01:00", {"at_s": 45}),
    ],
)
def test_undo_asks_for_what_was_meant(
    to: int | str | None, target: dict[str, Any], script: Script, controlled: Settings
) -> None:
    script.by_path = {
        "POST /v1/endpoints/digits/undo": (200, ROLLOUT | {"id": "u1"}),
        "GET /v1/endpoints/digits/rollouts/u1": (200, ENDED | {"id": "u1", "version": 4}),
    }
    assert traffic.undo("digits", controlled, undo_id="u1", to=to, log=print).version == 4
    asked = [body for method, _, body in script.seen if method == "POST"]
    assert asked == [{"id": "u1"} | target]


def test_undo_to_what_is_neither_version_nor_time_says_what_to_give(controlled: Settings) -> None:
    with pytest.raises(InvalidSpecError, match=r"'yesterday'; give a model version, or a time such as"):
        traffic.undo("digits", controlled, undo_id="u1", to="yesterday", log=print)
