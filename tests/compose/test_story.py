"""The whole path in containers, as its user sees it, and what is left of it."""

import re

import pytest

from tests.compose.conftest import Played

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(1_800)]


def test_story_is_the_trials_own_and_fails_no_request(played: Played) -> None:
    summary = played.summary

    assert played.exit_code == 0, played.output
    assert [each["state"] for each in summary["versions"]] == ["replaced", "live", "rolled back"]
    assert summary["failed_requests"] == 0
    assert summary["requests"] >= 3_000
    assert 0 <= summary["rollback_seconds"] <= 30


def test_services_are_healthy_in_time(played: Played) -> None:
    told = re.search(r"all services are healthy, (\d+) s after their start", played.output)

    assert told, played.output
    assert int(told[1]) <= 180


def test_story_goes_on_by_celerys_workers(played_by_workers: Played) -> None:
    summary = played_by_workers.summary

    assert played_by_workers.exit_code == 0, played_by_workers.output
    assert [each["state"] for each in summary["versions"]] == ["live", "rolled back"]
    assert summary["failed_requests"] == 0
    # Two runs of the DAG; in the second one the last task fails, as it should.
    assert played_by_workers.logs["airflow-worker"].count("final_state=success") >= 20


def test_no_secret_is_in_a_log(played: Played, played_by_workers: Played) -> None:
    for each in (played, played_by_workers):
        assert len(each.secrets) > 10
        text = "\n".join((each.output, *each.logs.values()))
        assert not [word for word in each.secrets if word in text]


def test_end_leaves_nothing_but_volumes_and_images(played: Played, played_by_workers: Played) -> None:
    kept = {"airflow-logs", "envoy", "home", "postgres", "s3"}
    for each in (played, played_by_workers):
        assert each.exit_code == 0, each.output
        assert each.left["containers"] == set()
        assert each.left["networks"] == set()
        assert each.left["volumes"] == {f"{each.project}_{name}" for name in kept}
