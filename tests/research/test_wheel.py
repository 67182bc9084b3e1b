"""A wheel that is built here: the same bytes each time, and what uv and importlib make of it."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
import uv

from taxiway.packaging import libraries, wheel
from taxiway.settings import Settings

METADATA = wheel.Metadata(
    name="alice-sharpen",
    version="1.2",
    summary="Sharpen\nimages",
    requires_python=">=3.11",
    requires=("numpy>=2", "pillow ; extra == 'images'"),
)
FILES = {"alice/__init__.py": b"def sharpen(x):\n    return x + 1\n", "alice/data.txt": b"7"}


def test_same_files_give_the_same_bytes() -> None:
    turned = dict(reversed(FILES.items()))
    assert wheel.build(METADATA, FILES) == wheel.build(METADATA, turned)
    assert wheel.build(METADATA, FILES) != wheel.build(METADATA, FILES | {"alice/data.txt": b"8"})


def test_wheel_is_installed_by_uv_and_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / METADATA.filename
    path.write_bytes(wheel.build(METADATA, FILES))
    target = tmp_path / "site"
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--offline", "--no-index", "--no-deps"]
    command += ["--python", sys.executable, "--target", str(target), str(path)]
    subprocess.run(command, check=True, timeout=240, capture_output=True)
    (found,) = importlib.metadata.distributions(path=[str(target)])
    assert (found.name, found.version) == ("alice-sharpen", "1.2")
    assert found.metadata["Summary"] == "Sharpen images"
    assert found.requires == list(METADATA.requires)
    show = "import alice, pathlib; print(alice.sharpen(1), pathlib.Path('alice/data.txt').read_text())"
    done = subprocess.run(
        [sys.executable, "-c", show], cwd=target, check=True, capture_output=True, text=True, timeout=240
    )
    assert done.stdout.split() == ["2", "7"]


def test_lock_takes_a_published_library_by_its_wheel(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, data_repository=tmp_path)
    folder = libraries.folder(settings)
    folder.mkdir()
    (folder / METADATA.filename).write_bytes(b"bytes")
    lock = "alice-sharpen==1.2 ; python_version > '3'\nnumpy==2.0\nalice-sharpen-more==1.2\n"
    assert list(libraries.libraries_of(lock, settings)) == ["alice-sharpen"]
    assert libraries.libraries_of(lock, settings)["alice-sharpen"]["version"] == "1.2"
    first, *rest = libraries.requirements(lock, settings).splitlines()
    assert first == f"alice-sharpen @ {(folder / METADATA.filename).as_uri()} ; python_version > '3'"
    assert rest == lock.splitlines()[1:]


@pytest.mark.parametrize("lock", ["", "alice-sharpen==9\n", "alice-sharpen @ file:///x.whl\n"])
def test_lock_without_a_published_library_stays_as_it_is(tmp_path: Path, lock: str) -> None:
    settings = Settings(home=tmp_path, data_repository=tmp_path)
    assert libraries.libraries_of(lock, settings) == {}
    assert libraries.requirements(lock, settings) == lock
