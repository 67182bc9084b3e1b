"""One file is enough to train a model again and to serve it, on a machine that has no network."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from taxiway.datasets import DatasetVersion
from taxiway.errors import InvalidSpecError
from taxiway.packaging import package
from taxiway.registry import packages
from taxiway.reproduction import bundle, recipe_files
from taxiway.reproduction.bundling import _replacing
from taxiway.settings import Settings
from taxiway.training import train

pytestmark = pytest.mark.slow

SERVE = """
    import json, socket, subprocess, sys, time, urllib.request
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen([sys.executable, sys.argv[1], "serve", "--port", str(port)]) as server:
        try:
            for _ in range(1500):
                try:
                    urllib.request.urlopen(url + "/readyz", timeout=10)
                    break
                except OSError:
                    assert server.poll() is None, "the server ended"
                    time.sleep(0.1)
            body = json.dumps({"x": 2.5}).encode()
            request = urllib.request.Request(url + "/predict", body, {"content-type": "application/json"})
            print("ANSWER", urllib.request.urlopen(request, timeout=60).read().decode())
        finally:
            server.terminate()
"""


def _can_isolate() -> bool:
    unshare = shutil.which("unshare")
    return unshare is not None and subprocess.run([unshare, "-n", "true"], check=False).returncode == 0


def alone(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run a command with no network but loopback, where the kernel lets us, and with no index in any case."""
    shown = " ".join(f"'{part}'" for part in command)
    isolated = ["unshare", "-n", "sh", "-c", f"ip link set lo up; exec {shown}"]
    argv = isolated if _can_isolate() else [str(part) for part in command]
    offline = {"UV_OFFLINE": "1", "PIP_NO_INDEX": "1", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(argv, env=offline, capture_output=True, text=True, check=False, timeout=600)


CONTINUE = """import os, pathlib
source = pathlib.Path(os.environ["TAXIWAY_SOURCE_MODELS_DIR"]) / "{handle}" / "weights.json"
print("it began with", source.read_text())
"""


@pytest.fixture
def bundled(
    equipped: Path,
    handle: str,
    dataset: DatasetVersion,
    live: Settings,
    tmp_path: Path,
    commit: Callable[..., str],
) -> Path:
    """Return the bundle of a model that begins with another one, and is trained by a published library."""
    train(handle, dataset, live, params={"c": 0.75})
    pyproject, script = equipped / "pyproject.toml", equipped / "train.py"
    own = "params = { c = 0.5 }"
    pyproject.write_text(pyproject.read_text().replace(own, f'{own}\nsource_models = ["{handle}@1"]', 1))
    script.write_text(CONTINUE.format(handle=handle) + script.read_text())
    commit(equipped)
    packages.register(package(str(equipped), live, kinds=["training"]), live)
    made = train(handle, dataset, live, params={"c": 0.25})
    assert (made.version, dict(made.source_models)) == (2, {handle: 1})
    workflow = tmp_path / "dag.py"
    workflow.write_text("# a DAG\n")
    return bundle(handle, 2, live, into=tmp_path, workflow=workflow)


def test_bundle_trains_and_serves_without_a_network(bundled: Path, handle: str, tmp_path: Path) -> None:
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [bundled.name, "dag.py"]
    checked = alone(sys.executable, bundled, "verify")
    assert "each as it was bundled" in checked.stdout, checked.stderr
    trained = alone(sys.executable, bundled, "train")
    assert 'it began with {"c": 0.75}' in trained.stdout
    assert "the kit was told 0.25" in trained.stdout
    assert "the registered model, byte for byte" in trained.stdout, trained.stdout + trained.stderr
    script = tmp_path / "serve.py"
    script.write_text(textwrap.dedent(SERVE))
    served = alone(sys.executable, script, bundled)
    assert "ANSWER 2.5" in served.stdout, served.stdout + served.stderr
    with zipfile.ZipFile(bundled) as archive:
        names = archive.namelist()
        assert json.loads(archive.read("bundle.json"))["version"] == 2
    assert "workflow/dag.py" in names
    assert any(name.startswith("wheels/bentoml-") for name in names)
    assert {"training/data/numbers.txt", f"source_models/{handle}/weights.json"} <= set(names)
    _check_forged(bundled, tmp_path)


def _check_forged(bundled: Path, tmp_path: Path) -> None:
    forged = tmp_path / "forged.pyz"
    with zipfile.ZipFile(bundled) as source, zipfile.ZipFile(forged, "w") as target:
        for name in source.namelist():
            if not name.startswith("wheels/"):
                target.writestr(name, b"other" if name == "model/weights.json" else source.read(name))
    done = alone(sys.executable, forged, "verify")
    assert done.returncode == 1
    assert "is not what was bundled" in done.stderr


@pytest.mark.parametrize("command", ["train", "serve"])
def test_bundle_for_a_python_that_is_not_there_says_which(tmp_path: Path, command: str) -> None:
    other = tmp_path / "other.pyz"
    recipe = json.dumps({"python": "3.99"}).encode()
    members = {"training/recipe.json": hashlib.sha256(recipe).hexdigest()}
    manifest = {"handle": "tiny", "version": 1, "inference": {"python": "3.99"}, "files": members}
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("training/recipe.json", recipe)
        archive.writestr("bundle.json", json.dumps(manifest))
        for name in ("__main__.py", "reproduce.py"):
            archive.writestr(name, recipe_files.script(name))
    done = alone(sys.executable, other, command)
    assert done.returncode == 1
    assert done.stderr.startswith("the model was trained with Python 3.99, this is ")
    assert done.stderr.endswith("there is no python3.99; install it\n")


def _fill_the_disk(target: Path) -> None:
    with _replacing(target) as draft:
        draft.write_text("half of the n")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_bundle_that_cannot_be_written_leaves_nothing_and_keeps_the_one_before(tmp_path: Path) -> None:
    target = tmp_path / "digits-1.pyz"
    target.write_text("the one before")
    with pytest.raises(OSError, match="No space left"):
        _fill_the_disk(target)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(target.name, "the one before")]


def test_bundle_needs_the_workflow_that_is_named(handle: str, live: Settings, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpecError, match="is no file"):
        bundle(handle, 1, live, into=tmp_path, workflow=tmp_path / "absent.py")
