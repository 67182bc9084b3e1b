"""A real BentoML service as a variant: adopted, killed, started again, ended whole."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from uv import find_uv_bin

from taxiway_serving.answers import Answer
from taxiway_serving.contracts import Until
from taxiway_serving.names import VariantId
from taxiway_serving.runtimes.process import ProcessRuntime
from taxiway_serving.runtimes.runtime import VariantSpec
from tests.serving.conftest import processes_of, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FIRST = VariantId(handle="digits", version=1)

SERVICE = """
import os
from pathlib import Path

import bentoml


@bentoml.service
class Digits:
    def __init__(self) -> None:
        self.weight = Path(os.environ["TAXIWAY_MODEL_DIR"], "weight.txt").read_text()

    @bentoml.api
    def predict(self, x: int = 0) -> dict:
        return {"weight": self.weight, "version": os.environ["TAXIWAY_MODEL_VERSION"]}
"""

BUILD = """
import sys

import bentoml

unlocked = {"lock_packages": False}
bento = bentoml.build("service:Digits", name="digits", version="test", build_ctx=sys.argv[1], python=unlocked)
sys.stderr.write(f"bento at {bento.path}")
"""


@pytest.fixture(scope="module")
def bento_python(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a throw-away environment with BentoML."""
    uv, folder = find_uv_bin(), tmp_path_factory.mktemp("bento") / "env"
    python = folder / "bin" / "python"
    subprocess.run([uv, "venv", "-q", str(folder)], check=True, timeout=60)
    install = [uv, "pip", "install", "-q", "--compile-bytecode", "--python", str(python)]
    subprocess.run([*install, "-c", str(root / "constraints.txt"), "bentoml"], check=True, timeout=280)
    return python


@pytest.fixture(scope="module")
def bento(bento_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a Bento whose answer is its model's file."""
    source, home = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("bentoml")
    (source / "service.py").write_text(SERVICE)
    path = os.pathsep.join((str(Path(find_uv_bin()).parent), os.environ["PATH"]))
    env = {**os.environ, "BENTOML_HOME": str(home), "PATH": path}
    subprocess.run(
        [str(bento_python), "-c", BUILD, str(source)], env=env, cwd=source, check=True, timeout=120
    )
    return home / "bentos" / "digits" / "test"


@pytest.fixture
def spec(
    bento: Path, bento_python: Path, tmp_path: Path, make_spec: Callable[..., VariantSpec]
) -> VariantSpec:
    model = tmp_path / "model"
    model.mkdir()
    (model / "weight.txt").write_text("7 kg")
    return make_spec(1, bento_dir=bento, python=bento_python, model_dir=model)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "home"
    for process in processes_of(tmp_path):
        process.kill()


def wait_ready(runtime: ProcessRuntime) -> None:
    wait_until(lambda: runtime.ready(FIRST) is Answer.YES, deadline_s=180)


def predict(runtime: ProcessRuntime) -> object:
    port = runtime.observe()[FIRST].port
    answer = httpx.post(f"http://127.0.0.1:{port}/predict", json={"x": 1}, timeout=60, trust_env=False)
    return answer.raise_for_status().json()


def test_bento_is_adopted_started_again_and_ended_whole(
    folder: Path, spec: VariantSpec, until: Until
) -> None:
    first = ProcessRuntime(folder)
    first.ensure(spec)
    wait_ready(first)
    assert predict(first) == {"weight": "7 kg", "version": "1"}
    first.close()

    heir = ProcessRuntime(folder)
    heir.ensure(spec)
    pid = heir.observe()[FIRST].pid
    assert pid == first.observe()[FIRST].pid
    assert pid is not None
    orphans = {process.pid for process in processes_of(folder)} - {pid}
    os.kill(pid, signal.SIGKILL)
    until(lambda: heir.observe()[FIRST].phase == "failed")
    assert orphans
    assert orphans <= {process.pid for process in processes_of(folder)}

    heir.ensure(spec)
    assert not orphans & {process.pid for process in processes_of(folder)}
    wait_ready(heir)
    assert heir.observe()[FIRST].restarts == 1
    assert predict(heir) == {"weight": "7 kg", "version": "1"}
    heir.stop(FIRST, grace_s=10)
    assert processes_of(folder) == []
    heir.close()


def test_bento_that_cannot_load_its_model_says_why_and_is_ended_whole(
    folder: Path, spec: VariantSpec, until: Until
) -> None:
    assert spec.model_dir
    (spec.model_dir / "weight.txt").unlink()
    runtime = ProcessRuntime(folder)
    runtime.ensure(spec)
    wait_until(lambda: "weight.txt" in runtime.logs(FIRST, tail=200), deadline_s=180)
    assert runtime.ready(FIRST) is not Answer.YES
    assert runtime.observe()[FIRST].phase == "starting"
    runtime.stop(FIRST, grace_s=10)
    until(lambda: processes_of(folder) == [])
    assert not [p for p in psutil.process_iter() if str(folder) in " ".join(_cmdline(p))]
    runtime.close()


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
