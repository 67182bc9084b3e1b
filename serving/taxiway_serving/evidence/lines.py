"""Reads a file of lines that somebody else appends to and rotates, from a cursor on. What they mean is not known here.

A line that is still being written is left for the next read. A file that was rotated to a neighbour (`x.jsonl.1`) is
read to its end first; one that was cut short or has vanished makes what was read incomplete.
"""

import hashlib
import os
import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, Self

from taxiway_serving.errors import InvalidSpecError, TransportError

READ_BYTES: Final = 4 * 1024 * 1024
_BEFORE_BYTES: Final = 256
_HASHED_BYTES: Final = 512
_HASH_LENGTH: Final = 16
_CURSOR: Final = re.compile(rf"([0-9]+):([0-9]+)(?::([0-9]{{1,10}}|[0-9a-f]{{{_HASH_LENGTH}}}))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Whole lines, without their ends, and where reading goes on.

    Attributes:
        lines: In order; empty ones are left out.
        cursor: Where the next read goes on; "" if there is no file yet.
        is_complete: False if lines between the two cursors are gone.
        has_more: Whether more is waiting already.
        exists: Whether there was a file to read.
    """

    lines: tuple[bytes, ...]
    cursor: str
    is_complete: bool = True
    has_more: bool = False
    exists: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where reading goes on: behind these bytes of this file.

    A file system gives the number of a file that was removed to the next one, so the number alone does not tell a file.

    Attributes:
        inode: Number of the file.
        offset: How far into it.
        mark: What the file holds before that: a checksum of as many of the last bytes as `_BEFORE_BYTES`. Earlier
            releases wrote a hash of the first bytes, or nothing.
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
    def at(cls, stream: BinaryIO, offset: int) -> Self:
        start = max(0, offset - _BEFORE_BYTES)
        stream.seek(start)
        mark = str(zlib.crc32(stream.read(offset - start)))
        return cls(inode=os.fstat(stream.fileno()).st_ino, offset=offset, mark=mark)

    def __str__(self) -> str:
        return f"{self.inode}:{self.offset}:{self.mark}"

    def is_in(self, file: Path) -> bool:
        """Return whether the file still is what it was when this place was taken."""
        with file.open("rb") as stream:
            if not self.mark:
                found = os.fstat(stream.fileno())
                return found.st_ino == self.inode and found.st_size >= self.offset
            here = _Place.at(stream, self.offset)
            if len(self.mark) == _HASH_LENGTH:
                here = replace(here, mark=_first_bytes(stream, self.offset))
            return here == self


def _first_bytes(stream: BinaryIO, offset: int) -> str:
    """Return the mark of a cursor of an earlier release."""
    stream.seek(0)
    return hashlib.sha256(stream.read(min(offset, _HASHED_BYTES))).hexdigest()[:_HASH_LENGTH]


class LineFile:
    """A file of lines and what was rotated away from it.

    Args:
        path: The file, which need not exist yet.
        limit_bytes: Most bytes to read at once. More than the longest line.
        resumes_at_end: Whether a cursor of which nothing is left goes on behind what is there now, and not before it.
            So for a reader whose cursor may be of another machine's file: what is here was read before, or was not.
    """

    def __init__(self, path: Path, *, limit_bytes: int = READ_BYTES, resumes_at_end: bool = False) -> None:
        self._path = path
        self._limit_bytes, self._resumes_at_end = limit_bytes, resumes_at_end

    def end(self) -> str:
        """Return the cursor behind everything that is there now.

        Raises:
            TransportError: If the file exists and cannot be read.
        """
        try:
            with self._path.open("rb") as stream:
                return str(_Place.at(stream, stream.seek(0, os.SEEK_END)))
        except FileNotFoundError:
            return ""
        except OSError as exc:
            raise TransportError(str(self._path), f"cannot be read: {exc}") from exc

    def read(self, cursor: str) -> Chunk:
        """Return what came after a cursor; "" is the beginning of the oldest file that is left.

        Raises:
            InvalidSpecError: If the cursor is not one of this file.
            TransportError: If the file exists and cannot be read.
        """
        place = _Place.parse(cursor)
        try:
            return self._read(place)
        except OSError as exc:
            raise TransportError(str(self._path), f"cannot be read: {exc}") from exc

    def _read(self, place: _Place | None) -> Chunk:
        files = self._files()
        if not files:
            return Chunk(lines=(), cursor="", is_complete=place is None, exists=False)
        if place is None:
            return self._from(files, 0, 0, is_complete=True)
        index = next((i for i, file in enumerate(files) if place.is_in(file)), None)
        if index is None and self._resumes_at_end:
            return Chunk(lines=(), cursor=self.end(), is_complete=False)
        if index is None:
            # Nobody can tell what was in the part that is gone.
            return self._from(files, 0, 0, is_complete=False)
        if index < len(files) - 1 and place.offset == files[index].stat().st_size:
            return self._from(files, index + 1, 0, is_complete=True)
        return self._from(files, index, place.offset, is_complete=True)

    def _from(self, files: list[Path], index: int, offset: int, *, is_complete: bool) -> Chunk:
        is_last = index == len(files) - 1
        with files[index].open("rb") as stream:
            lines, end, has_more = _lines(stream, offset, self._limit_bytes, is_closed=not is_last)
            cursor = str(_Place.at(stream, end))
        return Chunk(
            lines=tuple(lines), cursor=cursor, is_complete=is_complete, has_more=has_more or not is_last
        )

    def _files(self) -> list[Path]:
        """Return the file and what was rotated away, oldest first."""
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
