"""Envoy's attempt log as a source of evidence: offsets, half lines, rotation, loss."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.contracts import SourceContract
from taxiway_serving.errors import InvalidSpecError, TransportError
from taxiway_serving.evidence.access_log import AttemptLog
from taxiway_serving.evidence.source import Attempt
from taxiway_serving.testing import attempt


def line(**changes: object) -> bytes:
    row = {
        "at_s": "1000000.000",
        "handle": "digits",
        "request_id": "8e3a6c1e-0f5d-4c1e-9d0e-5f6a7b8c9d0e",
        "user": "ada",
        "uid": None,
        "via": "split",
        "cluster": "digits/1",
        "version": "1",
        "status": 200,
        "flags": "-",
        "duration_ms": 5,
        "number": "1",
    }
    return json.dumps({**row, **changes}).encode() + b"\n"


def line_of(wished: Attempt) -> bytes:
    return line(status=wished.status, number=str(wished.number))


def append(path: Path, *lines: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(b"".join(lines))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "attempts.jsonl"


class TestAttemptLog(SourceContract):
    @pytest.fixture
    def source(self, log: Path) -> AttemptLog:
        log.touch()
        return AttemptLog(log)

    @pytest.fixture
    def add(self, log: Path) -> Callable[..., None]:
        return lambda *attempts: append(log, *(line_of(a) for a in attempts))

    @pytest.fixture
    def lose(self, log: Path) -> Callable[[], None]:
        return lambda: append(log, b'{"at_s": 17\n')


def read_one(log: Path, **changes: object) -> Attempt:
    append(log, line(**changes))
    (found,) = AttemptLog(log).read("").attempts
    return found


def test_line_becomes_an_attempt(log: Path) -> None:
    assert read_one(log) == attempt()


def test_retry_on_stable_is_assigned_to_the_canary(log: Path) -> None:
    found = read_one(log, cluster="digits/2~1", version="1", number="2")
    assert (found.assigned, found.answered, found.number) == (2, 1, 2)


def test_attempt_without_an_answer_is_an_error(log: Path) -> None:
    found = read_one(log, cluster="digits/2~1", version=None, status=0, flags="UF")
    assert (found.answered, found.status, found.flags, found.is_error) == (None, 0, "UF", True)


def test_clients_fault_is_no_error(log: Path) -> None:
    assert not read_one(log, status=429).is_error


@pytest.mark.parametrize(
    ("changes", "unit"),
    [
        ({"user": "ada", "uid": "c0ffee00-1234"}, "user:ada"),
        ({"user": None, "uid": "c0ffee00-1234"}, "cookie:c0ffee00-1234"),
        ({"user": None}, "request:8e3a6c1e-0f5d"),
        ({"user": "", "request_id": None}, "request:"),
    ],
    ids=["user", "cookie", "request", "nobody"],
)
def test_unit_is_the_best_known_name_of_who_asked(log: Path, changes: dict[str, object], unit: str) -> None:
    assert read_one(log, **changes).unit == unit


@pytest.mark.parametrize("via", ["split", "header", "member", "pin"])
def test_attempt_says_who_chose_its_version(log: Path, via: str) -> None:
    found = read_one(log, via=via)
    assert (found.via, found.pinned) == (via, via == "pin")


@pytest.mark.parametrize(("pin", "via"), [(None, "split"), ("1", "pin")])
def test_line_of_an_earlier_release_says_only_who_is_pinned(log: Path, pin: str | None, via: str) -> None:
    row = {name: value for name, value in json.loads(line()).items() if name != "via"}
    append(log, json.dumps({**row, "pin": pin}).encode() + b"\n")
    (found,) = AttemptLog(log).read("").attempts
    assert (found.via, found.answer_ms, found.latency_ms) == (via, None, 5.0)


def test_latency_is_the_versions_own_time_where_it_gave_an_answer(log: Path) -> None:
    answered = read_one(log, answer_us=1500, duration_ms=900)
    assert (answered.answer_ms, answered.latency_ms) == (1.5, 1.5)
    log.unlink()
    given_up = read_one(log, answer_us=None, duration_ms=900)
    assert (given_up.answer_ms, given_up.latency_ms) == (None, 900.0)


def test_half_line_waits_for_its_other_half(log: Path) -> None:
    whole = line(status=503)
    append(log, line(), whole[:40])
    source = AttemptLog(log)
    first = source.read("")
    assert (len(first.attempts), first.is_complete, first.has_more) == (1, True, False)
    append(log, whole[40:])
    assert [a.status for a in source.read(first.cursor).attempts] == [503]


@pytest.mark.parametrize(
    "broken",
    [
        b"not json\n",
        b"[]\n",
        b"null\n",
        b"\xff\xfe\n",
        line(cluster="somewhere"),
        line(status="many"),
        line(handle=None),
        line(via="chance"),
        b'{"at_s": "1"}\n',
    ],
    ids=["text", "list", "null", "bytes", "cluster", "status", "handle", "via", "keys"],
)
def test_broken_line_is_counted_and_never_fatal(log: Path, broken: bytes) -> None:
    append(log, line(), broken, line(status=500))
    batch = AttemptLog(log).read("")
    assert [a.status for a in batch.attempts] == [200, 500]
    assert (batch.broken, batch.is_complete) == (1, False)


def test_long_log_is_read_in_pieces_and_nothing_is_missed(log: Path) -> None:
    append(log, *(line(status=200 + i) for i in range(100)))
    source = AttemptLog(log, limit_bytes=1000)
    cursor, statuses, has_more = "", [], True
    while has_more:
        batch = source.read(cursor)
        statuses += [a.status for a in batch.attempts]
        cursor, has_more = batch.cursor, batch.has_more
        assert batch.is_complete
    assert statuses == list(range(200, 300))


def test_line_beyond_the_limit_does_not_hold_up_the_rest(log: Path) -> None:
    append(log, line(user="x" * 3000), line(status=500))
    source = AttemptLog(log, limit_bytes=1000)
    batch = source.read("")
    broken = 0
    while batch.has_more:
        broken += batch.broken
        batch = source.read(batch.cursor)
    assert [a.status for a in batch.attempts] == [500]
    assert broken > 0


def test_rotated_log_is_read_to_its_end_first(log: Path) -> None:
    append(log, line(status=201))
    source = AttemptLog(log)
    cursor = source.read("").cursor
    append(log, line(status=202))
    log.rename(log.with_name("attempts.jsonl.1"))
    append(log, line(status=203))
    second = source.read(cursor)
    third = source.read(second.cursor)
    assert [a.status for a in second.attempts + third.attempts] == [202, 203]
    assert (second.has_more, third.has_more) == (True, False)
    assert second.is_complete
    assert third.is_complete


def test_first_read_begins_with_the_oldest_rotated_log(log: Path) -> None:
    append(log.with_name("attempts.jsonl.2"), line(status=201))
    append(log.with_name("attempts.jsonl.1"), line(status=202))
    append(log, line(status=203))
    source, cursor, statuses = AttemptLog(log), "", []
    for _ in range(3):
        batch = source.read(cursor)
        cursor = batch.cursor
        statuses += [a.status for a in batch.attempts]
    assert statuses == [201, 202, 203]


def test_log_that_was_cut_short_makes_the_batch_incomplete(log: Path) -> None:
    append(log, line(), line())
    cursor = AttemptLog(log).read("").cursor
    log.write_bytes(line(status=500))
    batch = AttemptLog(log).read(cursor)
    assert [a.status for a in batch.attempts] == [500]
    assert not batch.is_complete


def test_log_that_vanished_makes_the_batch_incomplete(log: Path) -> None:
    append(log, line())
    cursor = AttemptLog(log).read("").cursor
    log.unlink()
    batch = AttemptLog(log).read(cursor)
    assert (batch.attempts, batch.is_complete) == ((), False)
    assert not AttemptLog(log).read(batch.cursor).is_complete


def reuse_inode(log: Path, *lines: bytes) -> None:
    """Put other lines in the place of the log: what a new file looks like that was given an old one's inode."""
    inode = log.stat().st_ino
    log.write_bytes(b"".join(lines))
    assert log.stat().st_ino == inode


@pytest.mark.parametrize("end", [False, True], ids=["read", "end"])
def test_new_log_under_an_old_ones_inode_makes_the_batch_incomplete(log: Path, end: bool) -> None:
    append(log, line())
    source = AttemptLog(log)
    cursor = source.end() if end else source.read("").cursor
    append(log.with_name("attempts.jsonl.1"), line(status=501))
    reuse_inode(log, line(status=502, user="somebody else"), line(status=503))
    first = source.read(cursor)
    second = source.read(first.cursor)
    assert [a.status for a in first.attempts + second.attempts] == [501, 502, 503]
    assert (first.is_complete, second.is_complete) == (False, True)


def test_cursor_of_an_earlier_release_is_read(log: Path) -> None:
    append(log, line(), line(status=500))
    batch = AttemptLog(log).read(f"{log.stat().st_ino}:{len(line())}")
    assert [a.status for a in batch.attempts] == [500]
    assert batch.is_complete
    log.write_bytes(b"")
    assert not AttemptLog(log).read(f"{log.stat().st_ino}:{len(line())}").is_complete


def test_end_is_behind_what_is_there(log: Path) -> None:
    source = AttemptLog(log)
    assert source.end() == ""
    append(log, line())
    cursor = source.end()
    append(log, line(status=500))
    assert [a.status for a in source.read(cursor).attempts] == [500]


def test_cursor_with_the_mark_of_an_earlier_release_is_read(log: Path) -> None:
    append(log, line(), line(status=500))
    mark = hashlib.sha256(line()[:512]).hexdigest()[:16]
    cursor = f"{log.stat().st_ino}:{len(line())}:{mark}"
    batch = AttemptLog(log).read(cursor)
    assert ([a.status for a in batch.attempts], batch.is_complete) == ([500], True)
    reuse_inode(log, line(user="somebody else"), line(status=501))
    batch = AttemptLog(log).read(cursor)
    assert ([a.status for a in batch.attempts], batch.is_complete) == ([200, 501], False)


@pytest.mark.parametrize(
    ("told", "answer"),
    [("kept", Answer.YES), ("broken", Answer.NO), ("-", Answer.UNKNOWN), (None, Answer.UNKNOWN)],
)
def test_attempt_says_what_the_service_says_of_its_contract(log: Path, told: object, answer: Answer) -> None:
    assert read_one(log, contract=told).keeps_contract is answer


@pytest.mark.parametrize(
    "cursor", ["x", "1", "1:", ":1", "1:-1", "1:1:x", "1:1:", "1:1:0123456789abcdeg", "1:1:1:1"]
)
def test_cursor_of_another_source_is_refused(log: Path, cursor: str) -> None:
    with pytest.raises(InvalidSpecError, match="not a cursor"):
        AttemptLog(log).read(cursor)


def test_log_that_cannot_be_read_is_not_an_empty_batch(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="cannot be read"):
        AttemptLog(tmp_path).read("")
