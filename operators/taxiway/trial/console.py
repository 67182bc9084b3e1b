"""Prints progress: a line per event, and on a terminal a live line below them that is drawn over.

What the lines say is made in `screen`. A terminal that went away is no reason to end otherwise than in good order, so
output that cannot be written is dropped.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Iterable
from typing import TextIO

from taxiway.trial import screen

_CLEAR = "\r\x1b[K"


class Console:
    """Where the trial prints. May be used from several threads.

    Args:
        began_s: Monotonic time that elapsed seconds count from.
        out: Stream to print to.
    """

    def __init__(self, began_s: float, out: TextIO = sys.stdout) -> None:
        self._began_s, self._out = began_s, out
        self._is_terminal = out.isatty()
        self._lock = threading.Lock()
        self._live = ""

    @property
    def is_plain(self) -> bool:
        """Whether the stream takes ASCII only."""
        try:
            "█".encode(self._out.encoding or "ascii")
        except (LookupError, UnicodeEncodeError):
            return True
        return False

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def event(self, chapter: str, what: str) -> None:
        self.lines([screen.event_line(self.elapsed_s, chapter, what)])

    def lines(self, lines: Iterable[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        with self._lock:
            self._write(f"{_CLEAR if self._live else ''}{text}{self._live}")

    def live(self, shares: screen.Shares, *, rate_rps: float, requests: int, failed: int) -> None:
        """Draw the live line; nothing where the output is no terminal."""
        if not self._is_terminal:
            return
        line = screen.live_line(self.elapsed_s, shares, rate_rps=rate_rps, requests=requests, failed=failed)
        columns = shutil.get_terminal_size().columns
        with self._lock:
            self._live = line[: columns - 1]
            self._write(f"{_CLEAR}{self._live}")

    def end_live(self) -> None:
        with self._lock:
            if self._live:
                self._write(_CLEAR)
            self._live = ""

    def _write(self, text: str) -> None:
        try:
            self._out.write(text if not self.is_plain else text.encode("ascii", "replace").decode())
            self._out.flush()
        except (OSError, ValueError):
            self._is_terminal = False
