"""Unpacks what comes back from a container engine as a tar archive; how one is made is `taxiway_serving.archive`'s."""

import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from taxiway.errors import OutputFaultsError
from taxiway_serving.archive import PIECE_BYTES, READ_ONLY, Entry, stream

__all__ = ["PIECE_BYTES", "READ_ONLY", "Entry", "stream", "unpack"]


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
