"""What shadow comparison found, in a file of JSON lines per handle: the comparator writes it, the controller reads it.

The file outlives both. What a line means is `evidence/comparison.py`'s. The answers themselves are not in it, but the
places where they differ are: the files are for their owner alone.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taxiway_serving.evidence.comparison import Comparison
from taxiway_serving.evidence.lines import READ_BYTES, LineFile

ROTATE_BYTES: Final = 16 * 1024 * 1024
KEPT: Final = 2
_DROPPED: Final = "dropped"


def log_path(home: Path, handle: str) -> Path:
    """Return the file of a handle's comparisons below the controller's home."""
    return home / "shadow" / f"{handle}.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowBatch:
    """What the log had to say since a cursor.

    Attributes:
        comparisons: In the order in which they ended.
        cursor: Where the next read goes on.
        is_complete: False if comparisons between the two cursors are missing or unreadable. What is missing is
            unknown, not zero; and what was read before may come once more.
        has_more: Whether more is waiting already: read again before judging.
        broken: Lines that could not be read.
        dropped: Mirrored requests that were not compared because too many waited.
    """

    comparisons: tuple[Comparison, ...]
    cursor: str
    is_complete: bool = True
    has_more: bool = False
    broken: int = 0
    dropped: int = 0


class ShadowLog:
    """Reads a handle's comparisons. Reading changes nothing: the caller keeps the cursor, also over restarts.

    Args:
        path: The file, which need not exist yet: `log_path(home, handle)`.
        limit_bytes: Most bytes to read at once.
    """

    def __init__(self, path: Path, *, limit_bytes: int = READ_BYTES) -> None:
        self._file = LineFile(path, limit_bytes=limit_bytes)

    def end(self) -> str:
        """Return the cursor behind everything that is there now: a rollout's evidence begins here.

        Raises:
            TransportError: If the log exists and cannot be read.
        """
        return self._file.end()

    def read(self, cursor: str) -> ShadowBatch:
        """Return what came after a cursor; "" is the beginning, and where there is no file yet, nothing was compared.

        Raises:
            InvalidSpecError: If the cursor is not one of this log.
            TransportError: If the log exists and cannot be read.
        """
        chunk = self._file.read(cursor)
        read = [_parsed(line) for line in chunk.lines]
        known = [each for each in read if each is not None]
        broken = len(read) - len(known)
        return ShadowBatch(
            comparisons=tuple(comparison for comparison, _ in known),
            cursor=chunk.cursor,
            is_complete=chunk.is_complete and broken == 0,
            has_more=chunk.has_more,
            broken=broken,
            dropped=sum(dropped for _, dropped in known),
        )


class ShadowWriter:
    """Appends a handle's comparisons. One writer per file, used by one thread at a time.

    A line is with the kernel when `add` returns, so the death of this process loses none that was added.

    Args:
        path: The file; made where it is missing.
        rotate_bytes: Length from which the file is put aside, > 0.
        kept: Older files to keep, >= 1: what a controller that was away for a while can still read.
    """

    def __init__(self, path: Path, *, rotate_bytes: int = ROTATE_BYTES, kept: int = KEPT) -> None:
        self._path, self._rotate_bytes, self._kept = path, rotate_bytes, kept

    def add(self, comparison: Comparison, *, dropped: int = 0) -> None:
        """Append one comparison.

        Args:
            comparison: What was found.
            dropped: Mirrored requests that were dropped since the line before.

        Raises:
            OSError: If it could not be written whole.
        """
        line = json.dumps({**comparison.to_json(), _DROPPED: dropped}, separators=(",", ":")).encode() + b"\n"
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = _append(file, line)
        finally:
            os.close(file)
        if size > self._rotate_bytes:
            self._rotate()

    def _rotate(self) -> None:
        for number in range(self._kept, 0, -1):
            older = self._path if number == 1 else self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _append(file: int, line: bytes) -> int:
    """Append a line to an open file, and return the file's length."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        # A full disk may have cut the line before; this one must not be lost with it.
        line = b"\n" + line
    written = os.write(file, line)
    if written != len(line):
        raise OSError(f"{written} of {len(line)} bytes were written; the disk may be full")
    return size + written


def _parsed(line: bytes) -> tuple[Comparison, int] | None:
    """Return the comparison that a line tells of and what was dropped before it, or None if it is something else."""
    try:
        row: dict[str, Any] = json.loads(line)
        return Comparison.from_json(row), int(row[_DROPPED])
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
