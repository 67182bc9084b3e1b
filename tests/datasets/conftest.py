"""Fixtures of the datasets' tests: settings of a home of their own, folders of data, a bare origin and its clones."""

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from taxiway.datasets import repository
from taxiway.settings import Settings

Clone = Callable[[str], Settings]


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files into a folder and return it."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def settings_in(home: Path, remote: Path) -> Settings:
    """Return settings of a host whose data go to a remote."""
    home.mkdir(parents=True, exist_ok=True)
    return Settings(home=home, data_repository=home / "datasets", data_remote=str(remote))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of a host of the test's own."""
    return settings_in(tmp_path / "home", tmp_path / "remote")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a folder with three files."""
    return write(tmp_path / "data", {"a.txt": "one", "b.txt": "two", "deep/c.txt": "three"})


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    """Return a function that makes a host by its name, whose data repository is a clone of one shared origin."""
    origin = tmp_path / "origin.git"
    subprocess.run(["git", "init", "-q", "--bare", "--initial-branch=main", origin], check=True)

    def made(name: str) -> Settings:
        found = settings_in(tmp_path / name, tmp_path / "remote")
        subprocess.run(["git", "clone", "-q", origin, found.data_repository], check=True, capture_output=True)
        return found

    return made


def log_of(settings: Settings) -> list[str]:
    """Return the subjects of the commits of a data repository, the newest first."""
    return repository.git(settings.data_repository, "log", "--format=%s").splitlines()
