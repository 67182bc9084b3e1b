"""Fixtures of the tests of lineage: beside those of `tests/projects.py`, a watched script, a controller on a socket."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway.datasets import DatasetVersion
from taxiway.packaging import Materialised, package
from taxiway.registry import packages, tracking
from taxiway.registry.models import TRACE, UNTRACEABLE
from taxiway.registry.reading import Version
from taxiway.runners import Inputs, Job, ProcessRunner
from taxiway.settings import Settings
from taxiway.trace import Trace
from tests.library.jobs import tiny_package
from tests.projects import commit_all, write_project
from tests.serving.interface import TOKENS
from tests.serving.plane import Plane
from tests.serving.test_feedback_api import Served

Registers = Callable[..., Path]
Watched = Callable[..., Trace]
Makes = Callable[..., Version]
TRAINING, INFERENCE = "a" * 64, "b" * 64


@pytest.fixture
def dataset(numbers: DatasetVersion) -> DatasetVersion:
    """Return a small dataset version of the session's data repository."""
    return numbers


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    """Return a function that runs a script, in its own folder, and returns what was seen of it."""

    def run(
        script: str,
        *,
        command: str = "python main.py",
        inputs: Inputs | None = None,
        vouched: tuple[str, ...] = (),
        **files: str,
    ) -> Trace:
        source = tmp_path / "source"
        source.mkdir(exist_ok=True)
        for name, text in {"main.py": script, **{f"{name}.py": text for name, text in files.items()}}.items():
            (source / name).write_text(text)
        package = tiny_package(command)
        package = replace(package, manifest={**package.manifest, "programs": vouched})
        job = Job(package=package, folder=tmp_path / "job", inputs=inputs or Inputs())
        runner = ProcessRunner(lambda _: Materialised(source_dir=source, python=Path(sys.executable)))
        found = runner.run(job, print).trace
        assert found is not None
        return found

    return run


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Return a file that no component may read unseen."""
    path = tmp_path / "other.csv"
    path.write_text("1,2,3\n")
    return path


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Return a controller in memory, with its interface on a real socket."""
    with ExitStack() as stack:
        plane = stack.enter_context(closing(Plane(tmp_path / "plane")))
        yield stack.enter_context(closing(Served(plane)))


@pytest.fixture
def watching(live: Settings, served: Served) -> Settings:
    """Return settings with that controller, the session's MLflow server and its data repository."""
    return replace(live, controller_url=served.url, controller_token=TOKENS["viewer"])


@pytest.fixture
def make(handle: str, dataset: DatasetVersion, watching: Settings) -> Makes:
    """Return a function that puts a model version into MLflow, as a training would have left it."""

    def create(
        name: str = handle,
        *,
        sources: Mapping[str, int] | None = None,
        untraceable: tuple[str, ...] = (),
        dataset: DatasetVersion = dataset,
    ) -> Version:
        experiment = tracking.ensure_experiment(name, watching)
        run = tracking.create_run(experiment, "train", {}, watching)
        tracking.ensure_registered_model(name, {}, watching)
        told = {
            "key": "k" * 64,
            "training_digest": TRAINING,
            "inference_digest": INFERENCE,
            "dataset": dataset.to_json(),
            "params": {"c": 0.5},
            "metrics": {"score": 0.9},
            "model_hash": "m" * 64,
            "source_models": dict(sources or {}),
            "untraceable": list(untraceable),
        }
        trace = Trace(
            source_hash="s" * 64, method="audit hook", read={"dataset": 3}, hosts=("example.org:443",)
        )
        tags = {"taxiway.lineage": json.dumps(told), TRACE: json.dumps(trace.to_json()), "taxiway.seed": "7"}
        tags |= {UNTRACEABLE: "; ".join(untraceable)} if untraceable else {}
        tags |= {"taxiway.airflow.dag_id": "paths"}
        return tracking.create_version(name, run.run_id, "model", tags, "", watching)

    return create


@pytest.fixture
def register(tmp_path: Path, live: Settings) -> Registers:
    """Return a function that writes a project with a training script, commits it and registers what it needs."""

    def write(name: str, script: str | None = None, *, table: str = "", is_committed: bool = True) -> Path:
        folder = write_project(tmp_path / f"project-{name}", name)
        if script is not None:
            (folder / "train.py").write_text(script)
        document = folder / "pyproject.toml"
        document.write_text(
            document.read_text().replace("params = { c = 0.5 }", f"params = {{ c = 0.5 }}\n{table}")
        )
        if is_committed or not (folder / ".git").exists():
            commit_all(folder)
        packages.register(package(str(folder), live, kinds=["training", "inference"]), live)
        return folder

    return write
