"""Brings a dataset version's bytes to a read-only folder of this host, once, and checks them at every call.

What was hashed once is not read again while the file system says that nobody wrote to it. Versions are found and made
in `versions.py`.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from taxiway.datasets import remote, repository
from taxiway.datasets.store import Listing, Store, md5_of, places_in
from taxiway.datasets.version import DatasetVersion
from taxiway.errors import DataChangedError, ToolFailedError
from taxiway.settings import Settings
from taxiway.stamps import is_settled, remembered, stamp_of
from taxiway.tools import exclusive, fresh_folder, write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A version's bytes on this host.

    Attributes:
        path: A read-only folder.
        source: Where they came from: `host` (they were here), `cache` (the data repository's), or `remote`.
        took_s: Seconds that bringing and checking took.
        hashed: How many files had to be read to check them; the others had not been touched since.
    """

    path: Path
    source: str
    took_s: float
    hashed: int


def fetch(version: DatasetVersion, settings: Settings, *, log: Callable[[str], None] | None = None) -> Path:
    """Return a read-only folder with a version's bytes, kept by their hash and checked on every call.

    Args:
        version: Which bytes.
        settings: Where they are.
        log: Called with a line that says how long it took, and from where.

    Raises:
        DataChangedError: If somebody changed the folder since.
        DiskFullError: If there is no room; nothing is left of it.
        ToolFailedError: If dvc cannot bring it, or it is nowhere.
    """
    found = bring(version, settings)
    if log is not None:
        size = f"{version.files} files, {version.size_bytes} bytes"
        log(
            f"{version.tag}: {size} from the {found.source}, {found.took_s:.2f} s, {found.hashed} files read to check"
        )
    return found.path


def bring(version: DatasetVersion, settings: Settings) -> Fetched:
    """Fetch a version and say how long it took, for those who account for reading; it raises what `fetch` does."""
    began = time.monotonic()
    folder = settings.home / "data" / version.hash.removesuffix(".dir")
    source, hashed = "host", 0
    if not folder.exists():
        with exclusive(folder.with_suffix(".lock")):
            if not folder.exists():
                source, hashed = _lay_out(version, folder, settings), version.files
    if source == "host":
        hashed = _check(version, folder)
    return Fetched(path=folder, source=source, took_s=time.monotonic() - began, hashed=hashed)


def _lay_out(version: DatasetVersion, folder: Path, settings: Settings) -> str:
    with repository.locked(settings):
        root = repository.ensure(settings)
    cache, source = remote.cache(root), "cache"
    listing = cache.listing(version.hash)
    if listing is None or cache.missing(listing):
        listing, source = _pulled(root, version), "remote"
    try:
        _copy(cache, listing, folder)
    except DataChangedError as damaged:
        if not damaged.folder.is_relative_to(cache.root):
            raise
        # Somebody wrote to DVC's cache, through a link of a checkout perhaps; the remote has the bytes still.
        damaged.folder.unlink(missing_ok=True)
        source = "remote"
        _copy(cache, _pulled(root, version), folder)
    return source


def _copy(cache: Store, listing: Listing, folder: Path) -> None:
    with fresh_folder(folder) as draft:
        cache.lay_out(listing, draft)
        began_ns = time.time_ns()
        stamped = {name: (stamp_of(f"{draft}/{name}"), md5) for name, md5 in listing.files.items()}
        _remember(folder, began_ns, stamped)
    folder.chmod(0o555)


def _pulled(root: Path, version: DatasetVersion) -> Listing:
    data = repository.Output(hash=version.hash, size_bytes=version.size_bytes, files=version.files)
    listing = remote.pull(root, data)
    if listing is None or remote.cache(root).missing(listing):
        why = "neither the data repository's cache nor its remote holds all of its bytes; push them from where they are"
        raise ToolFailedError(f"fetch {version.tag}", 1, why)
    return listing


def _check(version: DatasetVersion, folder: Path) -> int:
    """Hash what was touched since the last check, and return how many files that were.

    Raises:
        DataChangedError: If the folder does not hold the version's bytes.
    """
    began_ns, known = time.time_ns(), remembered(_memory(folder))
    found: dict[str, tuple[list[int], str]] = {}
    touched = 0
    for name, place in places_in(folder).items():
        stamp, seen = stamp_of(place), known.get(name)
        if seen is not None and seen[0] == stamp:
            found[name] = seen
        else:
            found[name], touched = (stamp, md5_of(place)), touched + 1
    if not touched and len(found) == len(known):
        # It is what it was when all of it was found to be right.
        return 0
    got = Listing(files={name: md5 for name, (_, md5) in found.items()}).hash
    if got != version.hash:
        raise DataChangedError(folder, version.hash, got)
    _remember(folder, began_ns, found)
    return touched


def _remember(folder: Path, began_ns: int, found: Mapping[str, tuple[list[int], str]]) -> None:
    """Keep what was hashed, but for files so young that a later write might not show."""
    settled = {name: seen for name, seen in found.items() if is_settled(seen[0], began_ns)}
    write_atomically(_memory(folder), json.dumps(settled))


def _memory(folder: Path) -> Path:
    return folder.with_suffix(".checked.json")
