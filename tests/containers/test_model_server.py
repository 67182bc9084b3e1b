"""MLflow's scoring server as an image runs it: the command of the image, by this machine's Python."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from taxiway.packaging import CodePackage
from taxiway.packaging.image import SERVE_MODEL, _content, server_recipe
from tests.serving.conftest import answers, free_port, wait_until

START_S = 120.0
ROWS = {"dataframe_records": [{"x": 21}]}
DOUBLING = """
class Doubling:
    def predict(self, rows, params=None):
        return [2 * value for value in rows["x"]]

def _load_pyfunc(path):
    return Doubling()
"""


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """Return a model in MLflow's own format."""
    folder = tmp_path / "model"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "doubling.py").write_text(DOUBLING)
    (folder / "data.txt").write_text("2")
    flavor = {"loader_module": "doubling", "code": "code", "data": "data.txt"}
    (folder / "MLmodel").write_text(json.dumps({"flavors": {"python_function": flavor}}))
    return folder


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
