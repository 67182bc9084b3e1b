"""The program that Envoy asks before a request reaches the engine: `python -m taxiway_serving.socket_filter.checker`.

It answers 200 for a request that may pass and 403, with the reasons, for one that may not. It holds no state: whether a
container is ours is asked of the engine, each time.
"""

import argparse
import asyncio
import logging
from functools import partial

import aiohttp
from aiohttp import web

from taxiway_serving.socket_filter.bodies import MARKS, MOST_BYTES
from taxiway_serving.socket_filter.policy import Asked, faults_of

HEALTH_PATH = "/healthz"
_TIMEOUT_S = 10.0

log = logging.getLogger(__name__)


class Checker:
    """Rules on requests.

    Args:
        socket: The engine's own socket.
        networks: Networks that a container may be in, beside none at all.
    """

    def __init__(self, socket: str, networks: frozenset[str]) -> None:
        self._socket, self._networks = socket, networks

    async def answer(self, request: web.Request) -> web.Response:
        """Return 200, or 403 with what the engine's clients show as its message."""
        path, _, query = request.raw_path.partition("?")
        if path == HEALTH_PATH:
            return web.Response()
        body = await request.read()
        known: dict[str, bool | None] = {}
        asked = Asked(
            method=request.method,
            path=path,
            query=query,
            kind=", ".join(request.headers.getall("Content-Type", [])),
            body=body,
            networks=self._networks,
        )
        faults = faults_of(asked, partial(_note, known))
        for name in known:
            known[name] = await self._is_ours(name)
            faults = faults_of(asked, known.__getitem__)
        if not faults:
            return web.Response()
        log.warning("refused %s %s: %s", request.method, path, "; ".join(faults))
        return web.json_response({"message": f"refused by the filter: {'; '.join(faults)}"}, status=403)

    async def _is_ours(self, name: str) -> bool | None:
        """Ask the engine; a container that cannot be looked at counts as somebody else's."""
        connector = aiohttp.UnixConnector(path=self._socket)
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                session.get(f"http://engine/containers/{name}/json") as found,
            ):
                if found.status == web.HTTPNotFound.status_code:
                    return None
                labels = (await found.json())["Config"]["Labels"] or {}
                return bool(MARKS & set(labels))
        except (aiohttp.ClientError, TimeoutError, KeyError, ValueError):
            log.exception("could not look at the container %s", name)
            return False


def _note(known: dict[str, bool | None], name: str) -> bool | None:
    known[name] = None
    return None


def create_app(checker: Checker) -> web.Application:
    """Return the web application, which answers every method and path."""
    app = web.Application(client_max_size=MOST_BYTES)
    app.router.add_route("*", "/{path:.*}", checker.answer)
    return app


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=2380)
    parser.add_argument("--socket", default="/var/run/docker.sock", help="the engine's own socket")
    parser.add_argument("--network", action="append", default=[], help="network that containers may be in")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    app = create_app(Checker(options.socket, frozenset(options.network)))
    asyncio.set_event_loop(asyncio.new_event_loop())
    web.run_app(app, host=options.host, port=options.port, print=None, access_log=None)


if __name__ == "__main__":
    main()
