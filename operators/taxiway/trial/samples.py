"""Digits as image files, for the trial's traffic."""

from __future__ import annotations

import shutil
from pathlib import Path

_COUNT = 200


def keep_samples(data: Path, samples: Path) -> None:
    """Copy digits that no version was trained on out of the transform's data.

    Args:
        data: Folder with `test/<label>/<row>.png`.
        samples: Folder that gets `<label>-<row>.png`; it outlives every cache.
    """
    by_row = sorted(data.glob("test/*/*.png"), key=lambda path: (path.stem, path.parent.name))
    for path in by_row[:_COUNT]:
        shutil.copyfile(path, samples / f"{path.parent.name}-{path.name}")


def read_images(*folders: Path) -> tuple[bytes, ...]:
    """Return the images of the first folder that has any."""
    found = (sorted(folder.glob("*.png")) for folder in folders)
    return tuple(path.read_bytes() for path in next(filter(None, found)))
