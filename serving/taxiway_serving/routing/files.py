"""The files that Envoy watches: replaced as a whole, or not at all.

Knows bytes and paths. What they say is `resources.py`'s, whether Envoy took them `envoy.py`'s.
"""

import os
import tempfile
from pathlib import Path

from taxiway_serving.errors import TransportError
from taxiway_serving.routing.resources import document


class ConfigFiles:
    """The clusters and the scoped routes of one Envoy, in one folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.clusters = folder / "dynamic" / "clusters.json"
        self.scopes = folder / "dynamic" / "scopes.json"

    def create_if_absent(self) -> None:
        """Write empty but valid files where there are none, so that Envoy starts."""
        self.clusters.parent.mkdir(parents=True, exist_ok=True)
        for path in (self.clusters, self.scopes):
            if not path.exists():
                replace(path, document((), "empty"))


def read(path: Path) -> bytes | None:
    """Return the bytes of a file, or None if there is none.

    Raises:
        TransportError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise TransportError(str(path), f"cannot be read: {exc}") from exc


def replace(path: Path, content: bytes) -> None:
    """Put a new file in the place of another, in one step that survives a power cut.

    Envoy watches the folder for exactly this; it ignores a file that is written in place.

    Raises:
        TransportError: If the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The new file is made in another folder, so that the watch sees one event, not several.
        handle, name = tempfile.mkstemp(dir=path.parent.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
        _sync_folder(path.parent)
    except OSError as exc:
        raise TransportError(str(path), f"cannot be written: {exc}") from exc


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
