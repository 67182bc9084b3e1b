"""DVC's content-addressed folders, read and written as DVC does: its cache, and a remote that is a folder.

An object is `files/md5/<2>/<30>`, named after the MD5 of its bytes; a folder is an object too, its listing, with `.dir`
at the end of its name. Whoever finds a listing finds every file of it. Which dataset an object belongs to is not known
here. Source: dvc-data, `dvc_data/hashfile/tree.py` and `dvc_objects/db.py`.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from taxiway.errors import DataChangedError, DiskFullError, InvalidSpecError
from taxiway.tools import scratch_folder, settle

BLOCK_BYTES = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a folder holds.

    Attributes:
        files: MD5 of each file by its path, relative and with `/`.
    """

    files: Mapping[str, str]

    @cached_property
    def text(self) -> str:
        """The listing as DVC writes it."""
        entries = [{"md5": md5, "relpath": name} for name, md5 in sorted(self.files.items())]
        return json.dumps(entries, sort_keys=True)

    @cached_property
    def hash(self) -> str:
        """The hash that DVC gives the folder: the MD5 of the listing, and `.dir`."""
        return hashlib.md5(self.text.encode(), usedforsecurity=False).hexdigest() + ".dir"

    @classmethod
    def of(cls, files: Mapping[str, Path]) -> "Listing":
        """Read and hash files, such as `files_in` finds them."""
        try:
            return cls(files={name: md5_of(path) for name, path in files.items()})
        except FileNotFoundError as gone:
            raise DataChangedError(Path(gone.filename), "a file that was there", "no file") from gone

    @classmethod
    def read(cls, text: str) -> "Listing":
        """Read what DVC wrote."""
        return cls(files={entry["relpath"]: entry["md5"] for entry in json.loads(text)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A folder of objects.

    Attributes:
        root: The cache's or the remote's folder.
    """

    root: Path

    def path(self, name: str) -> Path:
        """Return where an object is, or would be."""
        return Path(self._place(name))

    def _place(self, name: str) -> str:
        # As text: making ten thousand paths takes longer than looking at the files.
        return f"{self.root}/files/md5/{name[:2]}/{name[2:]}"

    def listing(self, name: str) -> Listing | None:
        """Return a folder's listing, or None where it is not here or is damaged."""
        try:
            found = Listing.read(self.path(name).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return found if found.hash == name else None

    def missing(self, listing: Listing) -> set[str]:
        """Return the MD5s of a listing's files that are not here."""
        return {md5 for md5 in set(listing.files.values()) if not os.path.exists(self._place(md5))}  # noqa: PTH110

    def take(self, listing: Listing, sources: Mapping[str, str | Path]) -> None:
        """Copy in what is not here yet, each file checked and, at the end, on disk; all that can be had, or nothing.

        Args:
            listing: Kept last: a reader who finds it finds its files.
            sources: Where to read a file by its MD5. What is missing and has no source stays missing.

        Raises:
            DataChangedError: If a source holds other bytes than its MD5 says.
            DiskFullError: If there is no room.
        """
        missing = self.missing(listing) & sources.keys()
        with _room(self.root), scratch_folder(self.root / "tmp") as drafts:
            _claim(self.root, sum(_size_bytes(sources[md5]) for md5 in missing))
            for md5 in missing:
                copy_checked(sources[md5], f"{drafts}/{md5}", md5)
            (drafts / listing.hash).write_text(listing.text, encoding="utf-8")
            (drafts / listing.hash).chmod(0o444)
            names = (*missing, listing.hash)
            for part in {name[:2] for name in names}:
                (self.root / "files" / "md5" / part).mkdir(parents=True, exist_ok=True)
            # On disk before it has its name: after a power cut an empty object would be taken for a whole one.
            settle([f"{drafts}/{name}" for name in names])
            for name in names:
                os.replace(f"{drafts}/{name}", self._place(name))
            settle([self.root / "files" / "md5" / part for part in {name[:2] for name in names}])

    def lay_out(self, listing: Listing, folder: Path) -> None:
        """Copy a listing's files into an empty folder, each checked on its way; all below the folder is read-only.

        Raises:
            DataChangedError: If an object here is not what its name says.
            DiskFullError: If there is no room.
        """
        with _room(folder):
            _claim(folder, sum(_size_bytes(self._place(md5)) for md5 in listing.files.values()))
            for parent in {(folder / name).parent for name in listing.files}:
                parent.mkdir(parents=True, exist_ok=True)
            for name, md5 in listing.files.items():
                copy_checked(self._place(md5), f"{folder}/{name}", md5)
            for below, _, _ in os.walk(folder):
                if below != str(folder):
                    os.chmod(below, 0o555)  # noqa: S103 - readable by every component, writable by none

    def sources(self, listing: Listing) -> dict[str, str]:
        """Return where this store keeps each file of a listing, by its MD5."""
        return {md5: self._place(md5) for md5 in listing.files.values()}


def files_in(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by their relative path, sorted.

    Raises:
        InvalidSpecError: If something in it is neither a file nor a folder: a link to a folder or to nothing, a pipe.
    """
    return {name: Path(place) for name, place in sorted(places_in(folder).items())}


def places_in(folder: Path) -> dict[str, str]:
    """Return the same as text and in no order, for those who only look: it takes a fifth of the time.

    Raises:
        InvalidSpecError: As `files_in` does.
    """
    found: dict[str, str] = {}
    faults: list[str] = []
    _collect(str(folder), "", found, faults)
    if faults:
        raise InvalidSpecError(tuple(sorted(faults)), f"folder {folder}")
    return found


def _collect(folder: str, prefix: str, found: dict[str, str], faults: list[str]) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _collect(entry.path, f"{prefix}{entry.name}/", found, faults)
            elif entry.is_file():
                found[prefix + entry.name] = entry.path
            else:
                faults.append(
                    f"{entry.path} is no file: a link to a folder or to nothing, a pipe or a socket"
                )


def md5_of(path: str | Path) -> str:
    """Return the MD5 of a file's bytes, 32 hexadecimal characters."""
    found, read = hashlib.md5(usedforsecurity=False), os.open(path, os.O_RDONLY)
    try:
        while block := os.read(read, BLOCK_BYTES):
            found.update(block)
    finally:
        os.close(read)
    return found.hexdigest()


def copy_checked(source: str | Path, target: str, md5: str) -> None:
    """Copy a file to a new, read-only one.

    Raises:
        DataChangedError: If its bytes are not those of the MD5.
    """
    found, read = hashlib.md5(usedforsecurity=False), os.open(source, os.O_RDONLY)
    try:
        written = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
        try:
            while block := os.read(read, BLOCK_BYTES):
                found.update(block)
                _write(written, block)
        finally:
            os.close(written)
    finally:
        os.close(read)
    if found.hexdigest() != md5:
        raise DataChangedError(Path(source), md5, found.hexdigest())


def _size_bytes(path: str | Path) -> int:
    return os.stat(path).st_size  # noqa: PTH116


def _write(file: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(file, rest) :]


@contextmanager
def _room(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFullError(folder, None, _free_bytes(folder)) from error
        raise


def _claim(folder: Path, needed_bytes: int) -> None:
    """Refuse before the first byte is written what cannot end well."""
    free = _free_bytes(folder)
    if needed_bytes > free:
        raise DiskFullError(folder, needed_bytes, free)


def _free_bytes(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free
