"""How a project's folder differs from its commit, whatever Git was told to assume of its files.

Files are compared with the commit by way of an index of our own: the user's is neither believed nor written. What is
never packed is no difference, and no secret of it is kept; of a long file, name, size and hash are.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from taxiway.private import is_private
from taxiway.tools import run

MOST_BYTES = 1_000_000
"""Length from which the content of a file is not kept, unless it is text that the commit has, too."""
MOST_KEPT_BYTES = 16_000_000
MOST_HASHED_BYTES = 2**30
_SHOWN = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--binary")
_LITERAL = ("--literal-pathspecs",)
_BATCH = 500


def difference(root: Path) -> str:
    """Return how a folder of a Git repository differs from its commit, as `git diff` writes it; empty if it does not.

    Untracked files are in it unless Git ignores them.

    Raises:
        ToolFailedError: If it is in no repository, or in one without a commit.
    """
    with TemporaryDirectory() as scratch:
        own = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        _fill_index(root, own)
        changed, new = _changed(root, own), _new(root, own)
        lengths = {name: _length(root / name) for name in sorted((*changed, *new))}
        long = dict(_long({name: n for name, n in lengths.items() if changed.get(name, True)}))
        added = "\0".join(name for name in new if name not in long)
        if added:
            files = ("--pathspec-from-file=-", "--pathspec-file-nul")
            run(["git", *_LITERAL, "add", "-N", *files], cwd=root, environment=own, stdin=added)
        kept = [name for name in lengths if name not in long]
        texts = [_diff(root, own, kept[at : at + _BATCH]) for at in range(0, len(kept), _BATCH)]
    return "".join((*(_line(root, name, size) for name, size in long.items()), *texts))


def _fill_index(root: Path, own: Mapping[str, str]) -> None:
    """Put what the commit has of a folder into an index of our own, with how the files are that are as they were.

    Each file is read here, once; a diff with an index that does not know how files are reads each of them twice.
    """
    listed = run(["git", "ls-tree", "-r", "-z", "--full-name", "HEAD", "--", "."], cwd=root)
    run(["git", "update-index", "-z", "--index-info"], cwd=root, environment=own, stdin=listed)
    run(["git", "update-index", "-q", "--really-refresh"], cwd=root, environment=own)


def _changed(root: Path, own: Mapping[str, str]) -> dict[str, bool]:
    """Return the tracked files that are others than in the commit, and whether each is no text."""
    shown = ["git", "diff", "--numstat", "-z", "--relative", "--no-renames", "HEAD", "--", "."]
    lines = run(shown, cwd=root, environment=own).split("\0")
    found = (line.split("\t", 2) for line in lines if line)
    return {name: added == "-" for added, _, name in found if not is_private(name)}


def _new(root: Path, own: Mapping[str, str]) -> list[str]:
    listed = run(
        ["git", "ls-files", "--others", "--exclude-standard", "-z", "--", "."], cwd=root, environment=own
    )
    return [name for name in listed.split("\0") if name and not is_private(name) and (root / name).is_file()]


def _length(path: Path) -> int:
    return path.lstat().st_size if path.is_symlink() or path.is_file() else 0


def _long(lengths: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Yield the files whose content would make the difference too long, with their lengths."""
    total = 0
    for name, length in lengths.items():
        if length > MOST_BYTES or total + length > MOST_KEPT_BYTES:
            yield name, length
        else:
            total += length


def _line(root: Path, name: str, length: int) -> str:
    shown = "not hashed"
    if length <= MOST_HASHED_BYTES:
        with (root / name).open("rb") as file:
            shown = f"SHA-256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
    return f"# {name!r} differs: {length} bytes, {shown}; too long to be kept here\n"


def _diff(root: Path, own: Mapping[str, str], names: list[str]) -> str:
    return run(["git", *_LITERAL, "diff", *_SHOWN, "HEAD", "--", *names], cwd=root, environment=own)
