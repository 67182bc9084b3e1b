"""Finds installed packages whose files are not what their wheels hold, by the record that each wheel brings along.

uv links what it installs to its cache: whoever writes into an installed file has written into the cache, and into every
environment that shares the file, and into those that are made of it later. Nothing is installed here.
"""

import base64
import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path

RECORD = "RECORD"
_LINKED = ("METADATA", "WHEEL")


def spoiled(site: Path) -> tuple[str, ...]:
    """Return the names of the packages in a folder that are not whole, sorted.

    Compared are the size of each file, and the hash of each that may have been written to since its wheel was unpacked:
    that is one in a hundred. What an installer makes, such as programs, is no part of it.

    Source: the binary distribution format and the recording of installed packages, packaging.python.org/specifications.
    """
    found = (info.name.partition("-")[0] for info in site.glob("*.dist-info") if not _is_whole(info))
    return tuple(sorted(found))


def _is_whole(info: Path) -> bool:
    record = info / RECORD
    if not record.is_file():
        return True
    unpacked_ns = min((path.stat().st_mtime_ns for path in _linked(info)), default=0)
    with record.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.reader(lines) if len(row) == 3]
    return all(_is_recorded(info.parent / name, said, size, unpacked_ns) for name, said, size in rows)


def _linked(info: Path) -> Iterator[Path]:
    return (info / name for name in _LINKED if (info / name).is_file())


def _is_recorded(path: Path, said: str, size: str, unpacked_ns: int) -> bool:
    method, _, wanted = said.partition("=")
    if method != "sha256" or ".." in path.parts:
        return True
    try:
        found = path.stat()
        if size and found.st_size != int(size):
            return False
        # A copy says nothing of when the file that it was made of was written.
        if found.st_nlink > 1 and found.st_mtime_ns <= unpacked_ns:
            return True
        return _hash(path) == wanted
    except FileNotFoundError:
        return False


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
