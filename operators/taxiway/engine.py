"""The Docker engine for the library: the serving plane's adapter, with what only runners ask of it.

What an image holds is decided in `packaging/image.py`, what a container is for in `runners/docker.py`.
"""

import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from taxiway.errors import ToolFailedError, TransportError
from taxiway.project.resources import Host
from taxiway.settings import Containers
from taxiway_serving.runtimes import engine as engines
from taxiway_serving.runtimes.containers import Container, seconds
from taxiway_serving.runtimes.engine import CONFLICT, MISSING

__all__ = ["CONFLICT", "MISSING", "Container", "Engine", "Printed", "connect", "exit_code"]

LOOK_S = 0.2


def connect(containers: Containers) -> Any:
    """Return a client of the engine that the settings name.

    Raises:
        TransportError: If it does not answer.
    """
    return engines.connect(containers.url, containers.certificates)


@dataclass(slots=True, kw_only=True)
class Printed:
    """How far a log was read, so that a stream that broke is taken up again and each line is given once.

    Attributes:
        last: When the last piece was printed, in the engine's words; "" before the first.
        part: A line that has no end yet.
    """

    last: str = ""
    part: str = ""

    @property
    def since_s(self) -> int | None:
        """The second from which there may be more, since the epoch; None for the beginning."""
        return int(seconds(self.last)) if self.last else None

    def lines(self, pieces: Iterable[str]) -> Iterator[str]:
        """Give each line that came to its end in pieces, which begin with their moments; what was read is left out."""
        after = self.last
        for piece in pieces:
            stamp, _, text = piece.partition(" ")
            if stamp > after:
                self.last, self.part = stamp, self.part + text
                if self.part.endswith("\n"):
                    yield self.part
                    self.part = ""

    def rest(self) -> Iterator[str]:
        """Give the line that never came to its end, if there is one."""
        if self.part:
            yield self.part + "\n"


class Engine(engines.Engine):
    """An engine as runners see it; see `taxiway_serving.runtimes.engine`."""

    @contextmanager
    def at_rest_after(self) -> Iterator[None]:
        """Close connections that nobody uses when the block ends."""
        try:
            yield
        finally:
            self.rest()

    def host(self) -> Host:
        """Return what the engine's host has."""
        cpus, memory_bytes = self.capacity()
        return Host(cpus=cpus, memory_mb=memory_bytes // 2**20)

    def lines(self, container: str) -> Iterator[str]:
        """Give each line that a container printed or prints, until it has ended; a broken stream is taken up again."""
        printed = Printed()
        while True:
            look = self.find(container)
            if look is None:
                raise ToolFailedError(
                    "docker logs", MISSING, f"no container {container[:12]}: it was removed"
                )
            yield from printed.lines(self._pieces(container, printed.since_s))
            if not look.is_running:
                break
            time.sleep(LOOK_S)
        yield from printed.rest()

    def _pieces(self, container: str, since_s: int | None) -> Iterator[str]:
        """Give what a container printed since a second, as long as the stream lasts: moments with pieces of lines."""
        from urllib3.exceptions import HTTPError

        try:
            with (
                self._asking("logs"),
                closing(
                    self._client.logs(container, stream=True, follow=True, timestamps=True, since=since_s)
                ) as pieces,
            ):
                for piece in pieces:
                    yield piece.decode("utf-8", "replace")
        except (TransportError, HTTPError, struct.error):
            return


def exit_code(code: int) -> int:
    """Return an exit code as processes have it, negative for a signal: a container's is 128 and the signal."""
    return 128 - code if 128 < code <= 128 + 64 else code
