"""The trial as its user sees it: the whole story, the answers while it serves, its end, and a second one after it."""

import pytest

from tests.trial.conftest import Played

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]


def test_trial_plays_the_whole_story(played: Played) -> None:
    states = [version["state"] for version in played.summary["versions"]]

    assert played.exit_code == 0, played.output
    assert states == ["replaced", "live", "rolled back"]


def test_trial_fails_no_request(played: Played) -> None:
    assert played.summary["failed_requests"] == 0, played.output
    assert played.summary["requests"] >= 3_000


def test_trial_tunes_a_better_version(played: Played) -> None:
    first, tuned, _ = played.summary["versions"]

    assert 0.8 <= first["accuracy"] < tuned["accuracy"] <= 1.0


def test_trial_rolls_back_in_time(played: Played) -> None:
    assert 0 <= played.summary["rollback_seconds"] <= 30


def test_trial_stays_below_4_gb(played: Played) -> None:
    assert 500 < played.summary["peak_memory_mb"] < 4_000


def test_trial_summary_has_its_fields_and_no_others(played: Played) -> None:
    assert set(played.summary) == {
        "seconds_to_first_answer",
        "seconds_total",
        "requests",
        "failed_requests",
        "rollback_seconds",
        "versions",
        "peak_memory_mb",
    }


def test_trial_raises_the_canary_in_steps(played: Played) -> None:
    told = [line for line in played.output.splitlines() if "% on version" in line]

    assert [line.split("traffic")[-1].strip() for line in told[:4]] == [
        "100 % on version 1",
        "5 % on version 2, 95 % on version 1",
        "25 % on version 2, 75 % on version 1",
        "100 % on version 2",
    ]


@pytest.mark.parametrize(("name", "label"), [("image", 7), ("tensor", 6)])
def test_trial_endpoint_answers_a_digit(played: Played, name: str, label: int) -> None:
    answer = played.answers[name]

    assert answer.status_code == 200, answer.text
    assert answer.json()["label"] == label


def test_trial_endpoint_says_who_answered(played: Played) -> None:
    headers = played.answers["image"].headers
    live = next(entry["version"] for entry in played.summary["versions"] if entry["state"] == "live")

    assert headers["x-taxiway-handle"] == "visual_recognition"
    assert headers["x-taxiway-version"] == str(live)
    assert headers["x-taxiway-model"]
    assert headers["x-request-id"]


def test_trial_announces_each_promoted_model_as_an_asset(played: Played) -> None:
    events = played.answers["events"].json()["asset_events"]

    assert sorted(event["extra"]["version"] for event in events) == [1, 2]
    assert {event["source_task_id"] for event in events} == {"traffic"}


def test_trial_curl_command_works_as_it_is_printed(played: Played) -> None:
    if played.curl is None:
        pytest.skip("this machine has no curl")

    assert "x-taxiway-version" in played.curl
    assert '"label":7' in played.curl.replace(" ", "")


@pytest.mark.parametrize("page", ["airflow", "mlflow", "api"])
def test_trial_pages_open(played: Played, page: str) -> None:
    assert played.answers[page].status_code == 200
    assert "text/html" in played.answers[page].headers["content-type"]


def test_trial_leaves_no_process_after_ctrl_c(played: Played) -> None:
    assert played.left == []


def test_second_trial_goes_on_from_the_first(played_again: Played) -> None:
    assert played_again.exit_code == 0, played_again.output
    assert "is live since an earlier trial" in played_again.output
    assert played_again.summary["failed_requests"] == 0


def test_second_trial_makes_no_new_version_of_the_same(played: Played, played_again: Played) -> None:
    before = {entry["version"]: entry["state"] for entry in played.summary["versions"]}
    again = {entry["version"]: entry["state"] for entry in played_again.summary["versions"]}

    assert again == {version: state for version, state in before.items() if state != "replaced"}


def test_second_trial_leaves_no_process_when_it_ends_by_itself(played_again: Played) -> None:
    assert played_again.left == []
