"""The bundle is a Git repository of its own that follows the checkout, and never writes into it."""

import subprocess
from pathlib import Path

import pytest

from taxiway.trial.bundle import Bundle


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    write(root / "dags" / "digits.py", "dag")
    write(root / "examples" / "digits" / "service.py", "good")
    write(root / "examples" / "digits" / "train.py", "train")
    write(root / "examples" / "digits_bad" / "service.py", "bad")
    write(root / "examples" / "digits" / "__pycache__" / "train.pyc", "bytes")
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def log(folder: Path) -> list[str]:
    done = subprocess.run(
        ["git", "log", "--format=%s"], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.splitlines()


def test_bundle_is_the_checkout_without_its_bytecode(tmp_path: Path, checkout: Path) -> None:
    Bundle(tmp_path / "bundle", checkout).reset()

    found = {path.relative_to(tmp_path / "bundle") for path in (tmp_path / "bundle").rglob("*.py*")}
    assert Path("dags/digits.py") in found
    assert not any(path.suffix == ".pyc" for path in found)
    assert len(log(tmp_path / "bundle")) == 1


def test_bundle_overlay_changes_one_project_and_is_a_commit(tmp_path: Path, checkout: Path) -> None:
    bundle = Bundle(tmp_path / "bundle", checkout)
    bundle.reset()

    bundle.overlay("digits_bad", "digits", "Read the image in another way")

    project = tmp_path / "bundle" / "examples" / "digits"
    assert (project / "service.py").read_text() == "bad"
    assert (project / "train.py").read_text() == "train"
    assert (checkout / "examples" / "digits" / "service.py").read_text() == "good"
    assert log(tmp_path / "bundle")[0] == "Read the image in another way"


def test_bundle_goes_back_to_the_checkout_at_the_next_start(tmp_path: Path, checkout: Path) -> None:
    bundle = Bundle(tmp_path / "bundle", checkout)
    bundle.reset()
    bundle.overlay("digits_bad", "digits", "Read the image in another way")
    (checkout / "examples" / "digits" / "train.py").unlink()

    bundle.reset()

    project = tmp_path / "bundle" / "examples" / "digits"
    assert (project / "service.py").read_text() == "good"
    assert not (project / "train.py").exists()


def test_bundle_that_did_not_change_gets_no_commit(tmp_path: Path, checkout: Path) -> None:
    Bundle(tmp_path / "bundle", checkout).reset()
    Bundle(tmp_path / "bundle", checkout).reset()

    assert len(log(tmp_path / "bundle")) == 1
