"""The whole path in containers, as its user sees it, and what is left of it."""

import re
from typing import Any

import pytest

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(1_800)]


def test_story_is_the_trials_own_and_fails_no_request(played: dict[str, Any]) -> None:
    summary = played["summary"]

    assert played["exit_code"] == 0, played["output"]
    assert [each["state"] for each in summary["versions"]] == ["replaced", "live", "rolled back"]
    assert summary["failed_requests"] == 0
    assert summary["requests"] >= 3_000
    assert 0 <= summary["rollback_seconds"] <= 30


def test_services_are_healthy_in_time(played: dict[str, Any]) -> None:
    told = re.search(r"all services are healthy, (\d+) s after their start", played["output"])

    assert told, played["output"]
    assert int(told[1]) <= 180


def test_end_leaves_no_container_and_no_network(played: dict[str, Any], client: Any) -> None:
    project = {"label": "com.docker.compose.project=taxiway"}

    assert client.containers(all=True, filters=project) == []
    assert client.containers(all=True, filters={"label": "taxiway.owner=composetrial"}) == []
    assert client.containers(all=True, filters={"label": "taxiway.home=composetrial"}) == []
    assert client.networks(filters=project) == []
