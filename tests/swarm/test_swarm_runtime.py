"""Variants as services of a real Swarm: the contract on one node, a rolling update that fails, a node that is gone.

With the toy server of the other runtimes, on the base image that this machine's own Python is.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.swarm_nodes import Swarm
from taxiway_serving.answers import Answer
from taxiway_serving.contracts import MakeSpec, Running, Until, addresses_of, ensured, ensured_until_ready
from taxiway_serving.errors import InvalidSpecError, TransportError
from taxiway_serving.names import VariantId
from taxiway_serving.runtimes.docker import HANDLE, HOME, VERSION, home_id
from taxiway_serving.runtimes.swarm import SwarmRuntime, owner_of
from taxiway_serving.runtimes.swarm_engine import SwarmEngine
from taxiway_serving.runtimes.swarm_service import VARIANT
from taxiway_serving.settings import ServingSettings
from tests.containers.variants import FIRST, ContainersContract, build_toy, make_spec
from tests.serving.conftest import wait_until

__all__ = ["make_spec"]
pytestmark = [pytest.mark.docker, pytest.mark.slow]


def runtime_of(place: Path, url: str) -> SwarmRuntime:
    return SwarmRuntime.from_settings(replace(ServingSettings.under(place), engine_url=url))


@pytest.fixture(scope="module")
def engine(swarm: Swarm) -> Iterator[SwarmEngine]:
    """Return the manager, which has the only node that takes replicas: no registry brings images to the other."""
    swarm.set_availability(swarm.second, "drain")
    yield SwarmEngine(swarm.first.client, swarm.first.url)
    swarm.set_availability(swarm.second, "active")


@pytest.fixture(scope="module")
def toy_image(engine: SwarmEngine, base: str) -> str:
    """Return the id of an inference image of the toy server."""
    return build_toy(engine, base)


@pytest.fixture
def client(swarm: Swarm) -> Any:
    """Return a client of the engine where the containers are."""
    return swarm.first.client


@pytest.fixture
def until() -> Until:
    """Wait as long as a container may take where others want the processors, too."""
    return lambda is_true: wait_until(is_true, deadline_s=120.0)


@pytest.fixture
def place(tmp_path: Path, engine: SwarmEngine) -> Iterator[Path]:
    """Return a home; its services are gone in the end."""
    folder = tmp_path / "home"
    yield folder
    for service in engine.services({HOME: home_id(folder)}):
        engine.remove_service(service.id)
    wait_until(lambda: not engine.tasks({HOME: home_id(folder)}), deadline_s=120.0)


@pytest.fixture
def runtime(place: Path, swarm: Swarm) -> Iterator[SwarmRuntime]:
    with closing(runtime_of(place, swarm.first.url)) as made:
        yield made


@pytest.fixture
def running(engine: SwarmEngine, place: Path) -> Running:
    """Return the ids of the containers that run."""

    def names(variant: VariantId) -> set[str]:
        found = engine.glimpse({HOME: home_id(place)})
        return {each.id for each in found if each.is_running and each.labels[VARIANT] == str(variant)}

    return names


class TestSwarmRuntime(ContainersContract):
    @pytest.fixture
    def heir(self, place: Path, swarm: Swarm) -> Iterator[Callable[[], SwarmRuntime]]:
        with ExitStack() as stack:
            yield lambda: stack.enter_context(closing(runtime_of(place, swarm.first.url)))


def test_update_that_does_not_start_is_taken_back_and_not_tried_again(
    runtime: SwarmRuntime,
    make_spec: MakeSpec,
    until: Until,
    running: Running,
    engine: SwarmEngine,
    place: Path,
) -> None:
    ensured_until_ready(runtime, make_spec(1), until)
    first = running(FIRST)
    bad = make_spec(1, environment={"TOY_EXIT": "3"})
    until(lambda: ensured(runtime, bad) and "taken back" in runtime.observe()[FIRST].reason)
    # The Swarm says of itself that it has taken all back a moment after it has.
    until(lambda: {each.update for each in engine.services({HOME: home_id(place)})} == {"rollback_completed"})
    (service,) = engine.services({HOME: home_id(place), HANDLE: "digits", VERSION: "1"})
    for _ in range(3):
        runtime.ensure(bad)
        runtime.observe()
    assert engine.service(service.id) == service
    assert running(FIRST) == first
    state = runtime.observe()[FIRST]
    assert (state.phase, state.restarts) == ("ready", 0)
    assert runtime.ready(FIRST) is Answer.YES
    ensured_until_ready(
        runtime, make_spec(1, environment={"MODE": "good"}), until, but_not=first, running=running
    )


def test_variant_that_was_never_ready_fails_with_the_end_of_its_log(
    runtime: SwarmRuntime, make_spec: MakeSpec, until: Until, engine: SwarmEngine, place: Path
) -> None:
    spec = make_spec(1, environment={"TOY_EXIT": "3"}, ready_deadline_s=2.0)
    # The deadline waits until its first container has ended, however long that takes here.
    clock, runtime._clock = runtime._clock, lambda: 0.0
    tasks = {HOME: home_id(place)}
    until(lambda: ensured(runtime, spec) and "failed" in {each.state for each in engine.tasks(tasks)})
    runtime._clock = clock
    until(lambda: ensured(runtime, spec) and runtime.observe()[FIRST].phase == "failed")
    reason = runtime.observe()[FIRST].reason
    assert "not ready within 2 s" in reason
    assert "non-zero exit (3)" in reason
    assert "cannot load the model" in reason


def test_replica_is_nobody_special_and_holds_the_model(
    runtime: SwarmRuntime, make_spec: MakeSpec, until: Until, running: Running, client: Any
) -> None:
    ensured_until_ready(runtime, make_spec(1), until)
    (container,) = running(FIRST)
    found = client.inspect_container(container)
    host = found["HostConfig"]
    assert found["Config"]["User"] == "10001:10001"
    assert (host["CapDrop"], host["Init"], host["ReadonlyRootfs"], host["Binds"]) == (
        ["ALL"],
        True,
        True,
        None,
    )
    look = (
        "import os; open('/tmp/x', 'w'); print(open(os.environ['TAXIWAY_MODEL_DIR'] + '/weight.txt').read())"
    )
    task = client.exec_create(container, ["python", "-c", look])
    assert client.exec_start(task["Id"]).decode().strip() == "7 kg"


def test_manager_that_is_away_makes_nothing_fail(
    runtime: SwarmRuntime, make_spec: MakeSpec, until: Until, tmp_path: Path
) -> None:
    spec = make_spec(1)
    ensured_until_ready(runtime, spec, until)
    seen = runtime.observe()[FIRST]
    blind = runtime_of(tmp_path / "other", f"unix://{tmp_path}/none.sock")
    there = runtime._engine._client
    runtime._engine._client = blind._engine._client
    assert runtime.observe()[FIRST] == seen
    assert runtime.ready(FIRST) is Answer.UNKNOWN
    with pytest.raises(TransportError):
        runtime.stop(FIRST, grace_s=1)
    runtime._engine._client = there
    blind.close()
    assert addresses_of(runtime, FIRST) == {(seen.host, seen.port)}


def test_what_a_swarm_cannot_run_is_refused(runtime: SwarmRuntime, make_spec: MakeSpec) -> None:
    with pytest.raises(InvalidSpecError, match="image"):
        runtime.ensure(make_spec(1, image="", python=Path("/usr/bin/python3")))


def test_controllers_of_one_database_share_their_services(tmp_path: Path) -> None:
    def owner(folder: str, url: str | None = None) -> str:
        return owner_of(ServingSettings.under(tmp_path / folder, database_url=url))

    shared = "postgresql+psycopg2://ann:{}@db.example:5432/taxiway"
    assert owner("a", shared.format("old")) == owner("b", shared.format("new"))
    assert owner("a", shared.format("old")) != owner("a", shared.format("old") + "2")
    assert owner("a") != owner("b")
    assert owner("a") == owner("a")
