"""Fixtures of whatever works on model projects: tiny ones, one MLflow server a session, settings for each test."""

import hashlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway.datasets import DatasetVersion, snapshot
from taxiway.settings import Settings
from taxiway.tools import run
from tests.ports import free_port

PYPROJECT = """
[project]
name = "tiny"
requires-python = ">=3.11"
[dependency-groups]
training = []
inference = ["bentoml>=1.4"]
[tool.taxiway]
handle = "{handle}"
[tool.taxiway.transform]
command = "python transform.py"
files = ["transform.py"]
[tool.taxiway.training]
command = "python train.py"
files = ["train.py"]
params = {{ c = 0.5 }}
[tool.taxiway.evaluation]
command = "python evaluate.py"
files = ["evaluate.py"]
minimum = {{ score = 0.9 }}
compare = "score"
tolerance = 0.01
inconclusive = "pass"
[tool.taxiway.inference]
service = "service:Tiny"
files = ["service.py"]
[tool.taxiway.sla]
p99_ms = 250
availability = 0.99
rate_rps = 20
[tool.taxiway.tuning]
metric = "score"
direction = "maximize"
space = {{ c = {{ type = "float", low = 0.0, high = 1.0 }} }}
"""

TRANSFORM = """
import os, pathlib
output = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
(output / "numbers.txt").write_text("1 2 3")
"""

# `hold` names a file: while it exists, training waits, which is when a test ends it.
TRAIN = """
import json, os, pathlib, time
params = json.loads(os.environ["TAXIWAY_PARAMS"])
output = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
(output / "model").mkdir()
hold = pathlib.Path(params.get("hold", "/nowhere"))
if hold.exists():
    (output / "model" / "half-written.bin").write_text("half")
    hold.with_suffix(".pid").write_text(str(os.getpid()))
    while hold.exists():
        time.sleep(0.05)
c = params["c"]
if c < params.get("fail_below", -1.0):
    raise SystemExit("c is too small")
print("training with", c, flush=True)
(output / "model" / "weights.json").write_text(json.dumps({"c": c}))
(output / "metrics.json").write_text(json.dumps({"score": 1 - (c - 0.3) ** 2}))
"""

EVALUATE = """
import json, os, pathlib
weights = json.loads((pathlib.Path(os.environ["TAXIWAY_MODEL_DIR"]) / "weights.json").read_text())
score = 1 - (weights["c"] - 0.3) ** 2
output = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
(output / "metrics.json").write_text(json.dumps({"score": score, "per_class": {"a": score}}))
"""

SERVICE = """
import bentoml

@bentoml.service(name="tiny")
class Tiny:
    @bentoml.api
    def predict(self, x: float) -> float:
        return x
"""


def write_project(folder: Path, handle: str = "tiny") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "pyproject.toml": PYPROJECT.format(handle=handle),
        "transform.py": TRANSFORM,
        "train.py": TRAIN,
        "evaluate.py": EVALUATE,
        "service.py": SERVICE,
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def commit_all(folder: Path, message: str = "more") -> str:
    """Commit everything in a folder, made a Git repository first, and return the commit."""
    if not (folder / ".git").exists():
        run(["git", "init", "--quiet", "--initial-branch", "main"], cwd=folder)
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    run(["git", "add", "--all"], cwd=folder)
    run(["git", *identity, "commit", "--quiet", "--allow-empty", "--message", message], cwd=folder)
    return run(["git", "rev-parse", "HEAD"], cwd=folder).strip()


@pytest.fixture
def commit() -> Callable[..., str]:
    """Return a function that commits everything in a folder."""
    return commit_all


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a tiny model project that keeps the contract."""
    return write_project(tmp_path / "project")


@pytest.fixture
def handle(request: pytest.FixtureRequest) -> str:
    """Return a handle of the test's own, so that tests share one registry and no versions."""
    name = request.node.name.removeprefix("test_")
    readable = "".join(letter if letter.isalnum() else "_" for letter in name.lower())
    return f"{readable[:50]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@pytest.fixture
def handled(tmp_path: Path, handle: str) -> Path:
    """Return a tiny model project under the test's own handle, committed to Git."""
    folder = write_project(tmp_path / "project", handle)
    commit_all(folder)
    return folder


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for what is named by its content and may be shared by tests: environments and locks."""
    folder = tmp_path_factory.mktemp("shared")
    for name in ("environments", "locks"):
        (folder / name).mkdir()
    return folder


@pytest.fixture
def settings(tmp_path: Path, shared: Path, root: Path) -> Settings:
    """Return settings of a home of the test's own, with no server behind them."""
    return settings_in(tmp_path / "home", shared, root, tracking_uri="http://127.0.0.1:9")


@pytest.fixture
def live(tmp_path: Path, shared: Path, root: Path, mlflow_uri: str) -> Settings:
    """Return settings of a home of the test's own, with the session's MLflow server and data repository."""
    made = settings_in(tmp_path / "home", shared, root, tracking_uri=mlflow_uri)
    return replace(made, data_repository=shared / "datasets", data_remote=str(shared / "dvc-remote"))


@pytest.fixture(scope="session")
def numbers(shared: Path) -> DatasetVersion:
    """Return a small dataset version, taken once: DVC's commands take seconds."""
    folder = shared / "numbers"
    folder.mkdir()
    (folder / "numbers.txt").write_text("1 2 3")
    settings = Settings(
        home=shared / "home", data_repository=shared / "datasets", data_remote=str(shared / "dvc-remote")
    )
    return snapshot(folder, "numbers", settings)


@pytest.fixture
def dataset(numbers: DatasetVersion, live: Settings, shared: Path) -> DatasetVersion:
    """Return a small dataset version whose bytes are on the test's host."""
    (shared / "home" / "data").mkdir(parents=True, exist_ok=True)
    (live.home / "data").symlink_to(shared / "home" / "data")
    return numbers


def settings_in(home: Path, shared: Path, root: Path, *, tracking_uri: str) -> Settings:
    home.mkdir(exist_ok=True)
    for name in ("environments", "locks"):
        (home / name).symlink_to(shared / name)
    return Settings(
        home=home,
        tracking_uri=tracking_uri,
        data_repository=home / "datasets",
        data_remote=str(home / "dvc-remote"),
        constraints=root / "constraints.txt",
    )


@pytest.fixture(scope="session")
def mlflow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the session's MLflow server keeps its database and, in `artifacts/`, its files."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="session")
def mlflow_uri(mlflow_folder: Path) -> Iterator[str]:
    """Start MLflow's server on SQLite, once; a database that several processes open first would stay broken."""
    folder = mlflow_folder
    mlflow, store = Path(sys.executable).parent / "mlflow", f"sqlite:///{folder}/mlflow.db"
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    subprocess.run(
        [mlflow, "db", "upgrade", store], check=True, capture_output=True, env=environment, timeout=600
    )
    port = free_port()
    command = [
        str(mlflow),
        "server",
        "--backend-store-uri",
        store,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    command += ["--artifacts-destination", f"{folder}/artifacts", "--workers", "1"]
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: server.poll() is not None or answers(f"http://127.0.0.1:{port}/health"), 400)
        assert server.poll() is None, (folder / "log.txt").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(120)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def wait_until(is_true: Callable[[], bool], deadline_s: float = 120.0) -> None:
    end = time.monotonic() + deadline_s
    while not is_true():
        assert time.monotonic() < end, f"not within {deadline_s} s"
        time.sleep(0.05)


@pytest.fixture
def until() -> Callable[..., None]:
    """Return a function that waits until something is true."""
    return wait_until
