"""Fixtures of the tests of reproduction: beside those of `tests/projects.py`, a registered project."""

from pathlib import Path

import pytest

from taxiway.packaging import package
from taxiway.registry import packages
from taxiway.settings import Settings


@pytest.fixture
def registered(handled: Path, live: Settings) -> Path:
    """Return the project, its training and inference packages registered."""
    packages.register(package(str(handled), live, kinds=["training", "inference"]), live)
    return handled
