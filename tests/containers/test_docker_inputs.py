"""How a component in a container comes by its data, its models and its secrets, wherever the engine is."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taxiway.engine import Engine
from taxiway.packaging.image import Image
from taxiway.runners import DockerRunner, Inputs, Job, delivery, disk
from tests.containers.conftest import bare_runner, begun, containers_of, mounted

pytestmark = [pytest.mark.docker, pytest.mark.slow]
Until = Callable[..., None]


@pytest.mark.parametrize("way", ["mount", "copy"])
def test_inputs_come_in_whichever_way(
    tmp_path: Path, plain_image: Image, engine: Engine, make: Callable[..., Job], way: str
) -> None:
    """A model behind a link, a file that only its owner may read, and many files: all are there, and read-only."""
    data, model, sources = tmp_path / "data", tmp_path / "model", tmp_path / "sources"
    for folder in (data / "deep", model, sources):
        folder.mkdir(parents=True)
    (data / "deep" / "x").write_text("data")
    (data / "private").write_text("mine")
    (data / "private").chmod(0o600)
    (model / "weights").write_text("model")
    (sources / "older").symlink_to(model)
    script = """
import os, pathlib
read = lambda name, path: pathlib.Path(os.environ[name], path).read_text()
print(read("TAXIWAY_DATA_DIR", "deep/x"), read("TAXIWAY_DATA_DIR", "private"), read("TAXIWAY_MODEL_DIR", "weights"))
print(read("TAXIWAY_SOURCE_MODELS_DIR", "older/weights"), os.access(os.environ["TAXIWAY_MODEL_DIR"], os.W_OK))
"""
    lines: list[str] = []
    runner = bare_runner(tmp_path, plain_image, engine, inputs=way)
    result = runner.run(
        make(script, inputs=Inputs(data_dir=data, model_dir=model, source_models_dir=sources)), lines.append
    )
    assert lines[1:] == ["data mine model", "model False"]
    assert result.trace
    assert result.trace.read == {"dataset": 2, "model": 1, "source models": 1}


def test_inputs_that_the_engine_cannot_see_are_sent_to_it(
    tmp_path: Path,
    plain_image: Image,
    engine: Engine,
    make: Callable[..., Job],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when Airflow itself is in a container: its paths mean nothing to the engine."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "x").write_text("data")
    monkeypatch.setattr(
        "taxiway.runners.delivery.bind",
        lambda _, target: {"Type": "bind", "Source": "/only/in/airflow", "Target": target, "ReadOnly": True},
    )
    lines: list[str] = []
    job = make("print(open('/taxiway/data/x').read())", inputs=Inputs(data_dir=data))
    bare_runner(tmp_path, plain_image, engine).run(job, lines.append)
    assert lines[-1] == "data"


def test_secrets_are_files_in_memory_and_nowhere_else(
    bare: DockerRunner, make: Callable[..., Job], tmp_path: Path, engine: Engine, client: Any, until: Until
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "token").write_text("s3cret")
    script = """
import os, pathlib, time
folder = pathlib.Path(os.environ["TAXIWAY_SECRETS_DIR"])
kind = [line.split()[2] for line in open("/proc/mounts") if line.split()[1] == str(folder)]
print(len((folder / "token").read_text()), oct((folder / "token").stat().st_mode)[-3:], *kind, flush=True)
time.sleep(600)
"""
    with begun(bare, make(script, inputs=Inputs(secrets_dir=secrets)), until, "6 400 tmpfs") as heard:
        (name,) = containers_of(engine, bare)
        shown = json.dumps(client.inspect_container(name))
        heard.stop.request()
    assert "TAXIWAY_SECRETS_DIR" in shown
    assert "s3cret" not in shown


def test_folder_of_the_same_name_on_the_engines_host_is_not_mounted(
    bare: DockerRunner, engine: Engine, plain_image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written here must be read there: a path alone says nothing."""
    labels = {"taxiway.job": "true", "taxiway.owner": bare._attendance.owner()}
    assert disk.is_shared(engine, tmp_path / "home", plain_image.id, labels)
    other = tmp_path / "elsewhere"
    other.mkdir()
    monkeypatch.setattr(
        "taxiway.runners.delivery.bind",
        lambda _, target: {"Type": "bind", "Source": str(other), "Target": target, "ReadOnly": True},
    )
    assert not disk.is_shared(engine, tmp_path / "home", plain_image.id, labels)
    assert containers_of(engine, bare) == []
    assert not list((tmp_path / "home").glob(".proof*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")
def test_each_disk_is_asked_for(
    bare: DockerRunner, make: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine sees this host's disk, and where another one is mounted here it has an old folder."""
    disk_here, old, model = tmp_path / "mounted", tmp_path / "old", tmp_path / "model"
    for folder in (disk_here, old / "data", model):
        folder.mkdir(parents=True)
    (old / "data" / "x").write_text("old")
    (model / "x").write_text("model")
    bind = delivery.bind

    def seen(folder: Path, target: str) -> dict[str, Any]:
        is_there = folder.is_relative_to(disk_here)
        return bind(old / folder.relative_to(disk_here) if is_there else folder, target)

    monkeypatch.setattr("taxiway.runners.delivery.bind", seen)
    with mounted(disk_here, "size=1m,mode=755"):
        (disk_here / "data").mkdir()
        (disk_here / "data" / "x").write_text("new")
        lines: list[str] = []
        script = "for name in ('data', 'model'):\n    print(open(f'/taxiway/{name}/x').read())\n"
        bare.run(make(script, inputs=Inputs(data_dir=disk_here / "data", model_dir=model)), lines.append)
        assert lines[1:] == ["new", "model"]
        assert disk.disk_of(model) == disk.disk_of(tmp_path) != disk.disk_of(disk_here / "data")
