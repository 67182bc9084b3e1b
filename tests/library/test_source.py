"""A package's source is named by its content alone."""

import os
import tarfile
from pathlib import Path

import pytest

from taxiway.errors import InvalidSpecError
from taxiway.packaging.source import content_hash, listing, pack, unpack


def tree(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "a.py").write_text("a = 1\n")
    (folder / "sub" / "b.txt").write_bytes(b"\x00\xff")
    return folder


def test_hash_and_archive_are_the_same_in_another_place_and_time(tmp_path: Path) -> None:
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    os.utime(two / "a.py", (0, 0))
    (two / "a.py").chmod(0o600)
    assert content_hash(one, listing(one)) == content_hash(two, reversed(listing(two)))
    pack(one, listing(one), tmp_path / "one.tar.gz")
    pack(two, reversed(listing(two)), tmp_path / "two.tar.gz")
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()


@pytest.mark.parametrize("change", ["byte", "name", "mode"])
def test_hash_changes_with_the_content(tmp_path: Path, change: str) -> None:
    folder = tree(tmp_path / "one")
    before = content_hash(folder, listing(folder))
    if change == "byte":
        (folder / "a.py").write_text("a = 2\n")
    elif change == "name":
        (folder / "a.py").rename(folder / "c.py")
    else:
        (folder / "a.py").chmod(0o755)
    assert content_hash(folder, listing(folder)) != before


def test_archive_unpacks_to_what_was_packed(tmp_path: Path) -> None:
    folder = tree(tmp_path / "one")
    pack(folder, listing(folder), tmp_path / "one.tar.gz")
    names = unpack(tmp_path / "one.tar.gz", tmp_path / "two")
    assert names == listing(folder)
    assert content_hash(tmp_path / "two", names) == content_hash(folder, names)


def test_listing_leaves_out_bytecode(tmp_path: Path) -> None:
    folder = tree(tmp_path / "one")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.pyc").write_bytes(b"")
    assert listing(folder) == ("a.py", "sub/b.txt")


def test_archive_that_would_leave_the_folder_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../outside.txt"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidSpecError, match="cannot be unpacked"):
        unpack(tmp_path / "evil.tar.gz", tmp_path / "folder")
    assert not (tmp_path / "outside.txt").exists()


def test_archive_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.tar.gz").write_bytes(b"nothing of the kind")
    with pytest.raises(InvalidSpecError, match="cannot be unpacked"):
        unpack(tmp_path / "broken.tar.gz", tmp_path)
