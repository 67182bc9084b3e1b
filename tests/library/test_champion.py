"""The live version is what the controller says; where it is away, what the alias says."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from taxiway import champion
from taxiway.datasets import DatasetVersion
from taxiway.errors import AuthenticationError, ModelNotFoundError
from taxiway.packaging import package
from taxiway.registry import models, packages
from taxiway.settings import Settings
from taxiway.training import train

pytestmark = pytest.mark.slow


class Live:
    """A controller that says which version is live."""

    url, stable, status = "", 1, 200


@pytest.fixture
def controller() -> Iterator[Live]:
    """Return a controller on a free port."""
    made = Live()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps({"stable": made.stable, "previous": None}).encode()
            self.send_response(made.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


def test_champion_follows_the_controller_and_outlives_its_absence(
    handled: Path, handle: str, dataset: DatasetVersion, live: Settings, controller: Live
) -> None:
    packages.register(package(str(handled), live, kinds=["training", "inference"]), live)
    away = replace(live, controller_url="http://127.0.0.1:9")
    lines: list[str] = []
    assert champion.find(handle, away, lines.append) is None
    first, second = (train(handle, dataset, live, seed=seed) for seed in (0, 1))
    models.set_alias(handle, models.CHAMPION, first.version, live)
    assert champion.find(handle, away, lines.append) == first
    assert ["the controller did not answer" in line for line in lines] == [True] * 2
    doubt = champion.look(handle, away).doubt
    assert f"may be another than {handle}/{first.version}, as the alias champion says" in doubt

    controller.stable = second.version
    assert champion.find(handle, replace(live, controller_url=controller.url), lines.append) == second
    assert models.get(handle, models.CHAMPION, live) == second
    assert len(lines) == 2
    assert champion.look(handle, replace(live, controller_url=controller.url)).doubt == ""

    # What the controller serves and MLflow does not have is no first version, and nor is what it does not tell us.
    controller.stable = 99
    with pytest.raises(ModelNotFoundError):
        champion.look(handle, replace(live, controller_url=controller.url))
    controller.status = 401
    with pytest.raises(AuthenticationError):
        champion.look(handle, replace(live, controller_url=controller.url))
