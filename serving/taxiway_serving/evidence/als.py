"""Attempts that Envoys tell over gRPC (access log service): written down as Envoy's own log has them, and counted.

The lines outlive the controller; `access_log.py` reads them like those of one host. An Envoy gives up what it cannot
deliver, so what it says it has logged is compared with what came: what is missing is unknown, never zero.
"""

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Final

from taxiway_serving.errors import TransportError
from taxiway_serving.evidence.access_log import AttemptLog
from taxiway_serving.evidence.source import Batch
from taxiway_serving.wire import fields_of

METHOD: Final = "envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"

_REMEMBERED: Final = 20_000
_LOOK_S: Final = 0.2
_LOST_S: Final = 2.0
"""Seconds after which an attempt that has not come will not come: Envoys send every 0.1 s."""

# Numbers of the fields of StreamAccessLogsMessage and of what it holds.
_IDENTIFIER, _HTTP_LOGS, _NODE, _ID, _ENTRY, _COMMON, _TAGS, _KEY, _VALUE = 1, 2, 1, 1, 1, 1, 22, 1, 2

_NUMBERS: Final = ("status", "duration_ms", "answer_us")
_FIELDS: Final = (
    "at_s",
    "handle",
    "request_id",
    "user",
    "uid",
    "via",
    "cluster",
    "version",
    "status",
    "flags",
    "duration_ms",
    "answer_us",
    "number",
    "contract",
)
_MAY_BE_DASH: Final = ("request_id", "user", "uid", "flags")
"""What a client may have written so, and what Envoy writes so; in any other field it says that there is nothing."""


@dataclass(slots=True, kw_only=True)
class _Account:
    """What one Envoy has logged, and what of it came.

    Attributes:
        received: Attempts that came.
        before: Attempts that it logged before anybody counted; None until it was asked.
        logged: How many it had logged at the last look.
        missing: How many of those had not come.
        since_s: Since when, by the clock.
    """

    received: int = 0
    before: int | None = 0
    logged: int = 0
    missing: int = 0
    since_s: float = 0.0


class AttemptReceiver:
    """Takes attempts from all Envoys, and writes each down once.

    Args:
        path: The log that they are appended to.
        clock: Seconds, monotonic.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock, self._lock = path, clock, Lock()
        self._accounts: dict[str, _Account] = {}
        self._recent: deque[bytes] = deque()
        self._known: set[bytes] = set()

    def open(self) -> None:
        """Make the log where there is none: from now on, nothing in it means that nothing happened."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()

    async def receive(self, requests: AsyncIterator[bytes], _context: object) -> bytes:
        """Write down what one Envoy tells until it or the controller goes."""
        node = ""
        async for content in requests:
            named, rows = attempts_told(content)
            node = node or named
            self.take(node, rows)
        return b""

    def take(self, node: str, rows: list[dict[str, Any]]) -> None:
        """Write attempts down, durably, but none twice.

        Args:
            node: Name of the Envoy that tells them.
            rows: Them.
        """
        with self._lock:
            lines = [json.dumps(row).encode() + b"\n" for row in rows]
            self._append(b"".join(line for line in lines if self._is_new(node, line)))
            self._accounts.setdefault(node, _Account()).received += len(rows)

    def joined(self, node: str, had_before: bool) -> None:
        """Note that an Envoy has connected.

        Args:
            node: Its name.
            had_before: Whether it served before: what it told meanwhile went nowhere, and nobody knows how much.
        """
        with self._lock:
            old = self._accounts.get(node)
            if had_before or old is not None:
                self._append(_gap(node))
            received = old.received if old is not None and had_before else 0
            self._accounts[node] = _Account(received=received, before=None if had_before else 0)

    def left(self, node: str) -> None:
        """Note that an Envoy is gone, or nobody hears it: what it had not told yet went with it, if there was any."""
        with self._lock:
            self._append(_gap(node))

    def is_whole(self, logged: Mapping[str, int]) -> bool:
        """Tell whether everything has come that Envoys had logged at the look before this one.

        Args:
            logged: How many attempts each Envoy has logged since it started.
        """
        with self._lock:
            counts = {node: self._counts(node, number) for node, number in logged.items()}
            return all(counts.values())

    def _counts(self, node: str, logged: int) -> bool:
        account, now_s = self._accounts.setdefault(node, _Account()), self._clock()
        if account.before is None or logged < account.logged:
            account.before, account.logged, account.missing = logged - account.received, logged, 0
            return False
        missing = max(0, account.logged - account.before - account.received)
        if missing != account.missing:
            account.since_s = now_s
        account.missing, account.logged = missing, logged
        if missing and now_s - account.since_s >= _LOST_S:
            # It has been told often enough that they are gone.
            account.before, account.missing = account.before + missing, 0
        return missing == 0

    def _is_new(self, node: str, line: bytes) -> bool:
        key = hashlib.blake2b(node.encode() + line, digest_size=16).digest()
        if key in self._known:
            return False
        self._known.add(key)
        self._recent.append(key)
        if len(self._recent) > _REMEMBERED:
            self._known.discard(self._recent.popleft())
        return True

    def _append(self, content: bytes) -> None:
        """Write whole lines in one go. The log may have been rotated away meanwhile: it is opened anew each time."""
        if not content:
            return
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            # A disk that is nearly full takes a part: what is not written was not received.
            while content:
                content = content[os.write(handle, content) :]
            os.fdatasync(handle)
        finally:
            os.close(handle)


class FleetAttempts:
    """The attempts of a fleet. A `Source`.

    Args:
        log: Where they are written down.
        receiver: Who writes them down.
        logged: Tells how many attempts each Envoy has logged; raises TransportError where one cannot be asked.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        log: AttemptLog,
        receiver: AttemptReceiver,
        logged: Callable[[], Mapping[str, int]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._receiver, self._logged, self._clock = log, receiver, logged, clock
        self._looked_at_s, self._is_whole = float("-inf"), False

    def end(self) -> str:
        """Return the cursor behind everything that is there now. See `Source.end`."""
        return self._log.end()

    def read(self, cursor: str) -> Batch:
        """Return the attempts after a cursor; incomplete while an Envoy's are missing. See `Source.read`."""
        is_whole = self._look()
        batch = self._log.read(cursor)
        return replace(batch, is_complete=batch.is_complete and is_whole)

    def _look(self) -> bool:
        if self._clock() - self._looked_at_s >= _LOOK_S:
            self._looked_at_s = self._clock()
            try:
                self._is_whole = self._receiver.is_whole(self._logged())
            except TransportError:
                # What cannot be asked may be missing attempts: evidence is incomplete until it can.
                self._is_whole = False
        return self._is_whole


def _gap(node: str) -> bytes:
    """Return the line behind which attempts may be missing; it is none itself, so evidence is unknown there."""
    return json.dumps({"gap": node}).encode() + b"\n"


def attempts_told(content: bytes) -> tuple[str, list[dict[str, Any]]]:
    """Return who tells, if it says so, and the rows of the attempts of one message.

    Raises:
        ValueError: If it is no such message.
    """
    node, rows = "", []
    for number, value in fields_of(content):
        if number == _IDENTIFIER:
            node = _first(_first(value, _NODE), _ID).decode()
        elif number == _HTTP_LOGS:
            rows += [_row(entry) for field, entry in fields_of(value) if field == _ENTRY]
    return node, rows


def _row(entry: bytes) -> dict[str, Any]:
    tags = {}
    for number, value in fields_of(_first(entry, _COMMON)):
        if number == _TAGS:
            tags[_first(value, _KEY).decode()] = _first(value, _VALUE).decode(errors="replace")
    return {name: _cell(name, tags.get(name)) for name in _FIELDS}


def _cell(name: str, text: str | None) -> object:
    if text is None or (text in ("", "-") and name not in _MAY_BE_DASH):
        return None
    return int(text) if name in _NUMBERS else text


def _first(message: bytes, wanted: int) -> bytes:
    return next((value for number, value in fields_of(message) if number == wanted), b"")
