"""What the file system says of files, so that what was hashed once is not read again while nobody wrote to it.

Which files are hashed, and how, is the caller's.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from taxiway.tools import write_atomically

# A write within one tick of the clock that stamps files may leave the stamps as they were.
TICK_NS = 20_000_000


def stamp_of(path: str | Path) -> list[int]:
    """Return what the file system changes whenever somebody writes; nobody can set the last of them by hand."""
    seen = os.stat(path)  # noqa: PTH116 - text is quicker than a path, ten thousand times
    return [seen.st_size, seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns]


def is_settled(stamp: list[int], at_ns: int) -> bool:
    """Tell whether a file was so old at a time that a later write must show in its stamp."""
    return stamp[-1] < at_ns - TICK_NS


def hash_of(folder: Path, names: Iterable[str], memory: Path, compute: Callable[[], str]) -> str:
    """Return what `compute` says of files, without asking it where nobody wrote to them since it last was asked.

    Args:
        folder: Where the files are.
        names: The files, relative; another set of them is hashed anew.
        memory: A file of JSON beside the folder; one that is torn or gone costs a hash.
        compute: Reads the files and returns their hash.
    """
    began_ns = time.time_ns()
    stamps = {name: stamp_of(folder / name) for name in names}
    known = remembered(memory)
    if stamps and known.get("stamps") == stamps:
        return str(known["hash"])
    found = compute()
    if all(is_settled(stamp, began_ns) for stamp in stamps.values()):
        write_atomically(memory, json.dumps({"hash": found, "stamps": stamps}))
    return found


def remembered(memory: Path) -> Mapping[str, Any]:
    """Return what was kept in a file; nothing where it is gone or torn."""
    try:
        return dict(json.loads(memory.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return {}
