"""A store takes all of a listing or nothing, and reads no damaged byte."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from taxiway.datasets.store import Listing, Store, files_in
from taxiway.errors import DataChangedError, DiskFullError, InvalidSpecError
from tests.datasets.conftest import contents, write


def sources(folder: Path) -> tuple[Listing, dict[str, str | Path]]:
    files = files_in(folder)
    listing = Listing.of(files)
    return listing, {md5: files[name] for name, md5 in listing.files.items()}


def test_store_lays_out_what_it_took(data: Path, tmp_path: Path) -> None:
    listing, paths = sources(data)
    store = Store(root=tmp_path / "store")
    store.take(listing, paths)
    (tmp_path / "out").mkdir()
    store.lay_out(listing, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(data)
    assert store.listing(listing.hash) == listing
    assert all(path.stat().st_mode & 0o222 == 0 for path in (tmp_path / "out").rglob("*"))


def test_take_of_a_file_that_changed_leaves_nothing(data: Path, tmp_path: Path) -> None:
    listing, paths = sources(data)
    (data / "b.txt").write_text("changed meanwhile")
    with pytest.raises(DataChangedError):
        Store(root=tmp_path / "store").take(listing, paths)
    assert contents(tmp_path / "store") == {}


def test_take_refuses_what_has_no_room_before_it_writes(data: Path, tmp_path: Path) -> None:
    listing, paths = sources(data)
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        os.truncate(file.fileno(), 2 * shutil.disk_usage(tmp_path).free)
    md5 = listing.files["a.txt"]
    with pytest.raises(DiskFullError, match="nothing was left"):
        Store(root=tmp_path / "store").take(listing, {**paths, md5: huge})
    assert contents(tmp_path / "store") == {}


FILL = """
import resource, signal, sys
from pathlib import Path
from taxiway.datasets import snapshot
from taxiway.errors import DiskFullError
from taxiway.settings import Settings
home = Path(sys.argv[2])
settings = Settings(home=home, data_repository=home / "datasets", data_remote=str(home / "remote"))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    snapshot(Path(sys.argv[1]), "digits", settings)
except DiskFullError as error:
    print(error)
"""


@pytest.mark.slow
def test_snapshot_on_a_full_disk_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    """A limit on a file's size ends a write half-way, as a full disk does."""
    folder = write(tmp_path / "data", {"small": "few bytes", "big": bytes(300_000)})
    command = [sys.executable, "-c", FILL, str(folder), str(tmp_path / "home")]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240).stdout
    assert "no room at" in told
    assert "try again" in told
    kept = {path for path in (tmp_path / "home").rglob("*") if path.is_file() and path.stat().st_size > 5}
    assert not [path for path in kept if ".git" not in path.parts and "files" in path.parts]
    assert not list((tmp_path / "home").rglob(".scratch.*"))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_damaged_listing_is_none(data: Path, tmp_path: Path) -> None:
    listing, paths = sources(data)
    store = Store(root=tmp_path / "store")
    store.take(listing, paths)
    store.path(listing.hash).chmod(0o644)
    store.path(listing.hash).write_text(listing.text[:-20])
    assert store.listing(listing.hash) is None


def test_folder_with_links_and_pipes_is_refused_with_each_of_them(data: Path) -> None:
    (data / "nowhere").symlink_to("missing")
    (data / "folder").symlink_to(data / "deep")
    os.mkfifo(data / "pipe")
    with pytest.raises(InvalidSpecError) as caught:
        files_in(data)
    assert len(caught.value.faults) == 3


def test_link_to_a_file_is_that_file(data: Path) -> None:
    (data / "link.txt").symlink_to(data / "a.txt")
    found = Listing.of(files_in(data)).files
    assert found["link.txt"] == found["a.txt"]
