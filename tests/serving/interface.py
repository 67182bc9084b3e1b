"""The controller's HTTP interface on a real socket of this process, for tests of its routes and of its client."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from taxiway_serving.controller.app import Parts
from tests.serving.conftest import wait_until
from tests.serving.plane import Plane

TOKENS = {"operator": "an-operators-token", "viewer": "a-viewers-token", "reporter": "a-reporters-token"}


def parts_of(plane: Plane, **more: Any) -> Parts:
    """Return what the interface of a plane in memory speaks for, with a token for each role."""
    usual: dict[str, Any] = {
        "store": plane.store,
        "commands": plane.commands,
        "reconciler": plane.reconciler,
        "runtime": plane.runtime,
        "token": TOKENS["operator"],
        "viewer_token": TOKENS["viewer"],
        "reporter_token": TOKENS["reporter"],
        "gateway_url": "http://127.0.0.1:1",
        "clock": lambda: plane.now_s,
    }
    return Parts(**{**usual, **more})


@contextmanager
def listening(app: ASGIApp) -> Iterator[str]:
    """Serve an application while the context lasts, and give its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
