"""The commands on a machine that lacks something say what it lacks, and leave no half-made environment."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = "examples/visual_recognition/pyproject.toml"
FILES = ("Makefile", "pyproject.toml", "constraints.txt", "serving/pyproject.toml", PROJECT)


@pytest.fixture
def clone(root: Path, tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, tmp_path / name)
    return tmp_path


def make(clone: Path, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"PATH": path} if path else {})
    command = [str(shutil.which("make")), *arguments]
    return subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)


def interpreter(folder: Path, version: str) -> Path:
    """Return a stand-in that answers as a Python of that version would, and makes nothing."""
    major, minor = version.split(".")
    script = folder / f"python{version}"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = -V ] && echo "Python {version}.0" && exit\n[ {major}{minor} -ge 311 ] && exit 0\nexit 1\n'
    )
    script.chmod(0o755)
    return script


def test_old_python_is_named_with_what_is_needed(clone: Path) -> None:
    refused = make(clone, "install", f"PYTHON={interpreter(clone, '3.9')}")
    assert refused.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13, found Python 3.9.0" in refused.stderr
    assert not (clone / ".venv").exists()


def test_missing_python_is_named(clone: Path) -> None:
    refused = make(clone, "install", "PYTHON=python-that-nobody-has")
    assert refused.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13 as python-that-nobody-has" in refused.stderr


def test_missing_git_is_named(clone: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "sh", "env"):
        (tools / name).symlink_to(str(shutil.which(name)))
    refused = make(clone, "install", "SHELL=" + str(shutil.which("bash")), path=str(tools))
    assert refused.returncode != 0
    assert "needs git" in refused.stderr


def test_bare_make_lists_the_commands(clone: Path) -> None:
    listed = make(clone)
    assert listed.returncode == 0
    assert {"make trial", "make test", "make check"} <= {
        " ".join(line.split()[:2]) for line in listed.stdout.splitlines()
    }


def test_trial_stops_by_itself_only_when_asked(clone: Path) -> None:
    (clone / ".venv").mkdir()
    (clone / ".venv" / ".ready").touch()
    assert "taxiway.trial --exit" in make(clone, "--dry-run", "trial", "EXIT=1").stdout
    assert "--exit" not in make(clone, "--dry-run", "trial").stdout


def test_ci_script_is_valid_and_executable(root: Path) -> None:
    script = root / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
