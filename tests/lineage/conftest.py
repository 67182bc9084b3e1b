"""Fixtures of the tests of lineage: beside those of `tests/projects.py`, a controller on a real socket."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway.datasets import DatasetVersion
from taxiway.packaging import package
from taxiway.registry import packages
from taxiway.settings import Settings
from tests.projects import commit_all, write_project
from tests.serving.plane import Plane
from tests.serving.test_feedback_api import TOKENS, Served

Registers = Callable[..., Path]


@pytest.fixture
def dataset(numbers: DatasetVersion) -> DatasetVersion:
    """Return a small dataset version of the session's data repository."""
    return numbers


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
