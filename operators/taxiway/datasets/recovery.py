"""Git's command line in the data repository, and what a git that was killed there leaves. Nothing is decided here."""

from collections.abc import Iterable
from pathlib import Path

from taxiway.tools import run


def git(root: Path, *arguments: str | Path, stdin: str | None = None, index: Path | None = None) -> str:
    """Run git in the data repository and return its output; with an index of its own, if one is given."""
    own = {"GIT_INDEX_FILE": str(index)} if index else {}
    # What git says is read here, so it is to say it in English.
    plain = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    return run(["git", *arguments], cwd=root, environment=plain | own, stdin=stdin)


def read(root: Path, places: Iterable[str]) -> dict[str, str]:
    """Return the text of files at commits, named `<commit>:<path>`, in one call; what is not there is left out."""
    asked = list(places)
    output = git(root, "cat-file", "--batch", stdin="".join(f"{place}\n" for place in asked)).encode(
        "utf-8", "surrogateescape"
    )
    found, at = {}, 0
    for place in asked:
        title, _, _ = output[at:].partition(b"\n")
        at += len(title) + 1
        if title.endswith(b" missing"):
            continue
        size = int(title.rsplit(b" ", 1)[1])
        found[place] = output[at : at + size].decode("utf-8", "replace")
        at += size + 1
    return found


def recover(root: Path) -> None:
    """Clear away what a process that was killed here left; call it while `locked`.

    A git of Taxiway's holds our lock as well: what is left of a lock of git's is a dead one's, or a person's.
    """
    found = [*(root / ".git").glob("*.lock"), *(root / ".git" / "refs").rglob("*.lock")]
    if found and not _has_git_at_work(root):
        for path in found:
            path.unlink(missing_ok=True)
    for path in (root / ".git").glob(".taxiway-*"):
        path.unlink()
    if moving(root).exists():
        _restore(root, (text_of(moving(root)) or "").splitlines())
        moving(root).unlink()


def _restore(root: Path, names: list[str]) -> None:
    """Bring files that git may have left half-way between two commits to the one that the branch is at."""
    present = read(root, [f"HEAD:{name}" for name in names])
    kept = [name for name in names if f"HEAD:{name}" in present]
    gone = [name for name in names if name not in kept]
    if kept:
        git(root, "checkout", "--quiet", "--force", "HEAD", "--", *kept)
    if gone:
        git(root, "rm", "--quiet", "--cached", "--force", "--ignore-unmatch", "--", *gone)
    for name in gone:
        (root / name).unlink(missing_ok=True)


def _has_git_at_work(root: Path) -> bool:
    import psutil

    for process in psutil.process_iter(["name", "cwd"]):
        if process.info["name"] == "git" and Path(process.info["cwd"] or root).is_relative_to(root):
            return True
    return False


def text_of(path: Path) -> str | None:
    """Return what a file says, or None where there is none."""
    return path.read_text(encoding="utf-8") if path.exists() else None


def moving(root: Path) -> Path:
    """Return the file that names what the branch's move writes; git checks all of them before it writes the first."""
    return root / ".git" / "taxiway-moving"
