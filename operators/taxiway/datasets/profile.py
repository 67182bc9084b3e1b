"""What is in a dataset version: schema and statistics of its tables, count and size of its images; in bounded time.

A profile is JSON values, kept with the version's facts. It never stands in a snapshot's way: a file that cannot be read
is named, not raised. How a table is read is in `tables.py`, how two profiles differ in `drift.py`.
"""

import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from taxiway.datasets.images import IMAGES, size_of
from taxiway.datasets.tables import reader_of

MOST_TABLES, MOST_IMAGES, BUDGET_S = 50, 200, 20.0


def profile_of(
    paths: Mapping[str, Path],
    known: Mapping[str, Any] | None = None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Return the profile of a dataset version.

    Args:
        paths: Its files that are here, by their relative path.
        known: Profile of the version that these files were added to.
        clock: Seconds; no file is begun `BUDGET_S` after the first.

    Returns:
        `tables` by file, `images`, `unreadable` with the reason, `unread` (how many tables nobody looked at, for their
        number or for the time), `others` (how many files of each other suffix).
    """
    tables = {name: path for name, path in paths.items() if reader_of(path)}
    images = {name: path for name, path in paths.items() if path.suffix.lower() in IMAGES}
    rest = (path.suffix.lower() or "none" for name, path in paths.items() if name not in tables | images)
    found, unreadable = _tables(tables, clock)
    profile = {
        "tables": found,
        "unreadable": unreadable,
        "unread": len(tables) - len(found) - len(unreadable),
        "images": _images(images) if images else {},
        "others": dict(sorted(Counter(rest).items())),
    }
    return _joined(known, profile, paths) if known else profile


def without_values(profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return a profile without any value of a text column, for data that say something of people."""
    tables = {
        name: {**table, "columns": {column: _hidden(said) for column, said in table["columns"].items()}}
        for name, table in profile["tables"].items()
    }
    return {**profile, "tables": tables}


def _hidden(column: Mapping[str, Any]) -> dict[str, Any]:
    return {key: said for key, said in column.items() if key != "values" or "quantiles" in column}


def columns_in(profile: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of all columns of a profile's tables, sorted."""
    tables = profile.get("tables", {}).values()
    return tuple(sorted({column for table in tables for column in table["columns"] if column}))


def schema_of(profile: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the types that each column of a profile's tables has, and the formats of its images."""
    found: dict[str, set[str]] = {}
    for table in profile.get("tables", {}).values():
        for column, said in table["columns"].items():
            found.setdefault(f"column {column}", set()).add(said["type"])
    if formats := profile.get("images", {}).get("formats"):
        found["images"] = set(formats)
    return {name: sorted(kinds) for name, kinds in sorted(found.items())}


def _tables(paths: Mapping[str, Path], clock: Callable[[], float]) -> tuple[dict[str, Any], dict[str, str]]:
    found: dict[str, Any] = {}
    unreadable: dict[str, str] = {}
    end = clock() + BUDGET_S
    for name, path in list(paths.items())[:MOST_TABLES]:
        if clock() > end:
            break
        try:
            found[name] = _read(path)
        # What the readers raise for a broken file: Arrow's errors are ValueErrors, but for a feature that it lacks.
        except (ValueError, OSError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile) as broken:
            unreadable[name] = str(broken).splitlines()[0][:200] if str(broken) else type(broken).__name__
    return found, unreadable


def _read(path: Path) -> dict[str, Any]:
    reader = reader_of(path)
    assert reader is not None  # noqa: S101 - only tables come here
    return reader(path).to_json()


def _images(paths: Mapping[str, Path]) -> dict[str, Any]:
    step = max(1, -(-len(paths) // MOST_IMAGES))
    sizes = [size for path in list(paths.values())[::step] if (size := size_of(path))]
    said: dict[str, Any] = {"count": len(paths), "bytes": sum(path.stat().st_size for path in paths.values())}
    said["formats"] = dict(sorted(Counter(path.suffix.lower() for path in paths.values()).items()))
    said["looked_at"] = len(sizes)
    if sizes:
        said |= {
            "width": _range(width for width, _ in sizes),
            "height": _range(height for _, height in sizes),
        }
    return said


def _range(values: Any) -> list[int]:
    found = list(values)
    return [min(found), max(found)]


def _joined(known: Mapping[str, Any], new: dict[str, Any], paths: Mapping[str, Path]) -> dict[str, Any]:
    """Return the profile of a version with files added to it."""
    kept = {name: table for name, table in known.get("tables", {}).items() if name not in paths}
    others = Counter(known.get("others", {})) + Counter(new["others"])
    images = [part for part in (known.get("images"), new["images"]) if part]
    return {
        "tables": dict(sorted({**kept, **new["tables"]}.items())),
        "unreadable": {**known.get("unreadable", {}), **new["unreadable"]},
        "unread": known.get("unread", 0) + new["unread"],
        "images": _added(images) if images else {},
        "others": dict(sorted(others.items())),
    }


def _added(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
    said: dict[str, Any] = {key: sum(part[key] for part in parts) for key in ("count", "bytes", "looked_at")}
    said["formats"] = dict(sum((Counter(part["formats"]) for part in parts), Counter[str]()))
    for side in ("width", "height"):
        ends = [end for part in parts for end in part.get(side, ())]
        said |= {side: [min(ends), max(ends)]} if ends else {}
    return said
