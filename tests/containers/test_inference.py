"""A Bento in a container, from the project to the prediction: packaged, deployed, found again; and other images."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from taxiway import deployment
from taxiway.datasets import DatasetVersion
from taxiway.engine import Engine
from taxiway.packaging.image import inference_recipe
from taxiway.registry import packages
from taxiway.settings import Settings
from taxiway.training import train
from taxiway_serving.client import Controller
from taxiway_serving.names import HEADER_VERSION
from taxiway_serving.runtimes.docker import HANDLE, HOME, home_id
from taxiway_serving.runtimes.images import OWNER, SEALED
from taxiway_serving.settings import ServingSettings
from tests.containers.conftest import registered, silent
from tests.ports import free_port
from tests.serving.conftest import Gateway, answers, wait_until

pytestmark = [pytest.mark.docker, pytest.mark.slow]

SERVICE = """
import json, os, pathlib
import bentoml

@bentoml.service(name="tiny")
class Tiny:
    def __init__(self) -> None:
        folder = pathlib.Path(os.environ["TAXIWAY_MODEL_DIR"])
        self.c = json.loads((folder / "weights.json").read_text())["c"]

    @bentoml.api
    def predict(self, x: float) -> float:
        return x * self.c
"""
LIMITS = "[tool.taxiway.inference.resources]\ncpus = 1.5\nmemory_mb = 700\n"


class Controlled:
    """A real controller whose variants are containers, and a real Envoy, in the home of a test."""

    def __init__(self, boxed: Settings, engine: Engine) -> None:
        ports = [free_port() for _ in range(3)]
        self.serving = ServingSettings.under(
            boxed.home, port=ports[0], envoy_port=ports[1], envoy_admin_port=ports[2]
        )
        self.engine = engine
        self.gateway = Gateway(self.serving)
        self.start()
        token = self.serving.token_file.read_text().strip()
        self.settings = replace(
            boxed,
            controller_url=self.serving.controller_url,
            controller_token=token,
            gateway_url=self.serving.gateway_url,
        )
        self.client = Controller(self.serving.controller_url, token)

    def start(self) -> None:
        told = {
            "TAXIWAY_HOME": str(self.serving.home),
            "TAXIWAY_RUNTIME": "docker",
            "TAXIWAY_CONTROLLER_PORT": str(self.serving.port),
            "TAXIWAY_GATEWAY_PORT": str(self.serving.envoy_port),
            "TAXIWAY_ENVOY_ADMIN_PORT": str(self.serving.envoy_admin_port),
        }
        command = [sys.executable, "-m", "taxiway_serving.controller.main"]
        self.process = subprocess.Popen(command, env={**os.environ, **told, "DOCKER_HOST": self.engine.url})
        wait_until(lambda: answers(f"{self.serving.controller_url}/healthz"), deadline_s=120)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        self.kill()
        self.gateway.kill()
        labels = {HOME: home_id(self.serving.home)}
        for found in self.engine.containers(labels):
            self.engine.remove(found.id)
        for name in self.engine.images({OWNER: labels[HOME]}):
            self.engine.remove_image(name)


@pytest.fixture
def controlled(boxed: Settings, engine: Engine) -> Iterator[Controlled]:
    made = Controlled(boxed, engine)
    yield made
    made.close()


def predicted(controlled: Controlled, handle: str, x: float) -> httpx.Response:
    url = f"{controlled.settings.gateway_url}/{handle}/predict"
    return httpx.post(url, json={"x": x}, headers={HEADER_VERSION: "1"}, timeout=60, trust_env=False)


def containers_of(controlled: Controlled, handle: str) -> set[str]:
    found = controlled.engine.glimpse({HOME: home_id(controlled.serving.home), HANDLE: handle})
    return {each.id for each in found if each.is_running}


@pytest.mark.timeout(900)
def test_bento_in_a_container_answers_and_outlives_the_controller(
    handled: Path,
    handle: str,
    dataset: DatasetVersion,
    controlled: Controlled,
    client: Any,
    commit: Callable[..., str],
) -> None:
    settings = controlled.settings
    (handled / "service.py").write_text(SERVICE)
    with (handled / "pyproject.toml").open("a") as file:
        file.write(LIMITS)
    commit(handled)
    registered(handled, settings, ("training", "inference"))
    made = train(handle, dataset, replace(settings, runner="process"), params={"c": 0.5}, log=silent)
    assert deployment.deploy(handle, made.version, settings, ready_deadline_s=300, log=silent).version == 1
    assert predicted(controlled, handle, 3.0).json() == 1.5
    (container,) = containers_of(controlled, handle)
    found = client.inspect_container(container)
    assert (found["HostConfig"]["NanoCpus"], found["HostConfig"]["Memory"]) == (1_500_000_000, 700 * 2**20)
    assert (found["HostConfig"]["ReadonlyRootfs"], found["Config"]["User"]) == (True, "10001:10001")
    code = packages.lookup(handle, "inference", settings)
    assert found["Config"]["Labels"]["taxiway.digest"] == code.digest
    assert (
        (found["Config"]["Labels"]["taxiway.inference"])
        == packages.image(code, controlled.engine, settings, silent).id
    )
    controlled.kill()
    assert predicted(controlled, handle, 4.0).json() == 2.0
    controlled.start()
    deployment.deploy(handle, made.version, settings, ready_deadline_s=240, log=silent)
    assert containers_of(controlled, handle) == {container}
    controlled.client.undeploy(handle, made.version)
    wait_until(lambda: not containers_of(controlled, handle), deadline_s=120)


def test_image_of_a_package_is_the_one_that_the_project_names(
    handled: Path, handle: str, boxed: Settings, engine: Engine, client: Any, commit: Callable[..., str]
) -> None:
    text = (handled / "pyproject.toml").read_text()
    named = text.replace(
        'service = "service:Tiny"', 'service = "service:Tiny"\nimage = "taxiway-tests/served:1"'
    )
    (handled / "pyproject.toml").write_text(named)
    commit(handled)
    client.import_image_from_data(b"\0" * 1024, repository="taxiway-tests/served", tag="1")
    try:
        registered(handled, boxed, ("inference",))
        code = packages.lookup(handle, "inference", boxed)
        made = packages.image(code, engine, boxed, silent)
        layers = [client.inspect_image(name)["RootFS"] for name in (made.id, "taxiway-tests/served:1")]
        assert layers[0] == layers[1]
        assert SEALED not in client.inspect_image(made.id)["Config"]["Labels"]
    finally:
        client.remove_image("taxiway-tests/served:1")


def test_own_dockerfile_has_the_bento_on_top(
    handled: Path, handle: str, boxed: Settings, engine: Engine, client: Any, commit: Callable[..., str]
) -> None:
    text = (handled / "pyproject.toml").read_text()
    own = 'files = ["service.py", "Dockerfile"]\ndockerfile = "Dockerfile"'
    (handled / "pyproject.toml").write_text(text.replace('files = ["service.py"]', own))
    (handled / "Dockerfile").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nENV OWN=yes\n")
    commit(handled)
    registered(handled, boxed, ("inference",))
    made = packages.image(packages.lookup(handle, "inference", boxed), engine, boxed, silent)
    found = client.inspect_image(made.id)["Config"]
    assert "OWN=yes" in found["Env"]
    assert (found["User"], found["Entrypoint"][1:4]) == ("10001:10001", ["-m", "bentoml", "serve"])
    assert SEALED not in found["Labels"]


def test_recipe_of_a_bento_ends_as_nobody_special() -> None:
    assert inference_recipe("below").splitlines()[-4:] == [
        "USER 10001:10001",
        "WORKDIR /taxiway/bento",
        'ENTRYPOINT ["python", "-m", "bentoml", "serve", "/taxiway/bento"]',
        "CMD []",
    ]
