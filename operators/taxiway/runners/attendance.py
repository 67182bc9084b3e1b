"""Which containers somebody attends to: a lock for each on this host, freed by the kernel when its holder dies.

What nobody attends to is an orphan, whose age counts from when it was first seen alone.
"""

import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from taxiway.tools import exclusive, write_atomically

Found = TypeVar("Found")


class Attendance:
    """The attended containers of one home folder.

    Args:
        folder: Where the locks are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def owner(self) -> str:
        """Return what tells this home from any other whose containers are on the same engine."""
        path = self._folder / "owner"
        with exclusive(path.with_suffix(".lock")):
            if not path.exists():
                write_atomically(path, uuid.uuid4().hex)
            return path.read_text(encoding="utf-8")

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Attend to a container; who does so already is waited for."""
        with exclusive(self._lock(name)):
            self._mark(name).unlink(missing_ok=True)
            yield

    @contextlib.contextmanager
    def if_alone(self, name: str) -> Iterator[float | None]:
        """Give since how many seconds nobody has attended to a container, and keep others from it; None if one does."""
        path = self._lock(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            yield self._alone_s(name) if _is_taken(descriptor) else None
        finally:
            os.close(descriptor)

    def reap(
        self, found: Mapping[str, Found], older_than_s: float, end: Callable[[Found], object]
    ) -> tuple[str, ...]:
        """End what nobody has attended to for so long, and return its names; what is seen alone at first is marked.

        Args:
            found: What there is, by its name.
            older_than_s: Seconds that it is left to a retry.
            end: Ends one of them.
        """
        gone = []
        for name, each in found.items():
            with self.if_alone(name) as alone_s:
                if alone_s is not None and alone_s >= older_than_s:
                    end(each)
                    self.forget(name)
                    gone.append(name)
        return tuple(gone)

    def forget(self, name: str) -> None:
        """Forget when an orphan was first seen: it is gone."""
        self._mark(name).unlink(missing_ok=True)

    def _alone_s(self, name: str) -> float:
        mark = self._mark(name)
        if not mark.exists():
            mark.touch()
        return max(0.0, time.time() - mark.stat().st_mtime)

    def _lock(self, name: str) -> Path:
        return self._folder / f"{name}.lock"

    def _mark(self, name: str) -> Path:
        return self._folder / f"{name}.alone"


def _is_taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
