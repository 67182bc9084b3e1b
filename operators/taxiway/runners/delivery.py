"""How a job's inputs come into its container: as folders of this host, or sent to the engine. Nothing is started here.

Where a component sees them is decided here as well: the same paths, however they came.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxiway.archive import READ_ONLY, Entry
from taxiway.packaging.image import OUTPUT_DIR, SOURCE_DIR, USER
from taxiway.runners import witness
from taxiway.runners.runner import Inputs

ROOT = "/taxiway"
SECRETS_DIR, PROOF_DIR = f"{ROOT}/secrets", f"{ROOT}/proof"
READY_NAME = ".ready"
SECRET_MODE = 0o400
SECRETS_BYTES = 4 * 2**20
# A volume of the engine that is memory: it never touches a disk, and is gone when the container has ended.
_MEMORY = {"type": "tmpfs", "device": "tmpfs", "o": f"size={SECRETS_BYTES},mode=0755"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """One folder that a component reads.

    Attributes:
        kind: For lineage: dataset, model or source models.
        path: On this host.
        target: In the container.
        files: How many files.
        is_whole: Whether another user can read all of it, and no link in it leads away: then it can be mounted.
    """

    kind: str
    path: Path
    target: str
    files: int
    is_whole: bool


def seen(inputs: Inputs) -> Inputs:
    """Return the inputs under the paths that the component sees."""
    return Inputs(
        data_dir=Path(f"{ROOT}/data") if inputs.data_dir else None,
        model_dir=Path(f"{ROOT}/model") if inputs.model_dir else None,
        source_models_dir=Path(f"{ROOT}/source_models") if inputs.source_models_dir else None,
        secrets_dir=Path(SECRETS_DIR) if inputs.secrets_dir else None,
    )


def folders(inputs: Inputs) -> tuple[Folder, ...]:
    """Return every folder that must come in, secrets aside; each source model is one, for they lie behind links."""
    found = []
    if inputs.data_dir:
        found.append(_folder("dataset", inputs.data_dir, f"{ROOT}/data"))
    if inputs.model_dir:
        found.append(_folder("model", inputs.model_dir, f"{ROOT}/model"))
    sources = sorted(inputs.source_models_dir.iterdir()) if inputs.source_models_dir else []
    found += [_folder("source models", path, f"{ROOT}/source_models/{path.name}") for path in sources]
    return tuple(found)


def secrets_of(given: Inputs) -> Path | None:
    """Return the folder of the secret files; None where there is none."""
    return given.secrets_dir if given.secrets_dir and given.secrets_dir.is_dir() else None


def read_counts(given: tuple[Folder, ...]) -> dict[str, int]:
    """Return how many files of each kind came in."""
    counts: dict[str, int] = {}
    for folder in given:
        counts[folder.kind] = counts.get(folder.kind, 0) + folder.files
    return counts


def mounts(given: tuple[Folder, ...], *, mounted: bool, has_secrets: bool) -> list[dict[str, Any]]:
    """Return the mounts of a container, as the engine's API has them.

    Args:
        given: What comes in.
        mounted: Whether folders of this host are mounted where they can be.
        has_secrets: Whether there are secrets.
    """
    found = [_volume(target) for target in (SOURCE_DIR, OUTPUT_DIR, "/tmp")]  # noqa: S108 - the container's own
    for folder in given:
        is_mounted = mounted and folder.is_whole
        found.append(bind(folder.path, folder.target) if is_mounted else _volume(folder.target))
    if has_secrets:
        found.append(
            {**_volume(SECRETS_DIR), "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": _MEMORY}}}
        )
    return found


def entries(given: tuple[Folder, ...], *, mounted: bool) -> dict[str, Entry]:
    """Return what is sent into each folder of a container before it starts: whatever is not mounted."""
    return {
        folder.target: Entry(name=".", path=folder.path.resolve(), mode=READ_ONLY)
        for folder in given
        if not (mounted and folder.is_whole)
    }


def secrets(folder: Path) -> Iterator[Entry]:
    """Yield a folder's files as entries that the component alone may read; the last one says that all are there."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            yield Entry(name=name, content=path.read_bytes(), owner=USER, mode=SECRET_MODE)
    yield Entry(name=READY_NAME, content=b"", owner=USER, mode=SECRET_MODE)


def witnessed(words: list[str]) -> list[str]:
    """Return a command whose exit code tells an end of its own from one that was asked for from outside."""
    return ["python", "-I", "-S", "-c", Path(witness.__file__).read_text(encoding="utf-8"), *words]


def awaiting_secrets(words: list[str]) -> list[str]:
    """Return a command that begins when the secrets have come: memory can be written only while it is mounted."""
    wait = 'until [ -e "$0" ]; do sleep 0.05; done; exec "$@"'
    return ["/bin/sh", "-c", wait, f"{SECRETS_DIR}/{READY_NAME}", *words]


def _folder(kind: str, path: Path, target: str) -> Folder:
    files, is_whole = _look(path.resolve())
    return Folder(kind=kind, path=path, target=target, files=files, is_whole=is_whole)


def _look(root: Path) -> tuple[int, bool]:
    """Return how many files a folder has, and whether a container's user can read it as it lies there."""
    files, is_whole = 0, _is_open(root.stat(), is_folder=True)
    for parent, folders_, names in os.walk(root):
        for name in names + folders_:
            found = os.lstat(os.path.join(parent, name))  # noqa: PTH118 - thousands of files
            is_whole = is_whole and _is_open(found, is_folder=name in folders_)
        files += len(names)
    return files, is_whole


def _is_open(found: os.stat_result, *, is_folder: bool) -> bool:
    needed = 0o005 if is_folder else 0o004
    return not stat.S_ISLNK(found.st_mode) and found.st_mode & needed == needed


def bind(folder: Path, target: str) -> dict[str, Any]:
    """Return the mount of a folder of the engine's host, read-only."""
    return {"Type": "bind", "Source": str(folder.resolve()), "Target": target, "ReadOnly": True}


def _volume(target: str) -> dict[str, Any]:
    return {"Type": "volume", "Target": target}


def environment(values: Mapping[str, str]) -> list[str]:
    """Return variables as the engine's API has them."""
    return [f"{name}={value}" for name, value in sorted(values.items())]
