"""A lock names exact versions and no index; equal locks share one environment, and a half-made one is made again."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway.errors import ToolFailedError
from taxiway.packaging import environment, soundness
from taxiway.settings import Settings
from taxiway.tools import remove

SITE = "lib/python*/site-packages"
UNCHECKED_HASH = (1).to_bytes(4, "little")


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    """Return settings whose environments no other test shares."""
    return replace(settings, home=tmp_path / "own")


def spoil(python: Path) -> None:
    (site,) = python.parents[1].glob(SITE)
    (site / "six.py").unlink()
    (site / "six.py").write_text("__version__ = 'mine'\n")


def six_of(python: Path) -> bytes:
    (found,) = python.parents[1].glob(f"{SITE}/six.py")
    return found.read_bytes()


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


def test_lock_whose_bytes_a_power_cut_took_is_made_again(settings: Settings) -> None:
    one = environment.lock(["six", "idna"], ">=3.11", settings)
    (memo,) = (path for path in (settings.home / "locks").glob("*.txt") if path.read_text() == one.text)
    memo.write_text("")
    assert environment.lock(["six", "idna"], ">=3.11", settings) == one
    assert memo.read_text() == one.text


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


def test_environment_that_somebody_changed_is_left_to_its_users_and_made_beside_it(own: Settings) -> None:
    locked = environment.lock(["six"], ">=3.11", own)
    python = environment.ensure(locked, own)
    (site,) = python.parents[1].glob(SITE)
    subprocess.run([python, "-c", "import six"], check=True)
    assert environment.changes(python) == ()
    original = (site / "six.py").read_bytes()
    (site / "six.py").unlink()
    (site / "six.py").write_text("__version__ = 'mine'\n")
    (site / "words").mkdir()
    (site / "words" / "en.txt").write_text("downloaded")
    assert environment.changes(python) == ("six.py", "words/en.txt")
    with environment.occupied(python):
        beside = environment.ensure(locked, own)
        assert environment.ensure(locked, own) == beside
        assert (site / "six.py").read_text() == "__version__ = 'mine'\n"
    assert (beside.parents[1].name, environment.changes(beside)) == (f"{locked.key}.1", ())

    # When nobody runs in it any more, its path leads to what it should have been.
    assert environment.ensure(locked, own) == beside
    assert (site / "six.py").read_bytes() == original
    assert not (site / "words").exists()
    assert sorted(path.name for path in python.parents[2].iterdir()) == [
        locked.key,
        f"{locked.key}.1",
        f"{locked.key}.lock",
    ]


def test_third_generation_takes_the_place_of_both_before(own: Settings) -> None:
    locked = environment.lock(["six"], ">=3.11", own)
    first = environment.ensure(locked, own)
    spoil(first)
    second = environment.ensure(locked, own)
    spoil(second)
    third = environment.ensure(locked, own)
    assert third.parents[1].name == f"{locked.key}.2"
    assert {path.parents[1].resolve() for path in (first, second, third)} == {third.parents[1].resolve()}
    subprocess.run([first, "-c", "import six"], check=True)
    remove(third.parents[1])
    assert environment.ensure(locked, own) == first
    subprocess.run([second, "-c", "import six"], check=True)


def test_link_that_a_killed_call_did_not_make_is_made_by_the_next(own: Settings) -> None:
    locked = environment.lock(["six"], ">=3.11", own)
    first = environment.ensure(locked, own)
    spoil(first)
    second = environment.ensure(locked, own)
    first.parents[1].rename(first.parents[1].with_name(f"{locked.key}.link"))
    assert environment.ensure(locked, own) == second
    assert first.parents[1].resolve() == second.parents[1]
    assert len(list(first.parents[2].glob(f"{locked.key}*"))) == 3


def test_environment_is_kept_while_a_process_runs_in_it(own: Settings) -> None:
    """As a variant's, which is started by the serving plane, by the path alone."""
    locked = environment.lock(["six"], ">=3.11", own)
    python = environment.ensure(locked, own)
    with subprocess.Popen([python, "-c", "input()"], stdin=subprocess.PIPE) as variant:
        spoil(python)
        assert environment.ensure(locked, own) != python
        assert not python.parents[1].is_symlink()
        variant.communicate(b"\n", timeout=60)
    environment.ensure(locked, own)
    assert python.parents[1].is_symlink()


def test_environment_of_which_nobody_knows_what_was_installed_is_made_anew(own: Settings) -> None:
    """As one that was made before that was written down."""
    locked = environment.lock(["six"], ">=3.11", own)
    python = environment.ensure(locked, own)
    (python.parents[1] / ".complete").write_text("")
    spoil(python)
    beside = environment.ensure(locked, own)
    assert beside != python
    subprocess.run([beside, "-c", "import six; assert six.__version__ != 'mine'"], check=True)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache of uv that is the test's own."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_file_that_was_written_through_to_the_cache_is_taken_from_there_by_nobody(
    own: Settings, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = environment.lock(["six"], ">=3.11", own)
    python = environment.ensure(locked, own)
    (installed,) = python.parents[1].glob(f"{SITE}/six.py")
    original = installed.read_bytes()
    installed.write_text("__version__ = 'mine'\n")
    (cached,) = cache.rglob("six.py")
    assert cached.read_text() == installed.read_text()

    # Another home, which has nothing to hold against what the cache says, and a folder for an image.
    assert six_of(environment.ensure(locked, replace(own, home=tmp_path / "other"))) == original
    monkeypatch.setenv("UV_OFFLINE", "1")
    environment.install_into(locked, tmp_path / "site", tmp_path, own)
    assert (tmp_path / "site" / "six.py").read_bytes() == original
    assert six_of(environment.ensure(locked, own)) == original


def test_spoiled_file_that_kept_its_size_is_found_and_never_taken_for_want_of_an_index(
    own: Settings, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = environment.lock(["six"], ">=3.11", own)
    (site,) = environment.ensure(locked, own).parents[1].glob(SITE)
    assert soundness.spoiled(site) == ()
    with (site / "six.py").open("r+b") as file:
        file.write(b"X")
    assert soundness.spoiled(site) == ("six",)
    with monkeypatch.context() as alone:
        alone.setenv("UV_OFFLINE", "1")
        with pytest.raises(ToolFailedError, match="other files of six than their wheels"):
            environment.ensure(locked, own)
    assert soundness.spoiled(next(environment.ensure(locked, own).parents[1].glob(SITE))) == ()


def test_what_an_image_gets_is_compiled_and_valid_wherever_it_is_copied(
    settings: Settings, tmp_path: Path
) -> None:
    locked = environment.lock(["six"], ">=3.11", settings)
    environment.install_into(locked, tmp_path / "site", tmp_path, settings)
    compiled = tmp_path / "site" / "__pycache__" / f"six.{sys.implementation.cache_tag}.pyc"
    assert compiled.read_bytes()[4:8] == UNCHECKED_HASH
    remove(compiled.parent)
    with pytest.raises(ToolFailedError, match="compiled none of 1 modules"):
        environment._require_bytecode(tmp_path / "site")


def test_interpreter_that_was_not_made_here_has_no_changes(tmp_path: Path) -> None:
    assert environment.changes(tmp_path / "bin" / "python") == ()
