"""The benchmarks' clients: users who send at a constant rate, in a process of their own, and a record of every request.

`python -m benchmarks.load` is that process; `Load` starts it, and reads what it wrote. It speaks plain HTTP/1.1 over
asyncio, since a generator that is busy measures itself: 0.1 ms of CPU for a request where aiohttp takes 1 ms. The load
is open, each request leaves at its own time; nothing is sent twice. What the figures mean is said elsewhere.
"""

import argparse
import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from taxiway_serving.names import HEADER_REQUEST_ID, HEADER_USER_ID, HEADER_VERSION

TIMEOUT_S = 10.0
MOST_IN_FLIGHT = 2_000
_STRIDE = 7_919  # a prime: users come in turn, but not in the order of their numbers
_HEAD_END = b"\r\n\r\n"
_LAST_CHUNK, _CHUNKED = b"0\r\n\r\n", b"transfer-encoding: chunked"
_LENGTH = re.compile(rb"content-length: (\d+)")
_VERSION = re.compile(HEADER_VERSION.encode() + rb": (\d+)")
_ATTEMPTS = re.compile(rb"x-envoy-attempt-count: (\d+)")
_REQUEST_ID = re.compile(HEADER_REQUEST_ID.encode() + rb": ([0-9a-f-]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One request and what became of it. Times are seconds since the epoch.

    Attributes:
        status: Of HTTP; 0 if there was no answer.
        version: That answered; 0 if none did.
        attempts: That the gateway made for it.
        request_id: As the gateway's logs have it.
        reason: Why there was no answer.
    """

    sent_s: float
    done_s: float
    status: int
    version: int
    attempts: int
    request_id: str
    reason: str = ""

    @property
    def has_failed(self) -> bool:
        """Whether the client got anything but a 2xx."""
        return not 200 <= self.status < 300


class Load:
    """A running generator. Made by `load`."""

    def __init__(self, process: subprocess.Popen[bytes], record: Path) -> None:
        self._process, self._record = process, record

    def sent(self) -> list[Sent]:
        """Return every request that has ended so far, in the order of their ends."""
        text = self._record.read_text() if self._record.exists() else ""
        return [_parsed(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def stop(self) -> None:
        """Send no more, and wait for the answers that are on their way. May be called again."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(TIMEOUT_S + 50.0)


@contextmanager
def load(url: str, *, rate_rps: float, record: Path, users: int = 100_000) -> Iterator[Load]:
    """Send requests while the context lasts.

    Args:
        url: Address of the endpoint, `http://127.0.0.1:8580/digits`.
        rate_rps: Requests per second, above 0.
        record: File to write a line for each request to.
        users: How many users the requests come from, in turn.
    """
    command = [sys.executable, "-m", "benchmarks.load", url, str(rate_rps), str(users), str(record)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    running = Load(process, record)
    try:
        yield running
    finally:
        running.stop()


class Connection(asyncio.Protocol):
    """One connection to the gateway; it carries one request at a time."""

    def __init__(self, generator: "Generator") -> None:
        self._generator, self._buffer = generator, b""
        self._transport: asyncio.Transport | None = None
        self.sent_s = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send(self, request: bytes) -> None:
        self.sent_s, self._buffer = time.time(), b""
        if self._transport is not None:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return
        head = self._buffer[:end]
        body = self._buffer[end + len(_HEAD_END) :]
        is_whole = body.endswith(_LAST_CHUNK) if _CHUNKED in head else len(body) >= _number(_LENGTH, head)
        if not is_whole:
            return
        sent_s, self.sent_s = self.sent_s, 0.0
        found = _REQUEST_ID.search(head)
        answer = Sent(
            sent_s=sent_s,
            done_s=time.time(),
            status=int(head[9:12]),
            version=_number(_VERSION, head),
            attempts=_number(_ATTEMPTS, head),
            request_id=found[1].decode() if found else "",
        )
        self._generator.ended(self, answer)

    def connection_lost(self, error: Exception | None) -> None:
        if self.sent_s:
            self._generator.failed(self.sent_s, f"connection lost: {error or 'closed by the gateway'}")
            self.sent_s = 0.0
        self._generator.lost(self)

    def give_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Generator:
    """Sends at a constant rate until it is stopped."""

    def __init__(self, url: str, *, rate_rps: float, users: int, record: TextIO) -> None:
        address, _, self._path = url.removeprefix("http://").partition("/")
        self._host, _, port = address.partition(":")
        self._port, self._rate_rps, self._users, self._record = int(port), rate_rps, users, record
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()

    async def run(self, stopped: asyncio.Event) -> None:
        began_s, sent = time.monotonic(), 0
        while not stopped.is_set():
            due = int((time.monotonic() - began_s) * self._rate_rps)
            while sent <= due:
                self._send(sent)
                sent += 1
            self._look_after()
            await asyncio.sleep(max(0.0, began_s + sent / self._rate_rps - time.monotonic()))
        deadline_s = time.monotonic() + TIMEOUT_S
        while self._in_flight and time.monotonic() < deadline_s:
            self._look_after()
            await asyncio.sleep(0.02)

    def ended(self, connection: Connection, answer: Sent) -> None:
        self._write(answer)
        self._idle.append(connection)

    def failed(self, sent_s: float, reason: str) -> None:
        self._write(
            Sent(
                sent_s=sent_s,
                done_s=time.time(),
                status=0,
                version=0,
                attempts=0,
                request_id="",
                reason=reason.replace("\t", " ").replace("\n", " "),
            )
        )

    def lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    @property
    def _in_flight(self) -> int:
        return len(self._all) - len(self._idle) + len(self._opening)

    def _send(self, number: int) -> None:
        request = self._request(number)
        if self._idle:
            self._idle.pop().send(request)
        elif self._in_flight >= MOST_IN_FLIGHT:
            self.failed(time.time(), f"not sent: {MOST_IN_FLIGHT} requests wait for an answer")
        else:
            task = asyncio.create_task(self._open(request))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, request: bytes) -> None:
        loop, sent_s = asyncio.get_running_loop(), time.time()
        try:
            _, connection = await loop.create_connection(lambda: Connection(self), self._host, self._port)
        except OSError as error:
            self.failed(sent_s, f"no connection: {error}")
            return
        self._all.add(connection)
        connection.send(request)

    def _request(self, number: int) -> bytes:
        user = number * _STRIDE % self._users
        head = (
            f"POST /{self._path}/predict HTTP/1.1\r\nhost: {self._host}\r\n{HEADER_USER_ID}: user-{user}\r\n"
        )
        return (head + "content-type: application/json\r\ncontent-length: 8\r\n\r\n").encode() + b'{"x": 1}'

    def _look_after(self) -> None:
        limit_s = time.time() - TIMEOUT_S
        for connection in [each for each in self._all if 0 < each.sent_s < limit_s]:
            self.failed(connection.sent_s, f"no answer in {TIMEOUT_S:g} s")
            connection.sent_s = 0.0
            connection.give_up()

    def _write(self, sent: Sent) -> None:
        times = f"{sent.sent_s:.6f}\t{sent.done_s:.6f}\t{sent.status}\t{sent.version}\t{sent.attempts}"
        self._record.write(f"{times}\t{sent.request_id}\t{sent.reason}\n")


def _number(pattern: re.Pattern[bytes], head: bytes) -> int:
    found = pattern.search(head)
    return int(found[1]) if found else 0


def _parsed(line: str) -> Sent:
    sent_s, done_s, status, version, attempts, request_id, reason = line.split("\t")
    return Sent(
        sent_s=float(sent_s),
        done_s=float(done_s),
        status=int(status),
        version=int(version),
        attempts=int(attempts),
        request_id=request_id,
        reason=reason,
    )


async def _generate(generator: Generator) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await generator.run(stopped)


def main() -> None:
    """Send until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("rate_rps", type=float)
    parser.add_argument("users", type=int)
    parser.add_argument("record", type=Path)
    given = parser.parse_args()
    # Line by line: whoever reads meanwhile sees what has ended, and a kill loses none of it.
    with given.record.open("a", buffering=1) as record:
        generator = Generator(given.url, rate_rps=given.rate_rps, users=given.users, record=record)
        asyncio.run(_generate(generator))


if __name__ == "__main__":
    main()
