"""Fixtures of the tests of reproduction: beside those of `tests/projects.py`, a registered project."""

from pathlib import Path

import pytest

from taxiway import research
from taxiway.packaging import package
from taxiway.registry import packages
from taxiway.settings import Settings
from tests.projects import commit_all


@pytest.fixture
def registered(handled: Path, live: Settings) -> Path:
    """Return the project, its training and inference packages registered."""
    packages.register(package(str(handled), live, kinds=["training", "inference"]), live)
    return handled


@pytest.fixture
def equipped(handled: Path, handle: str, live: Settings, tmp_path: Path) -> Path:
    """Return the project, registered, whose training is done by a library that somebody published."""
    kit = f"kit_{handle[-8:]}"
    source = tmp_path / "kit" / kit
    source.mkdir(parents=True)
    (source / "__init__.py").write_text("def tell(c):\n    return f'the kit was told {c}'\n")
    library = research.publish(source.parent, kit.replace("_", "-"), "1.0", settings=live)
    for name, old, new in (
        ("pyproject.toml", "training = []", f'training = ["{library.requirement}"]'),
        ("train.py", 'c = params["c"]', f'import {kit}\nc = params["c"]\nprint({kit}.tell(c))'),
    ):
        text = (handled / name).read_text()
        assert old in text
        (handled / name).write_text(text.replace(old, new, 1))
    commit_all(handled)
    packages.register(package(str(handled), live, kinds=["training", "inference"]), live)
    return handled
