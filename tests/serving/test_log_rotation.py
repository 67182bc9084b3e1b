"""Rotation under a real Envoy: no line is lost, none is read twice, and a rotation that was cut short is ended."""

from collections.abc import Callable
from pathlib import Path

import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.contracts import Until
from taxiway_serving.evidence.access_log import AttemptLog
from taxiway_serving.evidence.source import Attempt
from taxiway_serving.routing.envoy import EnvoyRouter
from taxiway_serving.routing.rotation import LogRotation
from taxiway_serving.routing.router import Route, Table
from taxiway_serving.split import Split
from tests.serving.conftest import Gateway, Toy

pytestmark = pytest.mark.slow

MakeToy = Callable[..., Toy]


@pytest.fixture
def serving(gateway: Gateway, router: EnvoyRouter, toy: MakeToy, until: Until) -> Gateway:
    route = Route(handle="digits", split=Split.whole(1), backends=(toy(1).backend,))
    revision = router.publish(Table(routes=(route,)))
    until(lambda: router.applied(revision) is Answer.YES)
    return gateway


def has_lines(log: Path) -> bool:
    """Tell whether there is something in a log, which Envoy may yet have to open anew."""
    return log.exists() and log.stat().st_size > 0


def ask(gateway: Gateway, count: int) -> list[str]:
    with gateway.client() as client:
        answers = [client.post("/digits/predict", content=b"{}") for _ in range(count)]
    return [answer.headers["x-request-id"] for answer in answers]


def read_all(log: AttemptLog, cursor: str) -> tuple[list[Attempt], str]:
    found: list[Attempt] = []
    while True:
        batch = log.read(cursor)
        assert batch.is_complete
        found += batch.attempts
        cursor = batch.cursor
        if not batch.has_more:
            return found, cursor


def test_rotation_loses_no_attempt_and_repeats_none(serving: Gateway, until: Until) -> None:
    log, rotation = AttemptLog(serving.settings.attempt_log), LogRotation(serving.settings, limit_bytes=500)
    asked: list[str] = []
    seen: list[Attempt] = []
    cursor = ""
    for _ in range(4):
        asked += ask(serving, 5)
        until(lambda: has_lines(serving.settings.attempt_log))
        if len(asked) % 10 == 0:
            more, cursor = read_all(log, cursor)
            seen += more
        rotation.look()

    def all_seen() -> bool:
        nonlocal cursor
        more, cursor = read_all(log, cursor)
        seen.extend(more)
        return len(seen) >= len(asked)

    until(all_seen)
    assert [attempt.request_id for attempt in seen] == asked


def test_rotation_cut_short_is_ended_by_the_next_look(serving: Gateway, until: Until) -> None:
    path = serving.settings.attempt_log
    ask(serving, 1)
    until(lambda: has_lines(path))
    path.replace(path.with_name(f"{path.name}.1"))
    LogRotation(serving.settings).look()
    until(path.exists)


def test_short_log_is_left_alone(serving: Gateway, until: Until) -> None:
    ask(serving, 1)
    until(lambda: has_lines(serving.settings.attempt_log))
    LogRotation(serving.settings).look()
    assert not serving.settings.attempt_log.with_name("attempts.jsonl.1").exists()
