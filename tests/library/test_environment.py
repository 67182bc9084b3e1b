"""A lock names exact versions and no index; equal locks share one environment, and a half-made one is made again."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway.errors import ToolFailedError
from taxiway.packaging import environment
from taxiway.settings import Settings


def test_lock_names_exact_versions_and_no_address(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_FIND_LINKS", str(settings.home))
    found = environment.lock(["six"], ">=3.11", settings)
    assert found.text.splitlines() == ["six==1.17.0"]
    assert "://" not in found.text
    assert str(settings.home) not in found.text


def test_lock_is_the_same_for_requirements_in_another_order(settings: Settings) -> None:
    one = environment.lock(["six", "idna"], ">=3.11", settings)
    assert environment.lock(["idna", "six", "six"], ">=3.11", settings) == one


def test_lock_honours_constraints(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "limits.txt").write_text("six==1.17.0\n")
    limited = replace(settings, constraints=tmp_path / "limits.txt")
    assert environment.lock(["six"], ">=3.11", limited).text == "six==1.17.0\n"


def test_lock_without_a_solution_says_why(settings: Settings) -> None:
    with pytest.raises(ToolFailedError, match="six"):
        environment.lock(["six==1.16.0"], ">=3.11", settings)


def test_lock_for_a_python_that_is_not_there_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    with pytest.raises(ToolFailedError):
        environment.lock([], ">=3.99", settings)


def test_environment_holds_what_its_lock_says_and_is_found_again(settings: Settings) -> None:
    locked = environment.lock(["six"], ">=3.11", settings)
    python = environment.ensure(locked, settings)
    subprocess.run([python, "-c", "import six"], check=True)
    assert environment.ensure(locked, settings) == python


def test_environment_that_is_half_made_is_made_again(settings: Settings) -> None:
    locked = environment.lock(["idna"], ">=3.11", settings)
    python = environment.ensure(locked, settings)
    (python.parents[1] / ".complete").unlink()
    python.unlink()
    assert environment.ensure(locked, settings) == python
    subprocess.run([python, "-c", "import idna"], check=True)


def test_environment_that_somebody_changed_is_named_and_made_again(settings: Settings) -> None:
    python = environment.ensure(environment.lock(["six"], ">=3.11", settings), settings)
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    subprocess.run([python, "-c", "import six"], check=True)
    assert environment.changes(python) == ()
    original = (site / "six.py").read_bytes()
    (site / "six.py").unlink()
    (site / "six.py").write_text("__version__ = 'mine'\n")
    (site / "words").mkdir()
    (site / "words" / "en.txt").write_text("downloaded")
    assert environment.changes(python) == ("six.py", "words/en.txt")
    assert environment.ensure(environment.lock(["six"], ">=3.11", settings), settings) == python
    assert environment.changes(python) == ()
    assert (site / "six.py").read_bytes() == original
    assert not (site / "words").exists()


def test_file_that_was_written_through_to_the_cache_is_not_taken_from_there(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = environment.lock(["six"], ">=3.11", settings)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    own = replace(settings, home=tmp_path / "own")
    python = environment.ensure(locked, own)
    (installed,) = python.parents[1].glob("lib/python*/site-packages/six.py")
    original = installed.read_bytes()
    installed.write_text("__version__ = 'mine'\n")
    (cached,) = (tmp_path / "cache").rglob("six.py")
    assert cached.read_text() == installed.read_text()
    environment.ensure(locked, own)
    assert installed.read_bytes() == original


def test_interpreter_that_was_not_made_here_has_no_changes(tmp_path: Path) -> None:
    assert environment.changes(tmp_path / "bin" / "python") == ()
