"""Dataset versions: take a snapshot of a folder, append to a version, compare two.

A version is a Git revision of the data repository, tagged `<dataset>@v<N>`, with the hash that DVC gives its bytes.
Equal bytes are one version however often they are taken. How a version is kept is in `keeping.py`, how it is found in
`lookup.py`, how its bytes come to a host in `fetching.py`, what is said of it in `cards.py`.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from taxiway.arguments import typed
from taxiway.datasets import cards, remote, repository
from taxiway.datasets.difference import Difference, between
from taxiway.datasets.drift import Drift, compare
from taxiway.datasets.facts import Card, Origin
from taxiway.datasets.fetching import fetch
from taxiway.datasets.keeping import Draft, Log, OvertakenError, keep
from taxiway.datasets.lookup import get, history
from taxiway.datasets.store import Listing, files_in
from taxiway.datasets.version import DatasetVersion
from taxiway.errors import DataChangedError, InvalidSpecError, ToolFailedError
from taxiway.provenance import Provenance
from taxiway.settings import Settings

__all__ = ["DatasetVersion", "append", "diff", "drift", "fetch", "get", "history", "snapshot"]

_NAME = re.compile(r"^[a-z][a-z0-9_-]{0,62}$")
_RESERVED = ("models",)
"""Folders of the data repository that hold something else: `taxiway.reproduction`."""


@typed
def snapshot(
    folder: Path,
    name: str,
    settings: Settings,
    *,
    message: str = "",
    card: Mapping[str, Any] | None = None,
    origin: Origin | None = None,
    provenance: Provenance | None = None,
    log: Log = print,
) -> DatasetVersion:
    """Return the version that holds a folder's bytes, made, committed, pushed and tagged if there is none yet.

    Killed at any moment it leaves no version, or a whole one, and the next call goes on. Its bytes are pushed before
    the tag is set, and commit and tag are pushed to the data repository's origin, if it has one, so that whoever finds
    a version can pull it. Other hosts may do the same at the same time: nothing is lost, and numbers follow each other.

    Args:
        folder: What to take; it is copied.
        name: Name of the dataset: a lower-case letter, then letters, digits, `_` or `-`.
        settings: Which data repository and remote; they are made if they are not there.
        message: First line of the commit.
        card: What is said of the data: `licence`, `personal_data`, `purpose`, `owner`, `description`, `keywords`. Of a
            version that is there, only what nobody said yet is added; `describe` changes what was said.
        origin: What it was made of.
        provenance: Who asked; None is a person.
        log: Called with a line of progress.

    Raises:
        InvalidSpecError: If the folder is empty or holds what is no file, or the name or the card is none.
        DataChangedError: If somebody writes to the folder meanwhile, or it is not what its origin left.
        DiskFullError: If there is no room; nothing is left of the version.
        ToolFailedError: If git or dvc fails; trying again is safe.
    """
    draft = _draft_of(folder, name, message=message, card=card, origin=origin, provenance=provenance)
    return keep(draft, settings, log)


@typed
def append(
    folder: Path,
    name: str,
    settings: Settings,
    *,
    base: int | str = "latest",
    replace: bool = False,
    message: str = "",
    card: Mapping[str, Any] | None = None,
    origin: Origin | None = None,
    provenance: Provenance | None = None,
    log: Log = print,
) -> DatasetVersion:
    """Return the version that holds another one's files and a folder's; the other one stays as it is.

    The other version's bytes are neither read nor copied: this host needs none of them.

    Args:
        folder: Files to add.
        name: The dataset.
        settings: Which data repository.
        base: The version to add to, as `get` takes it. `latest` is the newest when the new version is made: of appends
            at once, each adds to the one before it.
        replace: Whether a file may take the place of another of the same name.
        message: First line of the commit.
        card: As for `snapshot`; what it leaves out, the version that it adds to says.
        origin: What the files to add were made of; what holds for that holds for the version, too.
        provenance: Who asked; None is a person.
        log: Called with a line of progress, and with the difference.

    Raises:
        DatasetNotFoundError: If there is no such version.
        InvalidSpecError: If a file would take another's place and may not, with every one of them.
        ToolFailedError: If nobody knows what the version holds.
        TaxiwayError: As `snapshot` does.
    """
    added = _draft_of(folder, name, message=message, card=card, origin=origin, provenance=provenance)
    is_newest = str(base).strip().removeprefix(f"{name}@") == "latest"
    for _ in range(repository.ATTEMPTS):
        before = get(name, base, settings)
        try:
            return _keep_with(before, added, settings, replace=replace, is_newest=is_newest, log=log)
        except OvertakenError:
            log(f"{name} has a newer version than {before.tag} by now: these files are added to that one")
    raise ToolFailedError(f"append to {name}", 1, f"others were first, {repository.ATTEMPTS} times in a row")


def _draft_of(
    folder: Path,
    name: str,
    *,
    message: str,
    card: Mapping[str, Any] | None,
    origin: Origin | None,
    provenance: Provenance | None,
) -> Draft:
    """Return what a folder holds and what is said of it; arguments as `snapshot` takes them."""
    _check(folder, name)
    said, paths = Card.from_json(card or {}), files_in(folder)
    listing = Listing.of(paths)
    if origin is not None and origin.output not in ("", listing.hash):
        raise DataChangedError(folder, origin.output, listing.hash)
    return Draft(
        name=name,
        listing=listing,
        data=repository.Output(hash=listing.hash, size_bytes=_size_bytes(paths.values()), files=len(paths)),
        paths=paths,
        message=message,
        card=said,
        origin=origin,
        made_by=cards.maker(provenance),
    )


def _keep_with(
    before: DatasetVersion, added: Draft, settings: Settings, *, replace: bool, is_newest: bool, log: Log
) -> DatasetVersion:
    """Return the version that holds another one's files and a draft's, and log how it differs from the other one.

    Raises:
        OvertakenError: If the other one is the newest no more, and has to be.
    """
    old = _listing(before, settings)
    listing, size_bytes = _joined(before, old, added, settings, replace=replace)
    draft = dataclasses.replace(
        added,
        listing=listing,
        data=repository.Output(hash=listing.hash, size_bytes=size_bytes, files=len(listing.files)),
        origin=_of_both(before, added.origin, listing),
        known=cards.facts(before, settings).profile,
        base=before.version if is_newest else None,
    )
    made = keep(draft, settings, log)
    log(between(before, old, made, listing).text)
    return made


def _of_both(before: DatasetVersion, added: Origin | None, listing: Listing) -> Origin:
    """Return what a version is made of that holds another's files and added ones, which may be of others themselves."""
    parents = {before.tag: before.hash, **(added.parents if added else {})}
    return Origin(kind="append", parents=parents, details=added.details if added else {}, output=listing.hash)


def _joined(
    before: DatasetVersion, old: Listing, added: Draft, settings: Settings, *, replace: bool
) -> tuple[Listing, int]:
    """Return what a version holds with a draft's files added to it, and how many bytes that is."""
    new = added.listing.files
    replaced = sorted(file for file, md5 in new.items() if old.files.get(file, md5) != md5)
    if replaced and not replace:
        faults = tuple(f"{file} is in {before.tag} with other bytes" for file in replaced)
        raise InvalidSpecError(faults, f"append to {before.tag}; replace=True lets files take others' places")
    taken = [path for file, path in added.paths.items() if file not in old.files or file in replaced]
    gone = _kept_bytes(before, [old.files[file] for file in replaced], settings)
    return Listing(files={**old.files, **new}), before.size_bytes + _size_bytes(taken) - gone


@typed
def diff(before: DatasetVersion, after: DatasetVersion, settings: Settings) -> Difference:
    """Return how two versions differ, of one dataset or of two. No file's bytes are fetched.

    Raises:
        ToolFailedError: If nobody knows what one of them holds, or dvc cannot ask.
    """
    return between(before, _listing(before, settings), after, _listing(after, settings))


@typed
def drift(before: DatasetVersion, after: DatasetVersion, settings: Settings) -> Drift:
    """Return how far the data of a version are from those of another, from their profiles."""
    one, other = cards.facts(before, settings).profile, cards.facts(after, settings).profile
    return compare(before.tag, one, after.tag, other)


def _check(folder: Path, name: str) -> None:
    faults = []
    if not _NAME.match(name):
        faults.append(f"a dataset's name must match {_NAME.pattern}, got {name!r}")
    if name in _RESERVED:
        faults.append(f"{name} is a folder of the data repository already; choose another name")
    if not folder.is_dir() or not any(path.is_file() for path in folder.rglob("*")):
        faults.append(f"{folder} must be a folder with at least one file")
    if faults:
        raise InvalidSpecError(tuple(faults), f"dataset {name}")


def _listing(version: DatasetVersion, settings: Settings) -> Listing:
    found = remote.listing(settings.data_repository, version.name, version.commit, _output(version))
    if found is None:
        why = "neither the cache of the data repository nor its remote knows its files; push them from where they are"
        raise ToolFailedError(f"list {version.tag}", 1, why)
    return found


def _output(version: DatasetVersion) -> repository.Output:
    return repository.Output(hash=version.hash, size_bytes=version.size_bytes, files=version.files)


def _size_bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _kept_bytes(version: DatasetVersion, objects: list[str], settings: Settings) -> int:
    """Return the size of objects of a version, which are brought to the cache if they have to be."""
    cache = remote.cache(settings.data_repository)
    if not all(cache.path(md5).exists() for md5 in objects):
        remote.pull(settings.data_repository, _output(version))
    return _size_bytes(cache.path(md5) for md5 in objects)
