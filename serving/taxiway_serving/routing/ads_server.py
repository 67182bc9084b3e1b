"""The controller's gRPC port, which Envoys open their streams to. What is said on a stream is known elsewhere.

It runs in a thread with an event loop of its own. Whoever does not show the gateway's token is refused.
"""

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from taxiway_serving.errors import TransportError

if TYPE_CHECKING:
    import grpc.aio

Stream: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Receive = Callable[[AsyncIterator[bytes], Stream], Awaitable[bytes]]
Converse = Callable[[AsyncIterator[bytes], Stream], AsyncIterator[bytes]]

ALIVE_S: Final = 10.0
"""So often a connection is asked whether its Envoy lives; of a host that is gone nothing else would tell for hours."""
ALIVE_TIMEOUT_S: Final = 20.0

HEALTH: Final = "grpc.health.v1.Health/Check"
_SERVING: Final = b"\x08\x01"
_START_S: Final = 60.0
_LARGEST_BYTES: Final = 64 * 1024 * 1024


class AdsServer:
    """A gRPC server that is open while its context lasts.

    Args:
        host: Address to listen on.
        port: Port to listen on.
        token: What every stream must show.
        conversations: Handlers of streams in both directions, by the method's full name.
        receivers: Handlers of streams that Envoys only send on, by the method's full name.
        leads: Tells whether this controller leads. Who does not is not healthy: Envoys leave for the one that does.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        token: str,
        conversations: Mapping[str, Converse],
        receivers: Mapping[str, Receive],
        leads: Callable[[], bool],
    ) -> None:
        self._address, self._token = f"{host}:{port}", token
        self._conversations, self._receivers, self._leads = conversations, receivers, leads
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: grpc.aio.Server | None = None

    def open(self) -> None:
        """Listen.

        Raises:
            TransportError: If the address cannot be listened on.
        """
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop,), name="ads", daemon=True)
        self._thread.start()
        try:
            self._wait(self._start())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End every stream and listen no longer."""
        if self._loop is None or self._thread is None:
            return
        self._wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_S)
        self._loop.close()
        self._loop = self._thread = self._server = None

    def soon(self, action: Callable[[], None]) -> None:
        """Do something in the thread of the streams; nothing where none can be open."""
        loop = self._loop
        if loop is not None:
            # One that was closed a moment ago has no stream left that it could be done for.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(action)

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()

    def _wait(self, coroutine: Coroutine[Any, Any, None]) -> None:
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_START_S)

    async def _start(self) -> None:
        import grpc
        import grpc.aio

        options = [
            # Two controllers on one port must not share its streams.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", _LARGEST_BYTES),
            ("grpc.max_send_message_length", _LARGEST_BYTES),
            # Envoy asks whether the connection still lives; that is no reason to end it.
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 1000),
            ("grpc.http2.max_ping_strikes", 0),
            ("grpc.keepalive_time_ms", round(ALIVE_S * 1000)),
            ("grpc.keepalive_timeout_ms", round(ALIVE_TIMEOUT_S * 1000)),
            ("grpc.http2.ping_timeout_ms", round(ALIVE_TIMEOUT_S * 1000)),
            ("grpc.http2.max_pings_without_data", 0),
        ]
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers(tuple(self._handlers()))
        try:
            server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise TransportError(self._address, f"cannot be listened on: {error}") from error
        await server.start()
        self._server = server

    async def _stop(self) -> None:
        if self._server is not None:
            await self._server.stop(grace=None)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=1.0) if left else None

    def _handlers(self) -> list[Any]:
        import grpc

        made: dict[str, Any] = {}
        for name, converse in self._conversations.items():
            made[name] = grpc.stream_stream_rpc_method_handler(self._let_in_both(converse))
        for name, receive in self._receivers.items():
            made[name] = grpc.stream_unary_rpc_method_handler(self._let_in(receive))
        made[HEALTH] = grpc.unary_unary_rpc_method_handler(self._health)
        return [
            grpc.method_handlers_generic_handler(service, {method: handler})
            for name, handler in made.items()
            for service, _, method in (name.partition("/"),)
        ]

    def _let_in_both(self, converse: Converse) -> Converse:
        async def handler(requests: AsyncIterator[bytes], context: Stream) -> AsyncIterator[bytes]:
            await self._check(context)
            async for answer in converse(requests, context):
                yield answer

        return handler

    def _let_in(self, receive: Receive) -> Receive:
        async def handler(requests: AsyncIterator[bytes], context: Stream) -> bytes:
            await self._check(context)
            return await receive(requests, context)

        return handler

    async def _health(self, _request: bytes, context: Stream) -> bytes:
        """Say that this controller leads: one that is stopped, cut off or leads no more is left for the next."""
        await self._check(context)
        return _SERVING

    async def _check(self, context: Stream) -> None:
        import grpc

        shown = dict(context.invocation_metadata() or ()).get("authorization", "")
        text = shown if isinstance(shown, str) else shown.decode(errors="replace")
        if not secrets.compare_digest(text.encode(), f"Bearer {self._token}".encode()):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "show the gateway's token")
        if not self._leads():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this controller leads no more")
