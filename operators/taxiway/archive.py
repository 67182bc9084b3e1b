"""Streams folders to a container engine as tar archives, and unpacks what comes back.

Nothing is kept in memory or on disk on the way. Names and owners are the caller's: an archive holds nothing of whoever
made it.
"""

import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from taxiway.errors import OutputFaultsError

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


def unpack(pieces: Iterable[bytes], folder: Path) -> None:
    """Unpack an archive of one folder: what is below it lands in `folder`.

    Nothing leaves the folder: no absolute name, no link out of it, no device, no owner.

    Raises:
        OutputFaultsError: If the archive tries to, or is none.
        OSError: If it cannot be written.
    """
    try:
        with tarfile.open(fileobj=_Pieces(iter(pieces)), mode="r|") as tar:
            tar.extractall(folder, filter=_below_top)  # noqa: S202 - the filter lets nothing out of the folder
    except tarfile.TarError as error:
        raise OutputFaultsError((f"cannot be taken from the container: {error}",), "results") from error


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


def _below_top(info: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    _, _, below = info.name.partition("/")
    if not below:
        return None
    target = info.linkname.partition("/")[2] if info.islnk() else info.linkname
    return tarfile.data_filter(info.replace(name=below, linkname=target, deep=False), folder)


class _Pieces(io.RawIOBase):
    """An iterator of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while len(self._rest) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._rest += piece
        found, self._rest = self._rest[:size], self._rest[size:]
        return found
