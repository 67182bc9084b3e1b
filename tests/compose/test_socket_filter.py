"""The filter before a real engine: runs and takes back what Taxiway runs, and refuses what it must."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from taxiway import archive
from taxiway import engine as engines
from taxiway.archive import Entry
from taxiway.engine import Engine
from taxiway.errors import ToolFailedError
from taxiway.packaging.image import Image
from taxiway.runners import DockerRunner, Inputs
from taxiway.settings import Containers
from tests.containers.conftest import URL, make, plain_image
from tests.ports import free_port

__all__ = ["make", "plain_image"]

pytestmark = [pytest.mark.docker, pytest.mark.slow]


COUNT = """
import os, pathlib
number = int(pathlib.Path(os.environ["TAXIWAY_DATA_DIR"], "number").read_text())
pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"], "next").write_text(str(number + 1))
print("counted")
"""


@pytest.fixture(scope="module")
def gate(client: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a filter before the engine; needs an engine with a socket of its own."""
    if not URL.startswith("unix://"):
        pytest.skip("the engine has no socket on this machine")
    path = URL.removeprefix("unix://")
    ports, folder = [str(free_port()) for _ in range(3)], tmp_path_factory.mktemp("filter")
    module = "taxiway_serving.socket_filter"
    checker = [f"{module}.checker", "--port", ports[0], "--socket", path, "--network", "taxiway-variants"]
    front = [f"{module}.gate", "--port", ports[1], "--admin-port", ports[2], "--socket", path]
    front += ["--checker", f"127.0.0.1:{ports[0]}", "--config", str(folder / "envoy.json")]
    with (folder / "log").open("wb") as log:
        started = [
            subprocess.Popen([sys.executable, "-m", *each], stdout=log, stderr=log, env=os.environ)
            for each in (checker, front)
        ]
    try:
        _wait(f"http://127.0.0.1:{ports[1]}/_ping", folder / "log")
        yield f"tcp://127.0.0.1:{ports[1]}"
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(60.0)


def _wait(url: str, log: Path) -> None:
    deadline = time.monotonic() + 120.0
    while True:
        try:
            if httpx.get(url, trust_env=False, timeout=2.0).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            # Not listening yet; that it never does is found by the clock.
            pass
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@pytest.fixture
def filtered(gate: str) -> Iterator[Any]:
    """Return a client of the engine that asks through the filter."""
    found = engines.connect(Containers(url=gate))
    yield found
    found.close()


@pytest.fixture
def stranger(client: Any, plain_image: Image) -> Iterator[str]:
    """Return a container that was not made through the filter."""
    made = client.create_container(plain_image.id, ["sleep", "600"])["Id"]
    client.start(made)
    yield made
    client.remove_container(made, force=True, v=True)


def test_runner_runs_a_job_through_the_filter(
    filtered: Any, gate: str, tmp_path: Path, plain_image: Image, make: Any
) -> None:
    runner = DockerRunner(
        Engine(filtered, gate), lambda _: plain_image, Containers(url=gate), tmp_path / "home"
    )
    data = tmp_path / "data"
    data.mkdir()
    (data / "number").write_text("41")
    told: list[str] = []
    result = runner.run(make(COUNT, inputs=Inputs(data_dir=data)), told.append)

    assert (result.output_dir / "next").read_text() == "42"
    assert any("counted" in line for line in told)
    assert runner.reap(0) == ()


def test_image_is_built_through_the_filter(filtered: Any, gate: str, plain_image: Image) -> None:
    recipe = f"FROM {plain_image.id}\nENV A=1\n".encode()
    engine = Engine(filtered, gate)
    with archive.stream([Entry(name="Dockerfile", content=recipe, mode=0o644)]) as pieces:
        made = engine.build(pieces, "taxiway/variant.filtered:0a", {"taxiway.handle": "filtered"}, {}, "none")

    assert engine.image_id("taxiway/variant.filtered:0a") == made
    assert engine.remove_image("taxiway/variant.filtered:0a")


@pytest.mark.parametrize(
    "host",
    [
        {"Privileged": True},
        {"Binds": ["/:/host"]},
        {"NetworkMode": "host"},
        {"PidMode": "host"},
        {"CapAdd": ["SYS_ADMIN"]},
        {"ReadonlyPaths": []},
    ],
    ids=lambda host: next(iter(host)),
)
def test_dangerous_container_is_refused(
    filtered: Any, gate: str, plain_image: Image, host: dict[str, Any]
) -> None:
    safe = {"NetworkMode": "none", "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"]}
    body = {"Image": plain_image.id, "Labels": {"taxiway.job": "true"}, "HostConfig": {**safe, **host}}
    with pytest.raises(ToolFailedError, match="refused by the filter") as caught:
        Engine(filtered, gate).create("taxiway-refused", body)

    assert caught.value.exit_code == 403


def test_container_of_somebody_else_is_left_alone(filtered: Any, client: Any, stranger: str) -> None:
    from docker.errors import APIError  # type: ignore[import-untyped]

    for act in (
        lambda: filtered.inspect_container(stranger),
        lambda: filtered.logs(stranger),
        lambda: filtered.get_archive(stranger, "/etc"),
        lambda: filtered.stop(stranger, timeout=0),
        lambda: filtered.remove_container(stranger, force=True),
        lambda: filtered.exec_create(stranger, ["true"]),
        lambda: filtered.containers(all=True),
        lambda: filtered.pull("python", tag="3.12-slim"),
        filtered.volumes,
    ):
        with pytest.raises(APIError) as caught:
            act()
        assert caught.value.status_code == 403

    assert client.inspect_container(stranger)["State"]["Running"]


def test_form_is_refused_before_the_engine_reads_it(gate: str, client: Any) -> None:
    url = f"{gate.replace('tcp', 'http')}/containers/taxiway-nobody/kill"
    told = httpx.post(url, data={"signal": "HUP"}, trust_env=False, timeout=60)

    assert told.status_code == httpx.codes.FORBIDDEN
    assert "application/x-www-form-urlencoded" in told.json()["message"]
    assert httpx.post(url, trust_env=False, timeout=60).status_code == httpx.codes.NOT_FOUND
