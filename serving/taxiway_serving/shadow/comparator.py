"""The comparator: takes mirrored requests from the gateway, answers them at once, and compares afterwards.

It listens on loopback unless Envoys are elsewhere, and takes whatever names a handle that is followed. It needs no
secret, because it takes questions only: what is compared are the variants' own answers, and whoever can send it a
question can send it to the gateway as well, which mirrors it here. What it must not do is hold anybody up, or ask
twice.
"""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from aiohttp import web

from taxiway_serving.names import HEADER_HANDLE, check_handle
from taxiway_serving.settings import LOOPBACK
from taxiway_serving.shadow.calls import Call, Caller
from taxiway_serving.shadow.lane import Comparing, Counts, Lane, Limits
from taxiway_serving.shadow.log import ShadowWriter, log_path

_READ_S: Final = 10.0
_START_S: Final = 60.0
_STOP_S: Final = 5.0

log = logging.getLogger(__name__)


class Comparator:
    """What to compare for which handle, and where mirrored requests go. Every method may be called from any thread.

    Made by `comparing`.

    Attributes:
        host: Where it listens, as a number: Envoys are told so.
        port: The same again after a restart, unless somebody took it meanwhile.
    """

    def __init__(
        self,
        home: Path,
        *,
        listener: socket.socket,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        address: tuple[str, int] = listener.getsockname()
        self.host, self.port = address
        self._home, self._listener, self._limits, self._clock = home, listener, limits, clock
        self._lanes: dict[str, Lane] = {}
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._started = threading.Event()

    def follow(self, handle: str, comparing: Comparing) -> None:
        """Compare the handle's mirrored requests so from now on. Idempotent; another `Comparing` replaces.

        Raises:
            InvalidNameError: If the handle is not one.
        """
        check_handle(handle)
        with self._lock:
            before = self._lanes.get(handle)
            if before is not None and before.comparing == comparing:
                return
            writer = ShadowWriter(log_path(self._home, handle))
            self._lanes[handle] = Lane(
                handle, comparing, writer=writer, limits=self._limits, clock=self._clock
            )
        self._close(before)

    def leave(self, handle: str) -> None:
        """Compare nothing of the handle any more; what waits is forgotten. Idempotent."""
        with self._lock:
            before = self._lanes.pop(handle, None)
        self._close(before)

    def following(self, handle: str) -> Comparing | None:
        """Return what is compared for a handle, or None."""
        lane = self._lanes.get(handle)
        return None if lane is None else lane.comparing

    def counts(self, handle: str) -> Counts:
        """Return what became of the handle's requests; zeros if it is not followed."""
        lane = self._lanes.get(handle)
        return Counts() if lane is None else lane.counts()

    def _close(self, lane: Lane | None) -> None:
        if lane is not None:
            self._tell(lane.close)

    def _tell(self, what: Callable[[], None]) -> None:
        # A loop that is closed has nothing under way that could be told.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what)

    def run(self) -> None:
        """Serve until `stop`, in the calling thread."""
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except Exception:
            log.exception("the comparator has ended; shadow rollouts hold until the controller starts again")
        finally:
            self._loop.close()

    def wait_until_started(self) -> None:
        """Return when it takes requests.

        Raises:
            RuntimeError: If it does not start in time.
        """
        if not self._started.wait(_START_S):
            raise RuntimeError(f"the comparator did not start within {_START_S:g} s; see the log above")

    def stop(self) -> None:
        """Take no more requests and forget what waits."""
        self._tell(self._stopping.set)

    async def _serve(self) -> None:
        limits = self._limits
        async with Caller(timeout_s=limits.call_s, answer_bytes=limits.answer_bytes) as caller:
            app = web.Application(client_max_size=limits.body_bytes)

            async def take(request: web.Request) -> web.Response:
                return await self._take(request, caller)

            app.router.add_post("/{path:.*}", take)
            runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=0.0)
            await runner.setup()
            try:
                await web.SockSite(runner, self._listener).start()
                self._started.set()
                await self._stopping.wait()
            finally:
                await runner.cleanup()
                for lane in list(self._lanes.values()):
                    lane.close()
                    await lane.wait_closed()

    async def _take(self, request: web.Request, caller: Caller) -> web.Response:
        lane = self._lanes.get(request.headers.get(HEADER_HANDLE, ""))
        if lane is None:
            return web.Response(status=404, text=f"{HEADER_HANDLE} names no handle that is compared")
        if not lane.reserve():
            return web.Response(status=503, text="too many wait to be compared; dropped")
        body = await _body(request)
        if body is None:
            lane.give_back()
            return web.Response(status=413, text="too long, or broken off; dropped")
        headers = tuple(request.headers.items())
        lane.compare(Call(path=request.raw_path, headers=headers, body=body), caller)
        return web.Response(status=202)


@contextmanager
def comparing(
    home: Path,
    *,
    host: str = LOOPBACK,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[Comparator]:
    """Run a comparator in a thread of its own while the context lasts.

    Args:
        home: The controller's home; logs and the port go to `shadow/` in it.
        host: Address to listen on, which every Envoy reaches.
        limits: What it may cost.
        clock: Seconds since the epoch.
    """
    with _listen(home / "shadow" / "port", host) as listener:
        comparator = Comparator(home, listener=listener, limits=limits or Limits(), clock=clock)
        thread = threading.Thread(target=comparator.run, name="comparator", daemon=True)
        thread.start()
        try:
            comparator.wait_until_started()
            yield comparator
        finally:
            comparator.stop()
            thread.join(timeout=_STOP_S)


async def _body(request: web.Request) -> bytes | None:
    """Return the body of a mirrored request; None if it is too long or does not come."""
    try:
        async with asyncio.timeout(_READ_S):
            return await request.read()
    except (web.HTTPRequestEntityTooLarge, TimeoutError, OSError):
        return None


def _listen(remembered: Path, host: str) -> socket.socket:
    """Listen where the comparator before did: the gateway's table then stays as it is over a restart."""
    remembered.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        port = int(remembered.read_text())
    except (FileNotFoundError, ValueError):
        port = 0
    try:
        listener = _bound(host, port)
    except (OSError, OverflowError):
        # Somebody took it meanwhile, or it is none: any port will do, and the table follows.
        listener = _bound(host, 0)
    remembered.write_text(f"{listener.getsockname()[1]}\n")
    return listener


def _bound(host: str, port: int) -> socket.socket:
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener
