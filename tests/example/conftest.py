"""What the tests of the example share: its environment, data, models and a real BentoML server.

The environment is thrown away after the run; its packages come from the cache of uv.
"""

import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uv

from tests.ports import free_port

Run = Callable[..., Path]
TUNED = {"hidden": 128, "learning_rate": 0.005, "epochs": 10}


@pytest.fixture(scope="session")
def project(root: Path) -> Path:
    return root / "examples" / "visual_recognition"


@pytest.fixture(scope="session")
def regression(root: Path) -> Path:
    return root / "examples" / "visual_recognition_regression"


@pytest.fixture(scope="session")
def python(root: Path, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of a fresh environment that holds every group of the project."""
    folder = tmp_path_factory.mktemp("environment")
    groups = tomllib.loads((project / "pyproject.toml").read_text())["dependency-groups"]
    packages = sorted({package for group in groups.values() for package in group})
    tool, found = uv.find_uv_bin(), folder / "bin" / "python"
    for arguments in (
        ["venv", "--quiet", "--python", sys.executable, str(folder)],
        ["pip", "install", "--quiet", "--python", str(found), "-c", str(root / "constraints.txt"), *packages],
    ):
        subprocess.run([tool, *arguments], check=True, timeout=600)
    return found


@pytest.fixture(scope="session")
def run(python: Path, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a function that runs one component as a team would, and gives its output folder."""

    def run(script: str, params: Mapping[str, Any] | None = None, *, seed: int = 0, **folders: Path) -> Path:
        output = tmp_path_factory.mktemp(script.removesuffix(".py"))
        told = {f"TAXIWAY_{name.upper()}_DIR": str(folder) for name, folder in folders.items()}
        told |= {"TAXIWAY_OUTPUT_DIR": str(output), "TAXIWAY_PARAMS": json.dumps(params or {})}
        told |= {"TAXIWAY_SEED": str(seed)}
        done = subprocess.run(
            [python, project / script],
            env={"PATH": os.defpath, "OMP_NUM_THREADS": "1", "PYTHONPYCACHEPREFIX": str(python.parent)}
            | told,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return output

    return run


@pytest.fixture(scope="session")
def digits(run: Run) -> Path:
    """Return the folder of all 5,000 digits."""
    return run("transform.py")


@pytest.fixture(scope="session")
def modest(run: Run, digits: Path) -> Path:
    """Return the output of training with the default parameters."""
    return run("train.py", data=digits)


@pytest.fixture(scope="session")
def tuned(run: Run, digits: Path) -> Path:
    """Return the output of training with parameters such as tuning finds."""
    return run("train.py", TUNED, data=digits)


@pytest.fixture(scope="session")
def serve(
    python: Path, modest: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Path], str]]:
    """Return a function that serves a project's folder with BentoML, and gives its URL."""
    with ExitStack() as servers:
        yield lambda folder: servers.enter_context(
            _served(folder, python, modest / "model", tmp_path_factory.mktemp("bento"))
        )


@contextmanager
def _served(folder: Path, python: Path, model: Path, home: Path) -> Iterator[str]:
    port = free_port()
    told = {"TAXIWAY_MODEL_DIR": str(model), "TAXIWAY_MODEL_VERSION": "1", "BENTOML_HOME": str(home)}
    told |= {"PATH": os.defpath, "HOME": str(home), "OMP_NUM_THREADS": "1", "BENTOML_DO_NOT_TRACK": "true"}
    command = [str(python), "-m", "bentoml", "serve", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            env=told | {"PYTHONPYCACHEPREFIX": str(python.parent)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, process, home / "log")
        yield url
    finally:
        _end(process)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + 240
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            if httpx.get(url + "/readyz", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(log.read_text())


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and its workers, which have sessions of their own."""
    workers = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    process.wait(120)
    for worker in psutil.wait_procs(workers, timeout=10)[1]:
        worker.kill()
