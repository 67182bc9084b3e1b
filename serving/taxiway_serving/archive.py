"""Folders and files as tar archives for a container engine, in pieces.

Nothing is kept in memory or on disk on the way. Names and owners are the caller's: an archive holds nothing of whoever
made it. Unpacking is the library's (`taxiway.archive`).
"""

import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PIECE_BYTES = 1 << 20
READ_ONLY, WRITABLE = 0o555, 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file or a folder for an archive.

    Attributes:
        name: Its name in the archive; folders are made by their own entry or a file below them.
        path: The file or folder on this host; None makes an empty folder, or a file of `content`.
        content: What a file without a path holds; None for a folder.
        owner: User and group that own everything in it.
        mode: Bits of a folder without a path, or of a file with content; and what bits of files from a path are cut to.
    """

    name: str
    path: Path | None = None
    content: bytes | None = None
    owner: int = 0
    mode: int = WRITABLE


@contextmanager
def stream(entries: Iterable[Entry]) -> Iterator[Iterator[bytes]]:
    """Give the entries as a tar archive, in pieces, while they are read from disk.

    Links are followed: the reader of the archive has nothing that they could lead to.

    Raises:
        OSError: If something cannot be read; it is raised when the block ends, in place of the reader's error.
    """
    read_end, write_end = os.pipe()
    failures: list[OSError] = []

    def write() -> None:
        try:
            with (
                os.fdopen(write_end, "wb") as file,
                tarfile.open(fileobj=file, mode="w|", dereference=True) as tar,
            ):
                for entry in entries:
                    _add(tar, entry)
        except BrokenPipeError:
            # The reader has all that it wants, or has failed, which it says itself.
            return
        except OSError as error:
            failures.append(error)

    writer = threading.Thread(target=write, name="archive", daemon=True)
    writer.start()
    try:
        with os.fdopen(read_end, "rb") as source:
            yield iter(lambda: source.read(PIECE_BYTES), b"")
    finally:
        writer.join()
        if failures:
            raise failures[0]


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    if entry.path is not None:
        tar.add(entry.path, arcname=entry.name, filter=_owned(entry))
        return
    info = tarfile.TarInfo(entry.name)
    info.mode, info.uid, info.gid = entry.mode, entry.owner, entry.owner
    info.type = tarfile.DIRTYPE if entry.content is None else tarfile.REGTYPE
    info.size = len(entry.content or b"")
    tar.addfile(info, io.BytesIO(entry.content or b""))


def _owned(entry: Entry) -> Callable[[tarfile.TarInfo], tarfile.TarInfo]:
    def owned(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = entry.owner
        info.uname = info.gname = ""
        readable = info.mode | ((info.mode & 0o700) >> 3) | ((info.mode & 0o700) >> 6)
        info.mode = readable & (entry.mode if info.isdir() else entry.mode & ~0o111 | info.mode & 0o111)
        return info

    return owned
