"""Fetched bytes are checked at every call, read once, and never half there."""

import os
from pathlib import Path

import pytest

from taxiway.datasets import DatasetVersion, bring, fetch, remote, snapshot
from taxiway.errors import DataChangedError, ToolFailedError
from taxiway.settings import Settings
from taxiway.tools import remove
from tests.datasets.conftest import contents, settings_in
from tests.lineage.test_unchanged_models import wait_for_a_tick


@pytest.fixture
def version(data: Path, settings: Settings) -> DatasetVersion:
    return snapshot(data, "digits", settings)


def age(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a folder count as older than a tick of the file system's clock."""
    monkeypatch.setattr("taxiway.stamps.TICK_NS", -(10**12))


def test_second_fetch_reads_no_file(
    version: DatasetVersion, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bring(version, settings)
    assert (first.source, first.hashed) == ("cache", 3)
    age(first.path, monkeypatch)
    assert bring(version, settings).hashed == 3
    again = bring(version, settings)
    assert (again.source, again.hashed) == ("host", 0)


def test_young_files_are_read_again(version: DatasetVersion, settings: Settings) -> None:
    """A write within the clock's tick would leave size and times as they are."""
    fetch(version, settings)
    fetch(version, settings)
    folder = fetch(version, settings)
    assert (folder.with_suffix(".checked.json")).exists()


def test_same_size_and_times_do_not_hide_a_change(
    version: DatasetVersion, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetch(version, settings)
    age(folder, monkeypatch)
    fetch(version, settings)
    path = folder / "a.txt"
    seen = path.stat()
    wait_for_a_tick(seen.st_ctime_ns, settings.home / "probe")
    path.chmod(0o644)
    path.write_text("ONE")
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    with pytest.raises(DataChangedError, match="fetch it again"):
        fetch(version, settings)
    path.write_text("one")
    assert fetch(version, settings) == folder


@pytest.mark.parametrize("change", ["added", "removed"])
def test_file_that_came_or_went_is_found(version: DatasetVersion, settings: Settings, change: str) -> None:
    folder = fetch(version, settings)
    folder.chmod(0o755)
    if change == "added":
        (folder / "new.txt").write_text("new")
    else:
        (folder / "a.txt").unlink()
    with pytest.raises(DataChangedError):
        fetch(version, settings)


def test_fetched_folder_is_read_only(version: DatasetVersion, settings: Settings) -> None:
    folder = fetch(version, settings)
    assert all(path.stat().st_mode & 0o222 == 0 for path in (folder, *folder.rglob("*")))


def test_torn_memory_is_no_memory(version: DatasetVersion, settings: Settings) -> None:
    folder = fetch(version, settings)
    folder.with_suffix(".checked.json").write_text('{"a.txt": [')
    assert bring(version, settings).hashed == 3


def test_other_host_needs_only_the_remote(version: DatasetVersion, data: Path, tmp_path: Path) -> None:
    other = settings_in(tmp_path / "other", tmp_path / "remote")
    found = bring(version, other)
    assert (found.source, contents(found.path)) == ("remote", contents(data))


def test_version_that_is_nowhere_is_refused(version: DatasetVersion, tmp_path: Path) -> None:
    empty = settings_in(tmp_path / "other", tmp_path / "elsewhere")
    with pytest.raises(ToolFailedError, match="push them from where they are"):
        fetch(version, empty)
    assert not list((empty.home / "data").glob("[!.]*/"))


def test_damaged_cache_is_mended_from_the_remote(
    version: DatasetVersion, data: Path, settings: Settings
) -> None:
    cache = remote.cache(settings.data_repository)
    listing = cache.listing(version.hash)
    assert listing is not None
    damaged = cache.path(listing.files["a.txt"])
    damaged.chmod(0o644)
    damaged.write_text("eno")
    found = bring(version, settings)
    assert (found.source, contents(found.path)) == ("remote", contents(data))
    assert damaged.read_text() == "one"


def test_damaged_remote_is_refused_and_leaves_nothing(
    version: DatasetVersion, tmp_path: Path, settings: Settings
) -> None:
    for path in (tmp_path / "remote").rglob("*"):
        if path.is_file() and path.suffix != ".dir":
            path.chmod(0o644)
            path.write_bytes(path.read_bytes()[::-1])
    other = settings_in(tmp_path / "other", tmp_path / "remote")
    with pytest.raises(DataChangedError):
        fetch(version, other)
    assert not (other.home / "data" / version.hash.removesuffix(".dir")).exists()


def test_fetch_says_how_long_it_took_and_from_where(version: DatasetVersion, settings: Settings) -> None:
    told: list[str] = []
    fetch(version, settings, log=told.append)
    fetch(version, settings, log=told.append)
    assert "from the cache" in told[0]
    assert "from the host" in told[1]
    assert all("digits@v1: 3 files, 11 bytes" in line and " s, " in line for line in told)


def test_deleted_copy_is_fetched_again(version: DatasetVersion, settings: Settings) -> None:
    remove(fetch(version, settings))
    assert bring(version, settings).source == "cache"
