"""A request to end a job that runs, made from another thread. What ending means is each runner's own business."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stop:
    """A request that is made at most once, and reaches whoever listens then or later; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: list[Callable[[], None]] = []
        self._is_requested = False
        self._reason = ""

    @property
    def is_requested(self) -> bool:
        """Whether somebody asked."""
        return self._is_requested

    @property
    def reason(self) -> str:
        """Why the first who asked did so; "" while nobody has."""
        return self._reason

    def request(self, reason: str = "") -> None:
        """Ask for the end; every listener is called in this thread before this returns."""
        with self._lock:
            if not self._is_requested:
                self._is_requested, self._reason = True, reason
            ends, self._ends = self._ends, []
            for end in ends:
                end()

    @contextmanager
    def calling(self, end: Callable[[], None]) -> Iterator[None]:
        """Call `end` once when the end is asked for while the block lasts, or was before; never after the block.

        Args:
            end: Begins to end the job, without waiting long; it may be called from any thread.
        """
        with self._lock:
            if self._is_requested:
                end()
            else:
                self._ends.append(end)
        try:
            yield
        finally:
            with self._lock:
                self._ends = [each for each in self._ends if each is not end]
