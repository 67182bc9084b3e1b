"""The Docker engine for the library: the serving plane's adapter, with what only runners ask of it.

What an image holds is decided in `packaging/image.py`, what a container is for in `runners/docker.py`.
"""

import struct
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import Any

from taxiway.errors import ToolFailedError, TransportError
from taxiway.project.resources import Host
from taxiway.settings import Containers
from taxiway_serving.runtimes import engine as engines
from taxiway_serving.runtimes.engine import CONFLICT, MISSING, Container

__all__ = ["CONFLICT", "MISSING", "Container", "Engine", "connect"]

LOOK_S = 0.2
_STAMP_LENGTH = len("2026-05-01T12:00:00")


def connect(containers: Containers) -> Any:
    """Return a client of the engine that the settings name.

    Raises:
        TransportError: If it does not answer.
    """
    return engines.connect(containers.url, containers.certificates)


class Engine(engines.Engine):
    """An engine as runners see it; see `taxiway_serving.runtimes.engine`."""

    def host(self) -> Host:
        """Return what the engine's host has."""
        cpus, memory_bytes = self.capacity()
        return Host(cpus=cpus, memory_mb=memory_bytes // 2**20)

    def lines(self, container: str) -> Iterator[str]:
        """Give each line that a container printed or prints, until it has ended; a broken stream is taken up again."""
        last, part = "", ""
        while True:
            look = self.find(container)
            if look is None:
                raise ToolFailedError(
                    "docker logs", MISSING, f"no container {container[:12]}: it was removed"
                )
            for stamp, text in self._entries(container, last):
                last, part = stamp, part + text
                if part.endswith("\n"):
                    yield part
                    part = ""
            if not look.is_running:
                break
            time.sleep(LOOK_S)
        if part:
            yield part + "\n"

    def _entries(self, container: str, after: str) -> Iterator[tuple[str, str]]:
        """Give what a container printed after a moment, as long as the stream lasts: moments and pieces of lines."""
        from urllib3.exceptions import HTTPError

        since = _second(after) if after else None
        try:
            with (
                self._asking("logs"),
                closing(
                    self._client.logs(container, stream=True, follow=True, timestamps=True, since=since)
                ) as pieces,
            ):
                for piece in pieces:
                    stamp, _, text = piece.decode("utf-8", "replace").partition(" ")
                    if stamp > after:
                        yield stamp, text
        except (TransportError, HTTPError, struct.error):
            return


def _second(stamp: str) -> int:
    """Return the second of an engine's time stamp, which is in UTC."""
    return int(datetime.fromisoformat(f"{stamp[:_STAMP_LENGTH]}+00:00").timestamp())
