"""A folder is compared with its commit by reading each of its files once, and no file beside it."""

import os
from pathlib import Path

from taxiway import dirt
from taxiway.tools import run
from tests.projects import commit_all


def test_each_file_of_the_folder_is_read_once_and_no_other(tmp_path: Path) -> None:
    """Git runs this filter whenever it reads a file."""
    read, root = tmp_path / "read", tmp_path / "repository"
    for name in ("project/a.txt", "project/deep/b.txt", "beside/c.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
        # Of a file as young as its index Git looks at the bytes each time.
        os.utime(root / name, (86_400, 86_400))
    (root / ".gitattributes").write_text("*.txt filter=noted\n")
    commit_all(root)
    run(["git", "config", "filter.noted.clean", f"echo %f >> '{read}'; cat"], cwd=root)
    assert dirt.difference(root / "project") == ""
    assert sorted(read.read_text().split()) == ["project/a.txt", "project/deep/b.txt"]
    (root / "beside" / "c.txt").write_text("changed")
    assert dirt.difference(root / "project") == ""
    (root / "project" / "a.txt").write_text("changed")
    (root / "project" / "deep" / "b.txt").unlink()
    (root / "project" / "new.txt").write_text("new")
    lines = dirt.difference(root / "project").splitlines()
    assert {"+changed", "-project/deep/b.txt", "+new"} <= set(lines)
    assert not [line for line in lines if "beside" in line]
