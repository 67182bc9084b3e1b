"""What is told about a rollout, to a real webhook on loopback."""

from dataclasses import replace
from typing import Any

import pytest

from taxiway.errors import TransportError
from taxiway.notifications import message, send
from taxiway.settings import Settings
from tests.library.scripted import Script

TASK = {"dag_id": "d", "run_id": "r", "task_id": "traffic", "state": "failed", "link": "http://airflow/log"}
ROLLED_BACK: dict[str, Any] = {
    "id": "r1",
    "version": 3,
    "stable": 2,
    "outcome": "RolledBack",
    "phase": "Degraded",
    "reason": "error_ratio: 7 of 40 units failed",
    "evidence": [],
}


def test_message_says_outcome_reason_and_link(script: Script, settings: Settings) -> None:
    script.by_path = {"GET /v1/endpoints/digits/rollouts/r1": (200, ROLLED_BACK)}
    told = message("digits", replace(settings, controller_url=script.url), rollout_id="r1", task=TASK)
    assert told["text"] == (
        "digits version 3: RolledBack: error_ratio: 7 of 40 units failed (d.traffic failed) http://airflow/log"
    )
    assert told["rollout"]["outcome"] == "RolledBack"
    assert told["task"] == TASK


def test_message_without_a_rollout_named_is_about_the_latest(script: Script, settings: Settings) -> None:
    script.by_path = {"GET /v1/endpoints/digits": (200, {"rollout": ROLLED_BACK})}
    told = message("digits", replace(settings, controller_url=script.url), task=TASK)
    assert told["rollout"]["id"] == "r1"


def test_message_of_a_task_that_had_no_rollout_is_not_about_somebody_elses(
    script: Script, settings: Settings
) -> None:
    """A deploy that never became ready has moved nothing: what was promoted last week explains nothing."""
    script.by_path = {"GET /v1/endpoints/digits": (200, {"rollout": ROLLED_BACK})}
    error = "digits/3 is not ready after 60 s: it exited with 1; no traffic moved\nThe end of its log:\n..."
    told = message("digits", replace(settings, controller_url=script.url), task=TASK | {"error": error})
    assert told["text"] == (
        "digits: failed: digits/3 is not ready after 60 s: it exited with 1; no traffic moved "
        "(d.traffic failed) http://airflow/log"
    )
    assert told["rollout"] == {}
    assert told["task"]["error"] == error


def test_message_of_a_task_that_failed_while_its_rollout_goes_on_says_what_went_wrong(
    script: Script, settings: Settings
) -> None:
    going = ROLLED_BACK | {"outcome": None, "phase": "Progressing", "reason": "12 of 40 units"}
    script.by_path = {"GET /v1/endpoints/digits/rollouts/r1": (200, going)}
    away = replace(settings, controller_url=script.url)
    told = message("digits", away, rollout_id="r1", task=TASK | {"error": "out of memory"})
    assert told["text"].startswith("digits version 3: Progressing: out of memory (")


def test_message_of_a_task_without_a_handle_names_its_dag(settings: Settings) -> None:
    told = message("", settings, task=TASK | {"error": "no answer"})
    assert told["text"] == "d: failed: no answer (d.traffic failed) http://airflow/log"


def test_message_is_told_without_the_controller_too(settings: Settings) -> None:
    away = replace(settings, controller_url="http://127.0.0.1:9")
    told = message("digits", away, task=TASK | {"error": "no traffic moved"})
    assert told["text"] == "digits: failed: no traffic moved (d.traffic failed) http://airflow/log"


def test_send_posts_json(script: Script) -> None:
    send(f"{script.url}/hook", {"text": "well"})
    assert script.seen == [("POST", "/hook", {"text": "well"})]


def test_send_to_a_webhook_that_refuses_keeps_its_address_secret(script: Script) -> None:
    script.answers = [(500, {})]
    with pytest.raises(TransportError) as caught:
        send(f"{script.url}/secret-path", {"text": "well"})
    assert "127.0.0.1" in str(caught.value)
    assert "secret-path" not in str(caught.value)
