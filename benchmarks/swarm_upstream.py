"""A small model server for the replicas of a Swarm: ready late, draining before it ends, and dead when it is told so.

Copied into a container's image; it runs in a bare interpreter and imports nothing beside the standard library. It is
ready UPSTREAM_STARTS_AFTER_S after its start. A call of `/slow` takes long, and one of `/crash` ends the server as
`kill -9` does. Nothing that measures is here.
"""

import asyncio
import os
import signal
import time
from typing import Any

PORT = 3000
DRAIN_S = 2.0
HEAD_END = b"\r\n\r\n"
BEGAN_S = time.monotonic()
VERSION = os.environ.get("TAXIWAY_MODEL_VERSION", "0")
SLOW_S = 0.3
STARTS_AFTER_S = float(os.environ.get("UPSTREAM_STARTS_AFTER_S", "0"))


class Server:
    """Whether it is ready, how many calls are under way, and who is connected."""

    def __init__(self) -> None:
        self.is_leaving = False
        self.under_way = 0

    @property
    def is_ready(self) -> bool:
        return not self.is_leaving and time.monotonic() - BEGAN_S >= STARTS_AFTER_S


class Answering(asyncio.Protocol):
    """One connection of HTTP/1.1 with keep-alive; bodies come with a length, as the gateway sends them."""

    def __init__(self, server: Server) -> None:
        self._server, self._buffer = server, b""
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
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        if head.startswith(b"get"):
            self._write(200 if self._server.is_ready else 503)
        elif b"/crash" in head.split(b"\r\n", 1)[0]:
            os._exit(1)
        else:
            self._server.under_way += 1
            delay_s = SLOW_S if b"/slow" in head.split(b"\r\n", 1)[0] else 0.0
            asyncio.get_running_loop().call_later(delay_s, self._end)

    def _end(self) -> None:
        self._server.under_way -= 1
        self._write(200)

    def _write(self, status: int) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        body = f'{{"version": "{VERSION}"}}'.encode()
        # Whoever is told to close sends nothing on a connection that is about to go.
        close = b"connection: close\r\n" if self._server.is_leaving else b""
        head = f"HTTP/1.1 {status} {'OK' if status == 200 else 'Error'}\r\n".encode()
        self._transport.write(head + close + b"content-length: %d\r\n\r\n" % len(body) + body)
        if self._server.is_leaving:
            self._transport.close()


def _length(head: bytes) -> int:
    _, found, rest = head.partition(b"content-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


async def serve() -> None:
    """Answer until SIGTERM, then for a while still, without being ready."""
    loop, stopped, server = asyncio.get_running_loop(), asyncio.Event(), Server()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    listening = await loop.create_server(lambda: Answering(server), "0.0.0.0", PORT, backlog=1024)  # noqa: S104
    print(f"version {VERSION} listens on {PORT}", flush=True)
    await stopped.wait()
    server.is_leaving = True
    await asyncio.sleep(DRAIN_S)
    while server.under_way:  # noqa: ASYNC110 - it ends with the process
        await asyncio.sleep(0.01)
    listening.close()


if __name__ == "__main__":
    asyncio.run(serve())
