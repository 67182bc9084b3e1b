"""Two functions for a notebook cell: put data in, load data by name. Each is one line over the rest of the package."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taxiway.arguments import typed
from taxiway.datasets.fetching import fetch
from taxiway.datasets.version import DatasetVersion
from taxiway.datasets.versions import get, snapshot
from taxiway.errors import InvalidSpecError
from taxiway.settings import Settings
from taxiway.tools import scratch_folder


@typed
def put(
    path: str | Path | Sequence[str | Path], name: str, *, settings: Settings | None = None, **card: Any
) -> DatasetVersion:
    """Return the dataset version that holds a folder, a file or some files; the same bytes make no new one.

    Args:
        path: A folder, a file, or a list of files.
        name: Name of the dataset.
        settings: Where everything is; None reads the environment.
        card: What is said of the data, such as `licence="cc-by-4.0"`.

    Raises:
        TaxiwayError: As `snapshot` does.
    """
    where = settings or Settings.from_environment()
    given = [Path(each) for each in ([path] if isinstance(path, str | Path) else path)]
    if len(given) == 1 and given[0].is_dir():
        return snapshot(given[0], name, where, card=card)
    names = [file.name for file in given]
    twice = sorted({name for name in names if names.count(name) > 1})
    faults = [f"two files are named {file}; put the folder that holds them" for file in twice]
    faults += [f"{file} is no file" for file in given if not file.is_file()]
    if faults:
        raise InvalidSpecError(tuple(faults), name)
    with scratch_folder(where.home / "put") as scratch:
        for file in given:
            (scratch / file.name).symlink_to(file.resolve())
        return snapshot(scratch, name, where, card=card)


@typed
def load(reference: str, *, settings: Settings | None = None) -> Path:
    """Return a read-only folder with a dataset's bytes.

    Args:
        reference: `digits@v3`, or `digits` for its newest version.
        settings: Where everything is; None reads the environment.

    Raises:
        DatasetNotFoundError: If there is no such version.
        TaxiwayError: As `fetch` does.
    """
    where = settings or Settings.from_environment()
    name, _, revision = reference.partition("@")
    return fetch(get(name, revision or "latest", where), where)
