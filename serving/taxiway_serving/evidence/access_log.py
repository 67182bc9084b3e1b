"""Evidence from Envoy's log of attempts: a file of JSON lines that outlives the controller.

What the lines hold is decided where Envoy's configuration is made (`routing/ads_bootstrap.py`, `attempt_line`).
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast, get_args

from taxiway_serving.answers import Answer
from taxiway_serving.evidence.lines import READ_BYTES, LineFile
from taxiway_serving.evidence.source import Attempt, Batch
from taxiway_serving.names import CONTRACT_BROKEN, CONTRACT_KEPT, UNIT_ID_LENGTH, Via, assigned_version

_LONGEST_NAME: Final = 200
_CONTRACT: Final[Mapping[object, Answer]] = {CONTRACT_KEPT: Answer.YES, CONTRACT_BROKEN: Answer.NO}


class AttemptLog:
    """Reads Envoy's attempt log. A `Source`.

    How a file of lines is read, and what rotation does to it, is told in `lines.py`. A log that is not there makes the
    batch incomplete.

    Args:
        path: The log.
        limit_bytes: Most bytes to read at once. More than the longest line.
        resumes_at_end: Whether a cursor that is not of this log goes on at its end: see `LineFile`.
    """

    def __init__(self, path: Path, *, limit_bytes: int = READ_BYTES, resumes_at_end: bool = False) -> None:
        self._file = LineFile(path, limit_bytes=limit_bytes, resumes_at_end=resumes_at_end)

    def read(self, cursor: str) -> Batch:
        """Return the attempts after a cursor. See `Source.read`.

        Raises:
            InvalidSpecError: If the cursor is not one of this log.
            TransportError: If the log exists and cannot be read.
        """
        chunk = self._file.read(cursor)
        read = [_attempt(line) for line in chunk.lines]
        attempts = tuple(attempt for attempt in read if attempt is not None)
        broken = len(read) - len(attempts)
        return Batch(
            attempts=attempts,
            cursor=chunk.cursor,
            # Envoy makes its log when it starts. Where there is none, nobody knows what happened.
            is_complete=chunk.exists and chunk.is_complete and broken == 0,
            has_more=chunk.has_more,
            broken=broken,
        )

    def end(self) -> str:
        """Return the cursor behind everything that is there now: evidence begins here.

        Raises:
            TransportError: If the log exists and cannot be read.
        """
        return self._file.end()

    def find(self, request_id: str) -> tuple[Attempt, ...]:
        """Return the attempts of one request that are still in the log, in order; it reads all of the log.

        Raises:
            TransportError: If the log exists and cannot be read.
        """
        wanted, cursor, found = json.dumps(request_id).encode(), "", []
        while True:
            chunk = self._file.read(cursor)
            found += [_attempt(line) for line in chunk.lines if wanted in line]
            if not chunk.has_more:
                break
            cursor = chunk.cursor
        own = [attempt for attempt in found if attempt is not None and attempt.request_id == request_id]
        return tuple(sorted(own, key=lambda attempt: (attempt.at_s, attempt.number)))


def _attempt(line: bytes) -> Attempt | None:
    """Return the attempt that a line tells of, or None if it cannot be understood."""
    try:
        return _parsed(json.loads(line))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _parsed(row: dict[str, Any]) -> Attempt:
    assigned = assigned_version(row["cluster"])
    if assigned is None:
        raise ValueError(f"no version in {row['cluster']!r}")
    version = row["version"]
    return Attempt(
        at_s=float(row["at_s"]),
        handle=_text(row["handle"]),
        request_id=row["request_id"] or "",
        unit=next(_units(row)),
        assigned=assigned,
        answered=None if version in (None, "", "-") else int(version),
        status=int(row["status"]),
        flags="" if row["flags"] in (None, "-") else row["flags"],
        duration_ms=float(row["duration_ms"]),
        number=int(row["number"] or 1),
        via=_via(row),
        answer_ms=_answer_ms(row),
        keeps_contract=_CONTRACT.get(row.get("contract"), Answer.UNKNOWN),
    )


def _via(row: dict[str, Any]) -> Via:
    """Return who chose the version. A line of an earlier release names only the version that a tester wished."""
    if "via" not in row:
        return "pin" if row["pin"] else "split"
    if row["via"] not in get_args(Via):
        raise ValueError(f"nobody chooses by {row['via']!r}")
    return cast("Via", row["via"])


def _answer_ms(row: dict[str, Any]) -> float | None:
    answer_us = row.get("answer_us")
    return None if answer_us in (None, "", "-") else float(answer_us) / 1000


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text is missing, got {value!r}")
    return value


def _bounded(text: str) -> str:
    """Return a client's own name for itself, or its hash if it is so long that no index would hold it."""
    return text if len(text) <= _LONGEST_NAME else hashlib.sha256(text.encode(errors="replace")).hexdigest()


def _units(row: dict[str, Any]) -> Iterator[str]:
    if row["user"]:
        yield f"user:{_bounded(row['user'])}"
    if row["uid"]:
        yield f"cookie:{_bounded(row['uid'])}"
    yield f"request:{(row['request_id'] or '')[:UNIT_ID_LENGTH]}"
