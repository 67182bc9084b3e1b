"""From a request's id to the version that answered it, by the gateway's log and by what feedback remembers."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from taxiway_serving.errors import NotFoundError
from taxiway_serving.evidence.access_log import AttemptLog
from tests.serving.plane import HANDLE, Plane
from tests.serving.test_access_log import append, line
from tests.serving.test_feedback_api import Served


@pytest.fixture
def served(plane: Plane) -> Iterator[Served]:
    with ExitStack() as stack:
        yield stack.enter_context(closing(Served(plane)))


def test_request_is_found_in_the_log_with_who_really_answered(served: Served) -> None:
    log = served.plane.home / "attempts.jsonl"
    append(
        log, line(request_id="other"), line(request_id="r1", cluster="digits/2~1", version="2", status=500)
    )
    append(log, line(request_id="r1", cluster="digits/2~1", version="1", number="2"))
    found = served.client("viewer").request("r1")
    assert (found["handle"], found["version"], found["status"], found["via"]) == ("digits", 1, 200, "split")
    assert [(each["assigned"], each["answered"]) for each in found["attempts"]] == [(2, 2), (2, 1)]


def test_pinned_request_is_found_too(served: Served) -> None:
    append(served.plane.home / "attempts.jsonl", line(request_id="r1", via="pin"))
    assert served.client().request("r1")["via"] == "pin"


def test_request_that_the_log_has_lost_is_remembered_by_feedback(served: Served) -> None:
    served.expose("r1", version=7)
    found = served.client().request("r1")
    assert (found["handle"], found["version"], found["attempts"]) == (HANDLE, 7, [])


def test_unknown_request_is_named(served: Served) -> None:
    with pytest.raises(NotFoundError, match="x-request-id"):
        served.client().request("r1")


def test_rotated_logs_are_searched_and_a_line_that_only_mentions_the_id_is_not_taken(tmp_path: Path) -> None:
    log = tmp_path / "attempts.jsonl"
    append(log.with_name("attempts.jsonl.1"), line(request_id="r1", at_s="5.0"))
    append(log, line(request_id="r2", user="r1"), b'{"request_id": "r1"\n')
    (found,) = AttemptLog(log).find("r1")
    assert (found.at_s, AttemptLog(tmp_path / "none").find("r1")) == (5.0, ())
