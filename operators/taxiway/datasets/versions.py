"""Dataset versions: snapshot a folder, find a version, bring its bytes to a folder.

A version is a Git revision of the data repository, tagged `<dataset>@v<N>`, with the hash that DVC gives its bytes.
Equal bytes are one version however often they are taken. Commands are run in `repository.py`.
"""

import dataclasses
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxiway.datasets import repository
from taxiway.errors import DataChangedError, DatasetNotFoundError, InvalidSpecError
from taxiway.settings import Settings
from taxiway.tools import exclusive, fresh_folder, protect, remove

_NAME = re.compile(r"^[a-z][a-z0-9_-]{0,62}$")
_COMMIT = re.compile(r"^[0-9a-f]{7,40}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersion:
    """One version of a dataset.

    Attributes:
        name: Name of the dataset, a folder of the data repository.
        version: Counts from 1.
        tag: Git tag, `<name>@v<version>`.
        commit: Git commit of the data repository.
        hash: DVC's hash of the folder, `<md5>.dir`, 36 characters.
        size_bytes: Of all files.
        files: How many.
        repository: Where the data repository lives, without credentials.
    """

    name: str
    version: int
    tag: str
    commit: str
    hash: str
    size_bytes: int
    files: int
    repository: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "DatasetVersion":
        """Read what `to_json` wrote."""
        return cls(**data)


def snapshot(
    folder: Path, name: str, settings: Settings, *, message: str = "", log: Callable[[str], None] = print
) -> DatasetVersion:
    """Return the version that holds a folder's bytes, made, committed, pushed and tagged if there is none yet.

    Killed half-way it leaves no tag, and the next call goes on. Its bytes are pushed before the tag is set, and commit
    and tag are pushed to the data repository's origin, if it has one, so that whoever finds a version can pull it.

    Args:
        folder: What to take; it is copied.
        name: Name of the dataset: a lower-case letter, then letters, digits, `_` or `-`.
        settings: Which data repository and remote; they are made if they are not there.
        message: First line of the commit.
        log: Called with a line of progress.

    Raises:
        InvalidSpecError: If the folder is empty or the name is none.
        ToolFailedError: If git or dvc fails; trying again is safe.
    """
    _check(folder, name)
    with _lock(settings):
        root = repository.ensure(settings)
        repository.follow(root)
        taken = repository.folder_hash(folder)
        found = _with_hash(root, name, taken)
        if found is None:
            found = _create(root, folder, name, message, settings)
            log(f"{found.tag} is new: {found.files} files, {found.size_bytes} bytes, {found.hash}")
        else:
            log(f"{found.tag} already holds these bytes: no new version")
        # Also for a version that is there: whoever made it may have been killed before it was pushed.
        repository.publish(root, found.tag)
    _seed(folder, found, taken, settings)
    return found


def get(name: str, revision: int | str, settings: Settings) -> DatasetVersion:
    """Return a version of a dataset.

    Args:
        name: Name of the dataset.
        revision: `latest`, a number as `3` or `v3`, a tag as `digits@v3`, or a Git commit of a version.
        settings: Which data repository.

    Raises:
        DatasetNotFoundError: If there is no such version; the known ones are in the message.
    """
    root = settings.data_repository
    tagged = repository.tagged(root, name) if (root / ".git").exists() else {}
    text = str(revision).strip().removeprefix(f"{name}@").removeprefix("v")
    if text == "latest" and tagged:
        return _version(root, name, max(tagged), tagged[max(tagged)])
    for number, found in sorted(tagged.items(), reverse=True):
        if text == str(number) or (_COMMIT.match(text) and found.commit.startswith(text)):
            return _version(root, name, number, found)
    raise DatasetNotFoundError(name, str(revision), tuple(f"v{number}" for number in sorted(tagged)))


def fetch(version: DatasetVersion, settings: Settings) -> Path:
    """Return a read-only folder with a version's bytes, kept by their hash and checked on every call.

    Raises:
        DataChangedError: If somebody changed the folder since.
        ToolFailedError: If dvc cannot bring it.
    """
    folder = _cached(version, settings)
    if not folder.exists():
        with exclusive(folder.with_suffix(".lock")):
            if not folder.exists():
                _bring(version, folder, settings)
    got = repository.folder_hash(folder)
    if got != version.hash:
        raise DataChangedError(folder, version.hash, got)
    return folder


def _check(folder: Path, name: str) -> None:
    faults = []
    if not _NAME.match(name):
        faults.append(f"a dataset's name must match {_NAME.pattern}, got {name!r}")
    if not folder.is_dir() or not any(path.is_file() for path in folder.rglob("*")):
        faults.append(f"{folder} must be a folder with at least one file")
    if faults:
        raise InvalidSpecError(tuple(faults), f"dataset {name}")


def _lock(settings: Settings) -> Any:
    root = settings.data_repository
    return exclusive(root.with_name(f".{root.name}.lock"))


def _with_hash(root: Path, name: str, wanted: str) -> DatasetVersion | None:
    for number, found in sorted(repository.tagged(root, name).items(), reverse=True):
        version = _version(root, name, number, found)
        if version.hash == wanted:
            return version
    return None


def _create(root: Path, folder: Path, name: str, message: str, settings: Settings) -> DatasetVersion:
    remove(root / name)
    shutil.copytree(folder, root / name)
    repository.dvc(root, "add", "--quiet", name)
    repository.git(root, "add", f"{name}.dvc", ".gitignore")
    number = max(repository.tagged(root, name), default=0) + 1
    commit = repository.commit(root, message or f"{name} v{number}")
    if settings.data_remote:
        repository.dvc(root, "push", "--quiet", name)
    repository.tag(root, f"{name}@v{number}", commit, repository.output_at(root, name, commit))
    return _version(root, name, number, repository.tagged(root, name)[number])


def _version(root: Path, name: str, number: int, found: repository.Tagged) -> DatasetVersion:
    data = repository.output(root, name, found)
    return DatasetVersion(
        name=name,
        version=number,
        tag=f"{name}@v{number}",
        commit=found.commit,
        hash=data.hash,
        size_bytes=data.size_bytes,
        files=data.files,
        repository=repository.origin(root) or str(root),
    )


def _cached(version: DatasetVersion, settings: Settings) -> Path:
    return settings.home / "data" / version.hash.removesuffix(".dir")


def _seed(folder: Path, version: DatasetVersion, taken: str, settings: Settings) -> None:
    """Keep the bytes that were just taken, so that fetching them needs no dvc on this host."""
    target = _cached(version, settings)
    if target.exists() or taken != version.hash:
        return
    with fresh_folder(target) as draft:
        shutil.copytree(folder, draft, dirs_exist_ok=True)
        protect(draft)
        if repository.folder_hash(draft) != version.hash:
            raise DataChangedError(folder, version.hash, "other bytes, written while it was copied")


def _bring(version: DatasetVersion, folder: Path, settings: Settings) -> None:
    with fresh_folder(folder) as draft:
        root = settings.data_repository
        repository.dvc(
            root, "get", "--quiet", ".", version.name, "--rev", version.commit, "--out", draft / "data"
        )
        for path in (draft / "data").iterdir():
            path.rename(draft / path.name)
        (draft / "data").rmdir()
        protect(draft)
