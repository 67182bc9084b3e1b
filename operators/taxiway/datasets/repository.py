"""The one place that runs DVC: its command line, with the data repository as working directory, and Git beside it.

DVC resolves targets against the working directory and prints to it, which is why it is never imported. What a dataset
version means is decided in `versions.py`.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from taxiway.settings import Settings
from taxiway.tools import program, redact, run

_QUIET = {"DVC_NO_ANALYTICS": "1", "DVC_STUDIO_OFFLINE": "true"}
_IDENTITY = {
    "user.name": "taxiway",
    "user.email": "taxiway@localhost",
    "commit.gpgsign": "false",
    "tag.gpgsign": "false",
}
REMOTE = "store"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged:
    """A tag of a dataset version: its commit, and the first line of its message."""

    commit: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a `.dvc` file says about a folder.

    Attributes:
        hash: MD5 of the listing, with `.dir` at its end.
        size_bytes: Of all files.
        files: How many.
    """

    hash: str
    size_bytes: int
    files: int


def ensure(settings: Settings) -> Path:
    """Return the data repository, initialised for Git and DVC and with its remote, if it is not yet.

    Raises:
        ToolFailedError: If git or dvc fails.
    """
    root = settings.data_repository
    root.mkdir(parents=True, exist_ok=True)
    if not (root / ".git").exists():
        git(root, "init", "--quiet", "--initial-branch", "main")
        for key, value in _IDENTITY.items():
            git(root, "config", key, value)
    if not (root / ".dvc" / "config").exists():
        dvc(root, "init", "--quiet")
    _set_remote(root, settings)
    return root


def git(root: Path, *arguments: str | Path) -> str:
    """Run git in the data repository and return its output."""
    return run(["git", *arguments], cwd=root)


def dvc(root: Path, *arguments: str | Path) -> str:
    """Run dvc in the data repository and return its output."""
    return run([program("dvc"), *arguments], cwd=root, environment=_QUIET)


def commit(root: Path, message: str) -> str:
    """Commit what is in the index, and return the commit."""
    git(root, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(root, "rev-parse", "HEAD").strip()


def tag(root: Path, name: str, commit: str, found: Output) -> None:
    """Tag a commit, with what its data is as the tag's message."""
    git(root, "tag", "--annotate", name, commit, "--message", json.dumps(asdict(found), sort_keys=True))


def tagged(root: Path, name: str) -> dict[int, Tagged]:
    """Return every version of a dataset by its number, in one call of git."""
    commit_of = "%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)"
    form = f"%(refname:strip=2)%09{commit_of}%09%(contents:subject)"
    lines = git(root, "for-each-ref", f"--format={form}", f"refs/tags/{name}@v*").splitlines()
    found = {}
    for line in lines:
        label, commit, subject = line.split("\t", 2)
        number = label.rpartition("@v")[2]
        if number.isdigit():
            found[int(number)] = Tagged(commit=commit, subject=subject)
    return found


def output(root: Path, name: str, version: Tagged) -> Output:
    """Return what a version's data is: from the tag's message, or from the `.dvc` file where a person made the tag.

    Raises:
        ToolFailedError: If the commit does not hold the dataset.
    """
    try:
        return Output(**json.loads(version.subject))
    except (ValueError, TypeError):
        return output_at(root, name, version.commit)


def output_at(root: Path, name: str, commit: str) -> Output:
    """Return what the `.dvc` file of a dataset says at a commit."""
    import yaml

    (out,) = yaml.safe_load(git(root, "show", f"{commit}:{name}.dvc"))["outs"]
    return Output(hash=str(out["md5"]), size_bytes=int(out["size"]), files=int(out["nfiles"]))


def folder_hash(folder: Path) -> str:
    """Return the hash that DVC gives a folder: the MD5 of its sorted listing of files and their MD5s, and `.dir`.

    Source: dvc-data, `dvc_data/hashfile/tree.py`, `Tree.digest`.
    """
    files = ((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())
    entries = [{"md5": _md5(path), "relpath": name} for name, path in sorted(files)]
    return (
        hashlib.md5(json.dumps(entries, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"
    )


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _set_remote(root: Path, settings: Settings) -> None:
    # Hard links first: where a file system has no reflinks, trying them makes adding five times slower.
    # Written as DVC writes it: each of its commands costs a process start, and this runs before every snapshot.
    config = root / ".dvc" / "config"
    before = config.read_text(encoding="utf-8")
    if "remote = " in before and f"remote = {REMOTE}\n" not in before:
        return
    url = settings.data_remote
    lines = [
        "[core]",
        "    analytics = false",
        "    check_update = false",
        *([f"    remote = {REMOTE}"] if url else []),
    ]
    lines += ["[cache]", '    type = "hardlink,copy"', *(_remote(redact(url)) if url else [])]
    text = "\n".join(lines) + "\n"
    if before != text:
        config.write_text(text, encoding="utf-8")
        git(root, "add", ".dvc/config", ".dvc/.gitignore", ".dvcignore")
    if url and redact(url) != url:
        # DVC's place for secrets: it is ignored by Git.
        (root / ".dvc" / "config.local").write_text("\n".join(_remote(url)) + "\n", encoding="utf-8")


def _remote(url: str) -> list[str]:
    return [f"['remote \"{REMOTE}\"']", f"    url = {url}"]
