"""Finds dataset versions by their tags in this clone of the data repository. Nothing is made here."""

import re
from pathlib import Path

from taxiway.arguments import typed
from taxiway.datasets import repository
from taxiway.datasets.version import DatasetVersion
from taxiway.errors import DatasetNotFoundError
from taxiway.settings import Settings

_COMMIT = re.compile(r"^[0-9a-f]{7,40}$")


@typed
def get(name: str, revision: int | str, settings: Settings) -> DatasetVersion:
    """Return a version of a dataset.

    Args:
        name: Name of the dataset.
        revision: `latest`, a number as `3` or `v3`, a tag as `digits@v3`, or a Git commit of a version. `latest`, and
            what this clone does not know, is asked of the data repository's origin first.
        settings: Which data repository.

    Raises:
        DatasetNotFoundError: If there is no such version; the known ones are in the message.
        ToolFailedError: If the origin does not answer.
    """
    root, text = settings.data_repository, str(revision).strip().removeprefix(f"{name}@").removeprefix("v")
    if not (root / ".git").exists():
        raise DatasetNotFoundError(name, str(revision), ())
    found = _find(root, name, text)
    if (found is None or text == "latest") and repository.origin(root) is not None:
        repository.catch_up(settings)
        found = _find(root, name, text)
    if found is None:
        known = tuple(f"v{number}" for number in sorted(repository.tagged(root, name)))
        raise DatasetNotFoundError(name, str(revision), known)
    return found


@typed
def history(name: str, settings: Settings) -> tuple[DatasetVersion, ...]:
    """Return every version of a dataset that this clone knows, the newest first."""
    root = settings.data_repository
    return tuple(versions_of(root, name)) if (root / ".git").exists() else ()


def versions_of(root: Path, name: str) -> list[DatasetVersion]:
    """Return every version of a dataset, the newest first."""
    tagged = sorted(repository.tagged(root, name).items(), reverse=True)
    place = repository.place(root)
    return [_version(root, place, name, number, found) for number, found in tagged]


def versions_by_hash(root: Path) -> dict[str, list[DatasetVersion]]:
    """Return the versions of all datasets by the hash of their bytes, by name and number."""
    place, tagged = repository.place(root), repository.all_tagged(root)
    named = {
        f"{name}@v{number}": (name, number, versions[number])
        for name, versions in sorted(tagged.items())
        for number in sorted(versions)
    }
    data = repository.outputs(root, {tag: found for tag, (_, _, found) in named.items()})
    versions: dict[str, list[DatasetVersion]] = {}
    for tag, output in data.items():
        name, number, found = named[tag]
        versions.setdefault(output.hash, []).append(_of_output(place, name, number, found.commit, output))
    return versions


def latest_of_all(root: Path) -> list[DatasetVersion]:
    """Return the newest version of every dataset, by name."""
    place = repository.place(root)
    newest = ((name, max(versions.items())) for name, versions in sorted(repository.all_tagged(root).items()))
    return [_version(root, place, name, number, found) for name, (number, found) in newest]


def version_of(root: Path, name: str, number: int, found: repository.Tagged) -> DatasetVersion:
    """Return a version by what its tag says."""
    return _version(root, repository.place(root), name, number, found)


def _version(root: Path, place: str, name: str, number: int, found: repository.Tagged) -> DatasetVersion:
    return _of_output(place, name, number, found.commit, repository.output(root, name, found))


def _of_output(place: str, name: str, number: int, commit: str, data: repository.Output) -> DatasetVersion:
    return DatasetVersion(
        name=name,
        version=number,
        tag=f"{name}@v{number}",
        commit=commit,
        hash=data.hash,
        size_bytes=data.size_bytes,
        files=data.files,
        repository=place,
    )


def _find(root: Path, name: str, text: str) -> DatasetVersion | None:
    tagged = repository.tagged(root, name)
    if text == "latest" and tagged:
        return version_of(root, name, max(tagged), tagged[max(tagged)])
    for number, found in sorted(tagged.items(), reverse=True):
        if text == str(number) or (_COMMIT.match(text) and found.commit.startswith(text)):
            return version_of(root, name, number, found)
    return None
