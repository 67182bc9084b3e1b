"""The admin interfaces of a fleet of Envoys: who is there, and each one's own word. Only reads."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Final, TypeVar

from taxiway_serving.errors import TransportError
from taxiway_serving.routing.admin import Admin

T = TypeVar("T")

FRESH_S: Final = 1.0
"""Seconds until it is asked again who is there."""
STALE_S: Final = 5.0
"""Seconds that it is believed who is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """Who answered.

    Attributes:
        admins: Admin interface by the name of the Envoy behind it.
        faults: Why it is not known who is there, by address or name. Where a connection is refused, nobody listens.
        at_s: When, by the monotonic clock.
    """

    admins: Mapping[str, Admin]
    faults: Mapping[str, str]
    at_s: float

    def check(self) -> None:
        """Go on only if it is known who is there.

        Raises:
            TransportError: If somebody may be there who did not answer, or several answer by one name.
        """
        if self.faults:
            raise TransportError(", ".join(self.faults), "; ".join(sorted({*self.faults.values()})))


class Fleet:
    """The Envoys behind a list of addresses, asked at the same time, so that a silent one holds nobody up for long.

    Args:
        urls: Addresses of their admin interfaces.
        token: What is shown to them.
        timeout_s: Seconds until an answer is given up.
    """

    def __init__(self, urls: Iterable[str], *, token: str = "", timeout_s: float = 2.0) -> None:
        self._admins = {url: Admin(url, timeout_s=timeout_s, token=token) for url in urls}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="presence")
        self._callers = ThreadPoolExecutor(max(4, 2 * len(self._admins)), thread_name_prefix="fleet")
        self._lock = Lock()
        self._presence: Presence | None = None
        self._looking: Future[Presence] | None = None

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown()
        self._callers.shutdown()
        for admin in self._admins.values():
            admin.close()

    def presence(self, *, fresh_s: float = STALE_S) -> Presence:
        """Return who is there, as of at most `fresh_s` seconds ago; while that is known, nobody waits."""
        with self._lock:
            if self._looking is not None and self._looking.done():
                self._presence, self._looking = self._looking.result(), None
            age_s = math.inf if self._presence is None else time.monotonic() - self._presence.at_s
            if age_s > min(fresh_s, FRESH_S) and self._looking is None:
                self._looking = self._pool.submit(self._look)
            if self._presence is None or age_s > fresh_s:
                looking = self._looking or self._pool.submit(self._look)
                self._presence = looking.result()
            return self._presence

    def ask(self, nodes: Iterable[str], question: Callable[[str, Admin], T]) -> dict[str, T]:
        """Return the answer of each of these Envoys by its name.

        Raises:
            TransportError: If one of them is not there or does not answer, or another one may be there.
        """
        presence, names = self.presence(), list(nodes)
        presence.check()
        lost = [name for name in names if name not in presence.admins]
        if lost:
            raise TransportError(", ".join(lost), "is behind no address in TAXIWAY_ENVOY_ADMIN_URLS")
        if len(names) == 1:
            return {name: question(name, presence.admins[name]) for name in names}
        asked = {name: self._callers.submit(question, name, presence.admins[name]) for name in names}
        return {name: answer.result() for name, answer in asked.items()}

    def _look(self) -> Presence:
        # Asked before it is awaited: the answer is at least as young as its time says.
        at_s = time.monotonic()
        asked = {url: self._callers.submit(admin.node) for url, admin in self._admins.items()}
        admins: dict[str, Admin] = {}
        faults: dict[str, str] = {}
        for url, answer in asked.items():
            try:
                node = answer.result()
            except TransportError as error:
                faults[url] = error.reason
                continue
            if node in admins:
                faults[node] = "several Envoys have this name; give each host a name of its own"
            elif node is not None:
                admins[node] = self._admins[url]
        return Presence(admins=admins, faults=faults, at_s=at_s)
