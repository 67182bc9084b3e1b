"""`kill -9` in the middle of accepting: what was answered is there, and sending all of it again is safe."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from taxiway_serving.client import Controller
from taxiway_serving.errors import TransportError
from taxiway_serving.feedback import Exposure, Metric
from taxiway_serving.ledger.rewards import SqlRewards
from tests.ports import free_port
from tests.serving.conftest import answers, wait_until

TOKEN = "a-token-of-the-tests"
SENDERS = 4


@contextmanager
def serving(database: str) -> Iterator[tuple[Controller, subprocess.Popen[bytes]]]:
    port = free_port()
    command = [
        sys.executable,
        str(Path(__file__).with_name("feedback_server.py")),
        str(port),
        database,
        TOKEN,
    ]
    with subprocess.Popen(command) as process:
        try:
            wait_until(lambda: answers(f"http://127.0.0.1:{port}/openapi.json"))
            yield Controller(f"http://127.0.0.1:{port}", TOKEN, timeout_s=60), process
        finally:
            process.kill()


def _send_until_refused(controller: Controller, name: str, answered: list[str]) -> None:
    for number in range(100_000):
        request_id = f"{name}-{number}"
        try:
            controller.feedback(request_id, "click", 1)
        except TransportError:
            return
        answered.append(request_id)


def _killed_in_the_middle(database: str, name: str, *, after: int) -> list[str]:
    """Return the ids of the events that were answered before the process was killed."""
    answered: list[str] = []
    with serving(database) as (controller, process):
        senders = [
            threading.Thread(target=_send_until_refused, args=(controller, f"{name}-{sender}", answered))
            for sender in range(SENDERS)
        ]
        for sender in senders:
            sender.start()
        wait_until(lambda: len(answered) >= after)
        process.kill()
        for sender in senders:
            sender.join()
    return answered


def _exposures(request_ids: Sequence[str], at_s: float) -> list[Exposure]:
    return [
        Exposure(
            request_id=request_id,
            handle="digits",
            version=1,
            unit=f"request:{request_id}",
            at_s=at_s,
            share=1.0,
        )
        for request_id in request_ids
    ]


@pytest.mark.slow
def test_no_event_that_was_answered_is_lost_by_kill_9(url: str) -> None:
    rounds = 3 if url.startswith("sqlite") else 1
    before_s = time.time()
    answered = [
        request_id
        for round_ in range(rounds)
        for request_id in _killed_in_the_middle(url, f"round{round_}", after=40)
    ]
    assert len(answered) >= 40 * rounds
    with serving(url) as (controller, _):
        events = [{"request_id": request_id, "metric": "click", "value": 1} for request_id in answered]
        for start in range(0, len(events), 1000):
            told = controller.feedback_batch(events[start : start + 1000])
            assert {event["status"] for event in told} == {"duplicate"}
    with closing(SqlRewards(url)) as rewards:
        rewards.record(_exposures(answered, before_s))
        found = rewards.summary(
            "digits", Metric(name="click"), versions=[1], since_s=before_s, now_s=time.time() + 7200
        )
    assert (found[1].exposures, found[1].total) == (len(answered), float(len(answered)))
