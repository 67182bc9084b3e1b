"""A version that was away for a moment: when the controller hears that it is warm, the gateway's workers know it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.names import HEADER_USER_ID, HEADER_VERSION, VariantId
from taxiway_serving.routing.envoy import EnvoyRouter
from taxiway_serving.routing.router import Route, Table
from taxiway_serving.settings import ServingSettings
from taxiway_serving.split import Split
from tests.ports import free_port
from tests.serving.conftest import Gateway, Toy, wait_until

pytestmark = pytest.mark.slow

CANARY = VariantId(handle="digits", version=2)
MakeToy = Callable[..., Toy]


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(ServingSettings.under(tmp_path, envoy_port=free_port(), envoy_admin_port=free_port()))
    yield made
    made.kill()


@pytest.fixture
def toy() -> Iterator[MakeToy]:
    with ExitStack() as stack:

        def start(version: int, *, port: int = 0) -> Toy:
            made = Toy(version, port=port)
            stack.callback(made.kill)
            return made

        yield start


def versions_of(client: httpx.Client, users: range) -> set[str]:
    answers = [client.post("/digits/predict", content=b"{}", headers={HEADER_USER_ID: str(u)}) for u in users]
    return {answer.headers[HEADER_VERSION] for answer in answers}


def test_version_that_is_warm_again_gets_its_requests(gateway: Gateway, toy: MakeToy) -> None:
    """kserve#5983: traffic moved to what was not ready where it counts, and the version was blamed for it."""
    stable, canary = toy(1), toy(2)
    split = Split.of(1, {2: 100})
    table = Table(routes=(Route(handle="digits", split=split, backends=(stable.backend, canary.backend)),))
    with closing(EnvoyRouter(gateway.settings)) as router, gateway.client() as client:
        router.publish(table)
        wait_until(lambda: router.warm(CANARY) is Answer.YES)
        for _ in range(3):
            canary.kill()
            wait_until(lambda: versions_of(client, range(5)) == {"1"})
            canary = toy(2, port=canary.port)
            wait_until(lambda: router.warm(CANARY) is Answer.YES)
            assert versions_of(client, range(5)) == {"2"}
