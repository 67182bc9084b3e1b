"""Evidence from Envoy's log of attempts: a file of JSON lines that outlives the controller.

What the lines hold is decided where Envoy's configuration is made (`routing/bootstrap.py`, `attempt_line`).
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self, cast, get_args

from taxiway_serving.errors import InvalidSpecError, TransportError
from taxiway_serving.evidence.source import Attempt, Batch
from taxiway_serving.names import UNIT_ID_LENGTH, Via, assigned_version

_READ_BYTES: Final = 4 * 1024 * 1024
_MARK_BYTES: Final = 512
_MARK_LENGTH: Final = 16
_CURSOR: Final = re.compile(rf"([0-9]+):([0-9]+)(?::([0-9a-f]{{{_MARK_LENGTH}}}))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where reading goes on: which file, by inode, how far into it, and what it began with.

    An inode is given again when a file is gone, so the first bytes before the offset are remembered by their hash. A
    cursor of an earlier release has no such mark, and none is needed at the beginning of a file.
    """

    inode: int
    offset: int
    mark: str = ""

    @classmethod
    def parse(cls, cursor: str) -> Self | None:
        if not cursor:
            return None
        match = _CURSOR.fullmatch(cursor)
        if not match:
            raise InvalidSpecError((f"not a cursor of this log: {cursor!r}",), "cursor")
        return cls(inode=int(match[1]), offset=int(match[2]), mark=match[3] or "")

    @classmethod
    def of(cls, stream: BinaryIO, offset: int) -> Self:
        inode = os.fstat(stream.fileno()).st_ino
        return cls(inode=inode, offset=offset, mark=_mark(stream, offset))

    def __str__(self) -> str:
        return ":".join(filter(None, (str(self.inode), str(self.offset), self.mark)))

    def is_in(self, file: Path) -> bool:
        """Tell whether this is the file, as far as the cursor can tell."""
        if file.stat().st_ino != self.inode:
            return False
        with file.open("rb") as stream:
            return not self.mark or _mark(stream, self.offset) == self.mark


def _mark(stream: BinaryIO, offset: int) -> str:
    if offset == 0:
        return ""
    stream.seek(0)
    return hashlib.sha256(stream.read(min(offset, _MARK_BYTES))).hexdigest()[:_MARK_LENGTH]


class AttemptLog:
    """Reads Envoy's attempt log. A `Source`.

    A line that is still being written is left for the next read. A log that was rotated to a neighbour
    (`attempts.jsonl.1`) is read to its end first; one that was cut short or has vanished makes the batch incomplete.

    Args:
        path: The log.
        limit_bytes: Most bytes to read at once. More than the longest line.
    """

    def __init__(self, path: Path, *, limit_bytes: int = _READ_BYTES) -> None:
        self._path = path
        self._limit_bytes = limit_bytes

    def read(self, cursor: str) -> Batch:
        """Return the attempts after a cursor. See `Source.read`.

        Raises:
            InvalidSpecError: If the cursor is not one of this log.
            TransportError: If the log exists and cannot be read.
        """
        place = _Place.parse(cursor)
        try:
            if place is None:
                return self._first()
            return self._next(place)
        except OSError as exc:
            raise TransportError(str(self._path), f"cannot be read: {exc}") from exc

    def end(self) -> str:
        """Return the cursor behind everything that is there now: evidence begins here.

        Raises:
            TransportError: If the log exists and cannot be read.
        """
        try:
            with self._path.open("rb") as stream:
                return str(_Place.of(stream, stream.seek(0, os.SEEK_END)))
        except FileNotFoundError:
            return ""
        except OSError as exc:
            raise TransportError(str(self._path), f"cannot be read: {exc}") from exc

    def _first(self) -> Batch:
        files = self._files()
        if not files:
            # Envoy makes its log when it starts. Where there is none, nobody knows what happened.
            return Batch(attempts=(), cursor="", is_complete=False)
        return self._from(files, 0, 0, is_complete=True)

    def _next(self, place: _Place) -> Batch:
        files = self._files()
        if not files:
            return Batch(attempts=(), cursor="", is_complete=False)
        index = next((i for i, file in enumerate(files) if place.is_in(file)), None)
        if index is None or files[index].stat().st_size < place.offset:
            # Nobody can tell what was in the part that is gone.
            return self._from(files, index or 0, 0, is_complete=False)
        return self._from(files, index, place.offset, is_complete=True)

    def _from(self, files: list[Path], index: int, offset: int, *, is_complete: bool) -> Batch:
        is_last = index == len(files) - 1
        with files[index].open("rb") as stream:
            lines, end, has_more = _lines(stream, offset, self._limit_bytes, is_closed=not is_last)
            place = _Place.of(stream, end)
        read = [_attempt(line) for line in lines]
        attempts = tuple(attempt for attempt in read if attempt is not None)
        broken = len(read) - len(attempts)
        if not has_more and not is_last:
            place, has_more = _Place(inode=files[index + 1].stat().st_ino, offset=0), True
        return Batch(
            attempts=attempts,
            cursor=str(place),
            is_complete=is_complete and broken == 0,
            has_more=has_more,
            broken=broken,
        )

    def _files(self) -> list[Path]:
        """Return the log and what was rotated away, oldest first."""
        rotated = [
            file for file in self._path.parent.glob(f"{self._path.name}.*") if file.suffix[1:].isdecimal()
        ]
        found = sorted(rotated, key=lambda file: -int(file.suffix[1:]))
        return [*found, self._path] if self._path.exists() else found


def _lines(stream: BinaryIO, offset: int, limit: int, *, is_closed: bool) -> tuple[list[bytes], int, bool]:
    """Return whole lines, where they end, and whether more wait."""
    stream.seek(offset)
    chunk = stream.read(limit)
    has_more = len(chunk) == limit and bool(stream.read(1))
    whole = len(chunk) if is_closed and not has_more else chunk.rfind(b"\n") + 1
    if whole == 0 and has_more:
        # A line longer than the limit would hold up everything behind it: step over it, as a broken one.
        whole = len(chunk)
    return [line for line in chunk[:whole].split(b"\n") if line], offset + whole, has_more


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


def _units(row: dict[str, Any]) -> Iterator[str]:
    if row["user"]:
        yield f"user:{row['user']}"
    if row["uid"]:
        yield f"cookie:{row['uid']}"
    yield f"request:{(row['request_id'] or '')[:UNIT_ID_LENGTH]}"
