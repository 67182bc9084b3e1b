"""Proving a contract again through a gateway that is where the settings say, on this host or on another.

The gateway is a server that answers every path. What a proof does to a rollout is tested in `test_sensing.py`.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway_serving.controller.sensing import Sensing
from taxiway_serving.controller.wiring import sense
from taxiway_serving.rollout.state import Outcome, Status
from taxiway_serving.settings import ServingSettings
from tests.ports import refusing_port
from tests.serving.conftest import Toy, contract_of
from tests.serving.plane import HANDLE, Plane

CANARY = {"kind": "canary", "steps": [{"setWeight": 10}, {"setWeight": 100}]}


@pytest.fixture
def fleet(plane: Plane, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Version 1 live; return a function that begins a canary of version 2, which has a contract, behind a gateway."""
    made: list[Sensing] = []

    def begin(gateway_url: str) -> None:
        environ = {"TAXIWAY_HOME": str(tmp_path / "controller"), "TAXIWAY_GATEWAY_URL": gateway_url}
        made.append(sense(ServingSettings.from_environment(environ)))
        plane.senses = made[0]
        plane.restart()
        contract = plane.home / "bento" / "contract.json"
        contract.write_text(contract_of(2))
        plane.commands.deploy(replace(plane.spec(2), contract=contract), actor="ann")
        plane.tick(3)
        plane.begin(2, name="r", strategy=CANARY)

    plane.go_live(1)
    yield begin
    for each in made:
        each.close()


def look_on(plane: Plane, *, most: int) -> None:
    """Let the controller look until the rollout has ended, and wait after each look for what it has asked."""
    senses = plane.senses
    assert isinstance(senses, Sensing)
    assert senses.reverifier
    for _ in range(most):
        plane.tick(requests=20)
        wait([asked for _, asked in senses.reverifier._asked.values()])
        if plane.state("r").status is Status.ENDED:
            return


@pytest.mark.slow
def test_contract_is_proven_where_the_gateway_is(
    plane: Plane, fleet: Callable[[str], None], toy: Callable[..., Toy]
) -> None:
    """No Envoy listens on the gateway's port of this host: a fleet's are elsewhere."""
    gateway = toy(2)
    fleet(f"http://127.0.0.1:{gateway.port}/")
    look_on(plane, most=100)
    assert plane.state("r").outcome is Outcome.PROMOTED


def test_gateway_that_nobody_reaches_is_named_with_its_setting(
    plane: Plane, fleet: Callable[[str], None]
) -> None:
    with refusing_port() as port:
        fleet(f"http://127.0.0.1:{port}")
        look_on(plane, most=20)
    assert (plane.state("r").outcome, plane.weight_pct(2)) == (None, 10)
    asked = f"version 2 (asked at http://127.0.0.1:{port}/{HANDLE}, see TAXIWAY_GATEWAY_URL: seven: no answer"
    assert asked in plane.state("r").reason


def test_contract_that_this_controller_cannot_read_is_named(
    plane: Plane, fleet: Callable[[str], None]
) -> None:
    """So it is with the folder of another host, which the leader before this one had."""
    with refusing_port() as port:
        fleet(f"http://127.0.0.1:{port}")
        contract = plane.home / "bento" / "contract.json"
        contract.unlink()
        look_on(plane, most=20)
    assert f"version 2 ({contract}: cannot be read as JSON" in plane.state("r").reason
