"""Hashes a component's source by content, and packs it so that equal content gives equal bytes.

Which files belong to a component is decided in `project/files.py`; nothing here knows projects.
"""

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from taxiway.errors import InvalidSpecError
from taxiway.tools import digest, remove


def content_hash(root: Path, files: Iterable[str]) -> str:
    """Return the SHA-256 of files' paths, executable bits and bytes, 64 hexadecimal characters.

    Times, owners and the order of listing play no part, so that a clone elsewhere has the same hash.
    """
    return digest([[name, _mode(root / name), _sha256(root / name)] for name in sorted(files)])


def pack(root: Path, files: Iterable[str], archive: Path) -> None:
    """Write the files into a `.tar.gz` whose bytes depend on their content alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in sorted(files):
            content = (root / name).read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), _mode(root / name)
            tar.addfile(entry, io.BytesIO(content))
    archive.write_bytes(gzip.compress(buffer.getvalue(), mtime=0))


def unpack(archive: Path, folder: Path) -> tuple[str, ...]:
    """Unpack an archive into a folder and return its files.

    Raises:
        InvalidSpecError: If it is no archive, or a path in it leaves the folder.
    """
    try:
        with tarfile.open(archive, mode="r:gz") as tar:
            tar.extractall(folder, filter="data")
            return tuple(sorted(tar.getnames()))
    except (tarfile.TarError, OSError, EOFError, zlib.error) as exc:
        raise InvalidSpecError((f"cannot be unpacked: {exc}",), str(archive)) from exc


def listing(root: Path) -> tuple[str, ...]:
    """Return every file below a folder, relative and sorted, without the bytecode that Python left there."""
    found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return tuple(sorted(path.as_posix() for path in found if "__pycache__" not in path.parts))


def remove_compiled(root: Path) -> None:
    """Remove the bytecode that Python left below a folder: it is in no listing and no hash, and would be run."""
    for folder in [*root.rglob("__pycache__")]:
        remove(folder)


def _mode(path: Path) -> int:
    return 0o755 if path.stat().st_mode & 0o100 else 0o644


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
