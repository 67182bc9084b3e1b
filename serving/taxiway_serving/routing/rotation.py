"""Keeps Envoy's access logs from filling the disk. Reading them is `evidence/access_log.py`'s.

A log that has grown too long is renamed, and Envoy is told to open a new one. It writes to the old one until then, so
no line is lost; a reader finishes the old one first.
"""

import logging
from pathlib import Path
from typing import Final

import httpx

from taxiway_serving.errors import TransportError
from taxiway_serving.settings import ServingSettings

LIMIT_BYTES: Final = 64 * 1024 * 1024
KEPT: Final = 3

log = logging.getLogger(__name__)


class LogRotation:
    """Rotates the logs of one Envoy.

    Args:
        settings: Where the logs and Envoy's admin interface are.
        limit_bytes: Length from which a log is rotated, > 0.
        kept: Old logs to keep of each, >= 1: what a controller that was away for a while can still read.
    """

    def __init__(
        self, settings: ServingSettings, *, limit_bytes: int = LIMIT_BYTES, kept: int = KEPT
    ) -> None:
        is_fleet = settings.router == "ads"
        # A fleet's attempts are written by the controller, which opens the log for each of them.
        self._logs = (settings.attempt_log,) if is_fleet else (settings.attempt_log, settings.request_log)
        self._writers = () if is_fleet else settings.own_admin_urls
        self._limit_bytes, self._kept = limit_bytes, kept

    def look(self) -> None:
        """Rotate what is too long. Killed half-way, the next look ends it.

        Raises:
            TransportError: If a log cannot be renamed, or Envoy does not open new ones.
        """
        try:
            rotated = [self._rotate(path) for path in self._logs]
        except OSError as error:
            raise TransportError("access log", f"cannot be rotated: {error}") from error
        if any(rotated):
            self._reopen()

    def _rotate(self, path: Path) -> bool:
        if not path.exists():
            # Renamed by a look that was killed, or removed by somebody: Envoy still writes where nobody reads.
            return path.parent.exists()
        if path.stat().st_size <= self._limit_bytes:
            return False
        for number in range(self._kept, 0, -1):
            older = path if number == 1 else _numbered(path, number - 1)
            if older.exists():
                older.replace(_numbered(path, number))
        log.info("%s had %d bytes and is rotated", path, self._limit_bytes)
        return True

    def _reopen(self) -> None:
        """Tell every Envoy of this host; where a connection is refused, there is none."""
        answers = [self._told(url) for url in self._writers]
        if self._writers and not any(answers):
            raise TransportError("Envoy", "did not open new logs: none listens")

    @staticmethod
    def _told(url: str) -> bool:
        try:
            httpx.post(f"{url}/reopen_logs", timeout=5.0, trust_env=False).raise_for_status()
        except httpx.ConnectError:
            return False
        except httpx.HTTPError as error:
            raise TransportError("Envoy", f"did not open new logs: {error}") from error
        return True


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
