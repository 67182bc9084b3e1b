"""Fixtures of the tests of reproduction: those of the library's tests, and a registered project."""

from pathlib import Path

import pytest

from taxiway.packaging import package
from taxiway.registry import packages
from taxiway.settings import Settings
from tests.library.conftest import (
    commit,
    dataset,
    handle,
    handled,
    live,
    mlflow_folder,
    mlflow_uri,
    numbers,
    shared,
)

__all__ = [
    "commit",
    "dataset",
    "handle",
    "handled",
    "live",
    "mlflow_folder",
    "mlflow_uri",
    "numbers",
    "shared",
]


@pytest.fixture
def registered(handled: Path, live: Settings) -> Path:
    """Return the project, its training and inference packages registered."""
    packages.register(package(str(handled), live, kinds=["training", "inference"]), live)
    return handled
