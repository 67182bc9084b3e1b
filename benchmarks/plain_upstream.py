"""A small, fast model server that is started as a Bento is: for load that a real Bento does not bear.

A plane copies this file to `bentoml/__main__.py` in a folder that only its plain variants have on their path, so that
the runtime's own command, `python -m bentoml serve …`, starts it. It runs in a bare interpreter and imports nothing
beside the standard library. What it does wrong stands in `conduct.json` in its model's folder and may change at any
moment. Nothing that measures is here.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

HEAD_END = b"\r\n\r\n"
CONDUCT = Path(os.environ.get("TAXIWAY_MODEL_DIR", "."), "conduct.json")
BEGAN_S = time.monotonic()
VERSION = os.environ.get("TAXIWAY_MODEL_VERSION", "0")


class Conduct:
    """How the server behaves now; its file is read again whenever it was replaced."""

    def __init__(self, path: Path) -> None:
        self._path, self._seen, self._now = path, (0, 0), dict[str, float]()

    def __getitem__(self, name: str) -> float:
        stat = self._path.stat()
        seen = (stat.st_ino, stat.st_mtime_ns)
        if seen != self._seen:
            self._seen, self._now = seen, json.loads(self._path.read_bytes())
        return self._now.get(name, 0.0)


class Answering(asyncio.Protocol):
    """One connection of HTTP/1.1 with keep-alive; bodies come with a length, as the gateway sends them."""

    def __init__(self, conduct: Conduct) -> None:
        self._conduct, self._buffer = conduct, b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(HEAD_END)) >= 0:
            head = self._buffer[:end].lower()
            size = end + len(HEAD_END) + _length(head)
            if len(self._buffer) < size:
                return
            self._buffer = self._buffer[size:]
            self._answer(is_call=head.startswith(b"post"))

    def _answer(self, *, is_call: bool) -> None:
        if not is_call:
            self._write(200 if time.monotonic() - BEGAN_S >= self._conduct["starts_after_s"] else 503)
            return
        is_bad = random.random() < self._conduct["error_rate"]  # noqa: S311  # decides no secret
        delay_ms = self._conduct["delay_ms"]
        status = 500 if is_bad else 200
        if delay_ms:
            asyncio.get_running_loop().call_later(delay_ms / 1e3, self._write, status)
        else:
            self._write(status)

    def _write(self, status: int) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        body = f'{{"label": "seven", "version": "{VERSION}"}}'.encode()
        head = f"HTTP/1.1 {status} {'OK' if status == 200 else 'Error'}\r\ncontent-type: application/json\r\n"
        self._transport.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)


def _length(head: bytes) -> int:
    _, found, rest = head.partition(b"content-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


def _option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


async def serve(host: str, port: int) -> None:
    """Answer until SIGTERM."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    conduct = Conduct(CONDUCT)
    server: Any = await loop.create_server(lambda: Answering(conduct), host, port, backlog=1024)
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(_option(sys.argv, "--host"), int(_option(sys.argv, "--port"))))
