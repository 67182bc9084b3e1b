"""MLflow's scoring server as an image runs it: the command by this machine's Python, and a variant in a container."""

import json
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
from taxiway.packaging import CodePackage
from taxiway.packaging.image import SERVE_MODEL, _content, server_recipe
from taxiway.training import train
from taxiway_serving.names import HEADER_VERSION
from tests.containers.conftest import registered, silent
from tests.containers.test_inference import Controlled, containers_of, controlled
from tests.ports import free_port
from tests.serving.conftest import answers, wait_until

__all__ = ["controlled"]

START_S = 120.0
ROWS = {"dataframe_records": [{"x": 21}]}
DOUBLING = """
class Doubling:
    def predict(self, rows, params=None):
        return [2 * value for value in rows["x"]]

def _load_pyfunc(path):
    return Doubling()
"""


FLAVOR = {"loader_module": "doubling", "code": "code", "data": "data.txt"}
MODEL = {
    "code/doubling.py": DOUBLING,
    "data.txt": "2",
    "MLmodel": json.dumps({"flavors": {"python_function": FLAVOR}}),
}
TRAIN = f"""
import os, pathlib
output = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
(output / "model" / "code").mkdir(parents=True)
for name, text in {MODEL!r}.items():
    (output / "model" / name).write_text(text)
(output / "metrics.json").write_text('{{"score": 1.0}}')
"""


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """Return a model in MLflow's own format."""
    folder = tmp_path / "model"
    (folder / "code").mkdir(parents=True)
    for name, text in MODEL.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def without_code(handled: Path, commit: Callable[..., str]) -> Path:
    """Return a project whose models need no inference code, committed to Git."""
    text = (handled / "pyproject.toml").read_text()
    changes = {
        'service = "service:Tiny"\nfiles = ["service.py"]': 'server = "mlflow"',
        'inference = ["bentoml>=1.4"]': 'inference = ["mlflow-skinny", "pandas"]',
    }
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    (handled / "pyproject.toml").write_text(text)
    (handled / "train.py").write_text(TRAIN)
    commit(handled)
    return handled


@pytest.fixture
def served(model_dir: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start the server of an image as a process; return it with its address."""
    port = free_port()
    programs = str(Path(sys.executable).parent)
    told = {"PORT": str(port), "TAXIWAY_MODEL_DIR": str(model_dir), "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment = {**os.environ, **told, "PATH": os.pathsep.join((programs, os.environ["PATH"]))}
    process = subprocess.Popen(
        [sys.executable, *SERVE_MODEL[1:]], cwd=model_dir.parent, env=environment, start_new_session=True
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_server_of_an_image_answers_and_ends_when_it_is_asked(
    served: tuple[subprocess.Popen[bytes], str],
) -> None:
    process, url = served
    wait_until(lambda: answers(f"{url}/ping"), deadline_s=START_S)
    told = httpx.post(f"{url}/invocations", json=ROWS, timeout=START_S, trust_env=False)
    assert told.json() == {"predictions": [42]}

    # It is the process that a container is told to end, and no child of it: what is under way is answered.
    process.send_signal(signal.SIGTERM)
    assert process.wait(START_S) in {0, -signal.SIGTERM}
    assert not answers(f"{url}/ping")


def test_image_of_a_model_server_is_its_environment_and_a_command() -> None:
    lines = server_recipe("below").splitlines()

    assert lines[:3] == ["FROM below", "USER 10001:10001", "WORKDIR /tmp"]
    assert json.loads(lines[3].removeprefix("ENTRYPOINT ")) == SERVE_MODEL


def test_package_without_a_bento_is_served_by_it(tmp_path: Path) -> None:
    made = CodePackage(
        handle="tiny",
        kind="inference",
        digest="d" * 64,
        source_hash="",
        lock_hash="",
        python="",
        manifest={"service": None, "options": {"server": "mlflow"}},
    )
    (entry,) = _content(made, "below", tmp_path, None)

    assert (entry.name, entry.content) == ("Dockerfile", server_recipe("below").encode())


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_model_server_in_a_container_answers(
    without_code: Path, handle: str, dataset: DatasetVersion, controlled: Controlled, client: Any
) -> None:
    settings = controlled.settings
    registered(without_code, settings, ("training", "inference"))
    made = train(handle, dataset, replace(settings, runner="process"), log=silent)
    deployment.deploy(handle, made.version, settings, ready_deadline_s=300, log=silent)

    url = f"{settings.gateway_url}/{handle}/invocations"
    answer = httpx.post(url, json=ROWS, headers={HEADER_VERSION: "1"}, timeout=60, trust_env=False)
    assert answer.json() == {"predictions": [42]}
    found = client.inspect_container(*containers_of(controlled, handle))
    assert (found["HostConfig"]["ReadonlyRootfs"], found["Config"]["User"]) == (True, "10001:10001")
