"""What the tests of verification share: a real HTTP server in a thread, and a port that nothing answers on."""

import socket
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Handler = Callable[[Request], Awaitable[Response]]


class _Server:
    """Serves one handler on a free port until stopped. It listens before its thread runs: nobody has to wait."""

    def __init__(self, handler: Handler) -> None:
        async def answer(request: Request) -> Response:
            return await handler(request)

        app = Starlette(routes=[Route("/{path:path}", answer, methods=["POST"])])
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(120)
        self._socket.close()


@pytest.fixture
def serve_app() -> Iterator[Callable[[Handler], str]]:
    """Return a function that serves a handler and gives its URL."""
    servers = []

    def serve(handler: Handler) -> str:
        servers.append(_Server(handler))
        return servers[-1].url

    yield serve
    for server in servers:
        server.stop()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Return a port that is taken, and that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
