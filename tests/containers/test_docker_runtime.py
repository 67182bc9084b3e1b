"""Variants as containers of a real engine: the contract, adoption, what they may do, images that were changed.

With the toy server of the other runtimes, on the base image that this machine's own Python is.
"""

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.contracts import MakeSpec, Running, Until, addresses_of, ensured, ensured_until_ready
from taxiway_serving.errors import InvalidSpecError, TransportError
from taxiway_serving.names import VariantId
from taxiway_serving.runtimes.docker import HANDLE, HOME, VERSION, DockerRuntime, home_id
from taxiway_serving.runtimes.engine import Engine
from taxiway_serving.runtimes.images import OWNER
from taxiway_serving.settings import ServingSettings
from tests.containers.base_image import VERSION as PYTHON
from tests.containers.conftest import BASE_IMAGE, URL
from tests.containers.variants import FIRST, TOY_IMAGE, ContainersContract, build_toy, make_spec
from tests.serving.conftest import wait_until

__all__ = ["make_spec"]
pytestmark = [pytest.mark.docker, pytest.mark.slow]

STARTER = """
import json, os, sys
from pathlib import Path
from taxiway_serving.runtimes.engine import Engine
from taxiway_serving.runtimes.runtime import VariantSpec
from tests.containers.test_docker_runtime import runtime_of
start = Engine.start
def start_and_die(engine, container):
    start(engine, container)
    os.kill(os.getpid(), 9)
Engine.start = start_and_die
runtime, spec = runtime_of(Path(sys.argv[1])), VariantSpec.from_json(json.loads(sys.argv[2]))
while True:
    runtime.ensure(spec)
"""


def runtime_of(place: Path, *, network: str = "", url: str = URL) -> DockerRuntime:
    settings = replace(ServingSettings.under(place), engine_url=url, variant_network=network)
    return DockerRuntime.from_settings(settings)


@pytest.fixture(scope="session")
def toy_image(engine: Engine) -> str:
    """Return the id of an inference image of the toy server."""
    return build_toy(engine, BASE_IMAGE.format(python=PYTHON))


@pytest.fixture
def place(tmp_path: Path, engine: Engine) -> Iterator[Path]:
    """Return a home; its containers and images are gone in the end."""
    folder = tmp_path / "home"
    yield folder
    for found in engine.containers({HOME: home_id(folder)}):
        engine.remove(found.id)
    for name in engine.images({OWNER: home_id(folder)}):
        engine.remove_image(name)


@pytest.fixture
def runtime(place: Path) -> Iterator[DockerRuntime]:
    with closing(runtime_of(place)) as made:
        yield made


@pytest.fixture
def until() -> Until:
    """Wait longer than others do: where engines are tested, everything else is, too."""
    return functools.partial(wait_until, deadline_s=60.0)


@pytest.fixture
def running(engine: Engine, place: Path) -> Running:
    def names(variant: VariantId) -> set[str]:
        labels = {HOME: home_id(place), HANDLE: variant.handle, VERSION: str(variant.version)}
        return {found.id for found in engine.glimpse(labels) if found.is_running}

    return names


class TestDockerRuntime(ContainersContract):
    @pytest.fixture
    def heir(self, place: Path) -> Iterator[Callable[[], DockerRuntime]]:
        with ExitStack() as stack:
            yield lambda: stack.enter_context(closing(runtime_of(place)))


def test_container_that_its_dying_starter_left_is_adopted(
    runtime: DockerRuntime, make_spec: MakeSpec, until: Until, place: Path, running: Running, root: Path
) -> None:
    spec = make_spec(1)
    script = [sys.executable, "-c", STARTER, str(place), json.dumps(spec.to_json())]
    ended = subprocess.run(script, cwd=root, env=dict(os.environ), check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    first = running(FIRST)
    assert len(first) == 1
    ensured_until_ready(runtime, spec, until)
    assert running(FIRST) == first
    assert runtime.observe()[FIRST].restarts == 0


def test_container_is_nobody_special_and_holds_the_model(
    runtime: DockerRuntime, make_spec: MakeSpec, until: Until, client: Any, running: Running
) -> None:
    spec = make_spec(1, environment={"PORT": "1", "GREETING": "hello", "OMP_NUM_THREADS": "2"})
    ensured_until_ready(runtime, spec, until)
    (container,) = running(FIRST)
    found = client.inspect_container(container)
    host = found["HostConfig"]
    assert found["Config"]["User"] == "10001:10001"
    assert (host["CapDrop"], host["SecurityOpt"], host["Init"]) == (["ALL"], ["no-new-privileges"], True)
    assert (host["ReadonlyRootfs"], host["Binds"], host["Privileged"]) == (True, None, False)
    assert [bound["HostIp"] for bound in host["PortBindings"]["3000/tcp"]] == ["127.0.0.1"]
    told = dict(line.split("=", 1) for line in found["Config"]["Env"])
    assert (told["GREETING"], told["OMP_NUM_THREADS"], told["PORT"]) == ("hello", "2", "3000")
    assert told["TAXIWAY_MODEL_VERSION"] == "1"
    look = "import os; print(os.getuid(), open(os.environ['TAXIWAY_MODEL_DIR'] + '/weight.txt').read())"
    task = client.exec_create(container, ["python", "-c", look])
    assert client.exec_start(task["Id"]).decode().strip() == "10001 7 kg"


def test_containers_in_a_network_are_reached_there_and_published_nowhere(
    place: Path, make_spec: MakeSpec, until: Until, client: Any, running: Running
) -> None:
    name = f"taxiway-tests-{home_id(place)[:8]}"
    network = client.create_network(name)["Id"]
    try:
        with closing(runtime_of(place, network=name)) as runtime:
            ensured_until_ready(runtime, make_spec(1, replicas=2), until)
            until(lambda: len(addresses_of(runtime, FIRST)) == 2)
            assert {port for _, port in addresses_of(runtime, FIRST)} == {3000}
            assert len({host for host, _ in addresses_of(runtime, FIRST)}) == 2
            assert not any(
                client.inspect_container(each)["HostConfig"]["PortBindings"] for each in running(FIRST)
            )
            runtime.stop(FIRST, grace_s=5)
    finally:
        client.remove_network(network)


def test_engine_that_is_away_makes_nothing_fail(
    runtime: DockerRuntime, make_spec: MakeSpec, until: Until, place: Path, tmp_path: Path
) -> None:
    spec = make_spec(1)
    ensured_until_ready(runtime, spec, until)
    with closing(runtime_of(place, url=f"unix://{tmp_path}/none.sock")) as blind:
        assert blind.observe()[FIRST] == runtime.observe()[FIRST]
        assert blind.ready(FIRST) is Answer.UNKNOWN
        with pytest.raises(TransportError, match=r"none\.sock"):
            blind.ensure(spec)
        with pytest.raises(TransportError):
            blind.stop(FIRST, grace_s=1)
        assert blind.observe()[FIRST].phase == "ready"
    assert runtime.ready(FIRST) is Answer.YES


def test_image_that_was_changed_is_refused_until_it_is_gone(
    runtime: DockerRuntime, make_spec: MakeSpec, until: Until, client: Any, place: Path, engine: Engine
) -> None:
    spec = make_spec(1)
    ensured_until_ready(runtime, spec, until)
    (name,) = engine.images({OWNER: home_id(place)})
    runtime.stop(FIRST, grace_s=5)
    client.tag(TOY_IMAGE, *name.split(":"), force=True)
    until(lambda: ensured(runtime, spec) and runtime.observe()[FIRST].phase == "failed")
    assert "remove it from the engine, and it is made again" in runtime.observe()[FIRST].reason
    assert "was recorded" in runtime.logs(FIRST, tail=5)
    client.remove_image(name)
    ensured_until_ready(runtime, spec, until)


def test_name_of_an_inference_image_that_means_another_one_now_is_refused(
    runtime: DockerRuntime, make_spec: MakeSpec, until: Until, client: Any, toy_image: str
) -> None:
    client.tag(toy_image, "taxiway-tests/moving", "latest")
    spec = make_spec(1, image="taxiway-tests/moving:latest")
    try:
        ensured_until_ready(runtime, spec, until)
        client.tag(BASE_IMAGE.format(python=PYTHON), "taxiway-tests/moving", "latest", force=True)
        runtime.stop(FIRST, grace_s=5)
        until(lambda: ensured(runtime, spec) and runtime.observe()[FIRST].phase == "failed")
        assert "deploy what it is now as a new version" in runtime.observe()[FIRST].reason
    finally:
        client.remove_image("taxiway-tests/moving:latest")


def test_variant_that_cannot_start_says_why_and_pauses(
    runtime: DockerRuntime, make_spec: MakeSpec, until: Until
) -> None:
    spec = make_spec(1, environment={"TOY_EXIT": "3"})
    until(lambda: ensured(runtime, spec) and runtime.observe()[FIRST].restarts == 1)
    until(lambda: runtime.observe()[FIRST].phase == "failed")
    assert "exited with code 3" in runtime.observe()[FIRST].reason
    assert runtime.logs(FIRST, tail=2).splitlines() == ["cannot load the model"] * 2
    missing = make_spec(2, image="taxiway-tests/none@sha256:" + "0" * 64)
    until(lambda: ensured(runtime, missing) and runtime.observe()[missing.variant].phase == "failed")
    assert "cannot be started" in runtime.observe()[missing.variant].reason


def test_images_go_when_no_variant_needs_them(
    runtime: DockerRuntime, make_spec: MakeSpec, until: Until, engine: Engine, place: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "weight.txt").write_text("8 kg")
    for spec in (make_spec(1), make_spec(2, model_dir=other)):
        ensured_until_ready(runtime, spec, until)
    first, second = sorted(engine.images({OWNER: home_id(place)}))
    assert runtime.images.prune({first, second}, older_than_s=0) == ()
    # What a container still runs stays, whatever is said of it.
    assert runtime.images.prune((), older_than_s=0) == ()
    runtime.stop(FIRST, grace_s=5)
    (gone,) = runtime.images.prune((), older_than_s=0)
    assert engine.images({OWNER: home_id(place)}) == tuple({first, second} - {gone})
    ensured_until_ready(runtime, make_spec(1), until)


def test_specification_of_no_container_is_refused_with_every_fault(
    runtime: DockerRuntime, make_spec: MakeSpec, tmp_path: Path
) -> None:
    spec = make_spec(1, image="", python=Path(sys.executable), model_dir=tmp_path / "none")
    with pytest.raises(InvalidSpecError) as caught:
        runtime.ensure(spec)
    assert len(caught.value.faults) == 2
    assert runtime.observe() == {}
