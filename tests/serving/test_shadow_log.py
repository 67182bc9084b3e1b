"""The log of comparisons: what is written is read, over restarts, rotation, broken and half lines."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from taxiway_serving.errors import InvalidSpecError, TransportError
from taxiway_serving.evidence.comparison import Comparison
from taxiway_serving.shadow.log import ShadowBatch, ShadowLog, ShadowWriter, log_path


def comparison(number: int = 1, **changes: Any) -> Comparison:
    usual: dict[str, Any] = {
        "at_s": 1_000_000.0 + number,
        "handle": "digits",
        "request_id": f"request-{number}",
        "unit": "user:ada",
        "stable": 1,
        "candidate": 2,
    }
    return Comparison(**{**usual, **changes})


def numbers(batch: ShadowBatch) -> list[int]:
    return [int(each.at_s - 1_000_000) for each in batch.comparisons]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return log_path(tmp_path, "digits")


def broken_line(**changes: object) -> bytes:
    return json.dumps({**comparison().to_json(), "dropped": 0, **changes}).encode() + b"\n"


def test_what_is_written_is_read_once_and_in_order(path: Path) -> None:
    writer, log = ShadowWriter(path), ShadowLog(path)
    first = comparison(1, candidate_differs=True, failed=("candidate",), ms={"stable": 1.5}, detail="why")
    writer.add(first, dropped=3)
    batch = log.read("")
    assert (batch.comparisons, batch.is_complete, batch.dropped) == ((first,), True, 3)
    writer.add(comparison(2))
    later = ShadowLog(path).read(batch.cursor)
    assert (numbers(later), later.dropped) == ([2], 0)
    assert numbers(log.read(later.cursor)) == []
    assert log.read(batch.cursor) == later


def test_log_that_is_not_there_yet_says_that_nothing_was_compared(path: Path) -> None:
    log = ShadowLog(path)
    assert log.end() == ""
    assert log.read("") == ShadowBatch(comparisons=(), cursor="")


def test_log_that_vanished_is_incomplete(path: Path) -> None:
    ShadowWriter(path).add(comparison())
    cursor = ShadowLog(path).read("").cursor
    path.unlink()
    assert not ShadowLog(path).read(cursor).is_complete


def test_end_is_behind_what_is_there(path: Path) -> None:
    writer = ShadowWriter(path)
    writer.add(comparison(1))
    cursor = ShadowLog(path).end()
    writer.add(comparison(2))
    assert numbers(ShadowLog(path).read(cursor)) == [2]


def test_half_line_waits_for_its_other_half(path: Path) -> None:
    ShadowWriter(path).add(comparison(1))
    whole = broken_line()
    with path.open("ab") as stream:
        stream.write(whole[:50])
    first = ShadowLog(path).read("")
    assert (numbers(first), first.is_complete) == ([1], True)
    with path.open("ab") as stream:
        stream.write(whole[50:])
    assert numbers(ShadowLog(path).read(first.cursor)) == [1]


@pytest.mark.parametrize(
    "line",
    [
        b"not json\n",
        b"[]\n",
        broken_line(candidate_differs=1),
        broken_line(noise_differs=None),
        broken_line(failed=["weather"]),
        broken_line(failed=None),
        broken_line(candidate=0),
        broken_line(handle="Digits"),
        broken_line(ms=[]),
        broken_line(dropped=None),
        broken_line(at_s=10**400),
    ],
    ids=["text", "list", "number", "null", "step", "no steps", "version", "handle", "ms", "drops", "time"],
)
def test_broken_line_is_counted_and_never_fatal(path: Path, line: bytes) -> None:
    writer = ShadowWriter(path)
    writer.add(comparison(1))
    with path.open("ab") as stream:
        stream.write(line)
    writer.add(comparison(2))
    batch = ShadowLog(path).read("")
    assert (numbers(batch), batch.broken, batch.is_complete) == ([1, 2], 1, False)


def test_line_that_a_full_disk_cut_takes_no_other_with_it(path: Path) -> None:
    writer = ShadowWriter(path)
    writer.add(comparison(1))
    with path.open("ab") as stream:
        stream.write(b'{"at_s": 17')
    writer.add(comparison(2))
    batch = ShadowLog(path).read("")
    assert (numbers(batch), batch.broken) == ([1, 2], 1)


def test_long_log_is_put_aside_and_read_to_its_end(path: Path) -> None:
    writer, log = ShadowWriter(path, rotate_bytes=600, kept=20), ShadowLog(path)
    cursor, seen = "", []
    for number in range(1, 41):
        writer.add(comparison(number))
        if number % 7 == 0:
            has_more = True
            while has_more:
                batch = log.read(cursor)
                assert batch.is_complete
                cursor, has_more = batch.cursor, batch.has_more
                seen += numbers(batch)
    assert seen == list(range(1, 36))
    assert len(list(path.parent.iterdir())) > 5


def test_only_so_many_old_logs_are_kept_and_who_missed_one_is_told(path: Path) -> None:
    writer = ShadowWriter(path, rotate_bytes=1, kept=2)
    writer.add(comparison(1))
    writer.add(comparison(2))
    cursor = ShadowLog(path).read("").cursor
    for number in range(3, 7):
        writer.add(comparison(number))
    assert {file.name for file in path.parent.iterdir()} == {"digits.jsonl.1", "digits.jsonl.2"}
    assert not ShadowLog(path).read(cursor).is_complete


def test_log_is_for_its_owner_alone(path: Path) -> None:
    ShadowWriter(path).add(comparison(detail="/name: 'Ada' or 'Bob'"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_log_that_was_cut_short_is_incomplete(path: Path) -> None:
    writer = ShadowWriter(path)
    writer.add(comparison(1))
    writer.add(comparison(2))
    cursor = ShadowLog(path).end()
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    batch = ShadowLog(path).read(cursor)
    assert (numbers(batch), batch.is_complete) == ([1], False)


def test_log_of_the_same_number_and_length_is_known_to_be_another(path: Path) -> None:
    ShadowWriter(path).add(comparison(1))
    cursor = ShadowLog(path).end()
    path.write_bytes(path.read_bytes().replace(b"request-1", b"request-2"))
    assert not ShadowLog(path).read(cursor).is_complete


def test_cursor_of_another_log_is_refused(path: Path) -> None:
    with pytest.raises(InvalidSpecError, match="not a cursor"):
        ShadowLog(path).read("yesterday")


def test_log_that_cannot_be_read_is_not_an_empty_batch(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="cannot be read"):
        ShadowLog(tmp_path).read("")
