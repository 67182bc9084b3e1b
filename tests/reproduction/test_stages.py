"""A registered model is trained again from a clone of the data repository, with Git and DVC alone."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway import component
from taxiway.datasets import DatasetVersion, repository
from taxiway.packaging import package
from taxiway.registry import models, packages
from taxiway.reproduction import leave
from taxiway.reproduction.standalone import reproduce
from taxiway.settings import Settings
from taxiway.tools import remove
from taxiway.training import train

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent


def clone(settings: Settings, tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", settings.data_repository, folder], check=True)
    return folder


def repro(folder: Path, stage: str) -> str:
    """Run DVC in an environment that knows neither Airflow, MLflow nor Taxiway."""
    known = {name: os.environ[name] for name in ("HOME", "UV_CACHE_DIR")}
    done = subprocess.run(
        [BIN / "dvc", "repro", f"models/{stage}/dvc.yaml"],
        cwd=folder,
        env={**known, "PATH": f"{BIN}{os.pathsep}/usr/bin{os.pathsep}/bin", "DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_model_is_trained_again_from_a_clone(
    equipped: Path, handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path
) -> None:
    made = train(handle, dataset, live, params={"c": 0.25}, seed=7)
    assert leave(made, live) == f"models/{handle}@v1"
    remove(live.home)
    folder = clone(live, tmp_path)
    said = repro(folder, f"{handle}/v1")
    stage = folder / "models" / handle / "v1"
    assert models.hash_of(stage / "model") == made.model_hash
    assert json.loads((stage / "metrics.json").read_text()) == made.metrics
    assert "byte for byte" in said
    assert "the kit was told 0.25" in said, "which no index has: its wheel lies beside the stage"
    assert "didn't change" in repro(folder, f"{handle}/v1")


def test_stage_goes_on_in_the_python_that_its_lock_was_made_for(tmp_path: Path) -> None:
    """DVC runs `python3`, whichever that is; the one of the model is found by its name, or asked for."""
    script = tmp_path / "reproduce.py"
    script.write_text(Path(reproduce.__file__).read_text())
    (tmp_path / "recipe.json").write_text(json.dumps({"python": "3.99"}))
    missing = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert missing.returncode == 1
    assert "there is no python3.99; install it" in missing.stderr
    other = tmp_path / "bin" / "python3.99"
    other.parent.mkdir()
    other.write_text('#!/bin/sh\necho "went on with $@"\n')
    other.chmod(0o755)
    found = subprocess.run(
        [sys.executable, script, "--check"],
        env={"PATH": str(other.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == f"went on with {script} --check\n"


def test_parameters_that_are_edited_train_another_model(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path
) -> None:
    leave(train(handle, dataset, live, params={"c": 0.25}), live)
    folder = clone(live, tmp_path)
    recipe = folder / "models" / handle / "v1" / "recipe.json"
    recipe.write_text(recipe.read_text().replace("0.25", "0.9"))
    assert "another model: score 0.64 instead of 0.9975" in repro(folder, f"{handle}/v1")


def test_stage_is_left_once_by_training_itself(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings, commit: Callable[..., str]
) -> None:
    made = train(handle, dataset, live, params={"c": 0.5})
    before = repository.head(live.data_repository)
    assert leave(made, live) == leave(made, live)
    assert repository.head(live.data_repository) == before
    assert list(repository.tagged(live.data_repository, f"models/{handle}")) == [1]

    # MLflow forgot the handle and counts anew: the number is another model's now, and so is the stage, all of it.
    (registered / "train.py").rename(registered / "fit.py")
    pyproject = registered / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace("train.py", "fit.py"))
    commit(registered)
    (code,) = packages.register(package(str(registered), live, kinds=["training"]), live)
    other = replace(made, model_hash="f" * 64, params={"c": 0.9}, training_digest=code.digest)
    assert leave(other, live) == leave(other, live) == f"models/{handle}@v1-ffffffff"
    stage = repository.git(live.data_repository, "show", f"HEAD:models/{handle}/v1/recipe.json")
    assert json.loads(stage)["expected"]["model_hash"] == other.model_hash
    folder = f"models/{handle}/v1/code/"
    assert repository.git(live.data_repository, "ls-tree", "--name-only", "HEAD", folder).split() == [
        f"{folder}fit.py"
    ]
    assert [path.name for path in (live.data_repository / folder).iterdir()] == ["fit.py"]
    assert leave(made, live) == f"models/{handle}@v1"


def test_source_model_is_reproduced_first(
    registered: Path,
    handle: str,
    dataset: DatasetVersion,
    live: Settings,
    tmp_path: Path,
    commit: Callable[..., str],
) -> None:
    train(handle, dataset, live, params={"c": 0.4})
    child = f"{handle[:50]}_child"
    text = (registered / "pyproject.toml").read_text().replace(f'"{handle}"', f'"{child}"')
    own = f'params = {{ c = 0.5 }}\nsource_models = ["{handle}@1"]'
    (registered / "pyproject.toml").write_text(text.replace("params = { c = 0.5 }", own))
    (registered / "train.py").write_text(CONTINUE.format(source=handle))
    commit(registered)
    packages.register(package(str(registered), live, kinds=["training", "inference"]), live)
    made = train(child, dataset, live)
    folder = clone(live, tmp_path)
    repro(folder, f"{child}/v1")
    assert models.hash_of(folder / "models" / child / "v1" / "model") == made.model_hash
    assert json.loads((folder / "models" / child / "v1" / "model" / "weights.json").read_text()) == {"c": 0.4}


CONTINUE = """
import json, os, pathlib
source = pathlib.Path(os.environ["TAXIWAY_SOURCE_MODELS_DIR"]) / "{source}" / "weights.json"
output = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
(output / "model").mkdir()
(output / "model" / "weights.json").write_text(source.read_text())
(output / "metrics.json").write_text(json.dumps({{"score": json.loads(source.read_text())["c"]}}))
"""


def test_standalone_numbers_are_the_registry_s(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.json").write_text("{}")
    (tmp_path / "metrics.json").write_text(
        json.dumps({"score": 0.5, "converged": True, "of": {"late": False}})
    )
    metrics = component.read_metrics(tmp_path)
    same, words = reproduce.compare(tmp_path, {"model_hash": "another processor's", "metrics": metrics})
    assert (same, metrics["converged"]) == (True, 1.0), words


def test_standalone_hash_is_the_registry_s(tmp_path: Path) -> None:
    for name, content in {"a.bin": b"\x00\xff", "deep/b.txt": b"b", "MLmodel": b"not counted"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "a.bin").chmod(0o755)
    assert reproduce.content_hash(tmp_path) == models.hash_of(tmp_path)
