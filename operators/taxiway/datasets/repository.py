"""The one place that runs DVC: its command line, with the data repository as working directory, and Git beside it.

DVC resolves targets against the working directory and prints to it, which is why it is never imported. What a dataset
version means is decided in `versions.py`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from taxiway.errors import ToolFailedError
from taxiway.settings import Settings
from taxiway.tools import program, redact, run, write_atomically

_QUIET = {"DVC_NO_ANALYTICS": "1", "DVC_STUDIO_OFFLINE": "true"}
# Who commits where neither the machine nor the repository says; such a commit cannot be signed either.
_NOBODY = (
    *("-c", "user.name=taxiway", "-c", "user.email=taxiway@localhost"),
    *("-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"),
)
REMOTE, ORIGIN = "store", "origin"
_SECTION = f"'remote \"{REMOTE}\"'"
_OURS = {"core": {"analytics": "false", "check_update": "false"}, "cache": {"type": '"hardlink,copy"'}}


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
    if not (root / ".dvc" / "config").exists():
        dvc(root, "init", "--quiet")
        # Hard links first: where a file system has no reflinks, trying them makes adding five times slower.
        _configure(root / ".dvc" / "config", _OURS)
        git(root, "add", ".dvc/config", ".dvc/.gitignore", ".dvcignore")
    _set_remote(root, settings)
    return root


def git(root: Path, *arguments: str | Path) -> str:
    """Run git in the data repository and return its output."""
    return run(["git", *arguments], cwd=root, environment={"GIT_TERMINAL_PROMPT": "0"})


def origin(root: Path) -> str | None:
    """Return the address of the repository that this one is pushed to, without credentials, or None."""
    return redact(_configured(root, f"remote.{ORIGIN}.url")) or None


def follow(root: Path) -> None:
    """Take over what others pushed to the origin, if there is one.

    Raises:
        ToolFailedError: If it does not answer, or went another way than this repository: merge them by hand.
    """
    if origin(root) is None:
        return
    git(root, "fetch", "--quiet", "--tags", ORIGIN)
    theirs = f"refs/remotes/{ORIGIN}/{_branch(root)}"
    if git(root, "for-each-ref", theirs):
        git(root, "merge", "--quiet", "--ff-only", theirs)


def publish(root: Path, tag: str) -> None:
    """Push the branch and a tag to the origin, if there is one; what is there already costs one question.

    Raises:
        ToolFailedError: If the origin does not answer or refuses; trying again is safe.
    """
    if origin(root) is not None:
        branch, label = f"refs/heads/{_branch(root)}", f"refs/tags/{tag}"
        git(root, "push", "--quiet", "--atomic", ORIGIN, f"HEAD:{branch}", f"{label}:{label}")


def _branch(root: Path) -> str:
    return git(root, "symbolic-ref", "--short", "HEAD").strip()


def _configured(root: Path, key: str) -> str:
    try:
        return git(root, "config", "--get", key).strip()
    except ToolFailedError:
        return ""


def _identity(root: Path) -> tuple[str, ...]:
    return () if _configured(root, "user.email") else _NOBODY


def dvc(root: Path, *arguments: str | Path) -> str:
    """Run dvc in the data repository and return its output."""
    return run([program("dvc"), *arguments], cwd=root, environment=_QUIET)


def commit(root: Path, message: str) -> str:
    """Commit what is in the index, and return the commit."""
    git(root, *_identity(root), "commit", "--quiet", "--allow-empty", "--message", message)
    return git(root, "rev-parse", "HEAD").strip()


def tag(root: Path, name: str, commit: str, found: Output) -> None:
    """Tag a commit, with what its data is as the tag's message."""
    message = json.dumps(asdict(found), sort_keys=True)
    git(root, *_identity(root), "tag", "--annotate", name, commit, "--message", message)


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
    """Name our remote in DVC's configuration, where a team has none of its own; every other key stays as it is.

    Written as DVC writes it: each of its commands costs a process start, and this runs before every snapshot.
    """
    config, url = root / ".dvc" / "config", settings.data_remote
    before = config.read_text(encoding="utf-8")
    if url is None or ("remote = " in before and f"remote = {REMOTE}\n" not in before):
        return
    if _configure(config, {"core": {"remote": REMOTE}, _SECTION: {"url": redact(url)}}):
        git(root, "add", ".dvc/config")
    if redact(url) != url:
        # DVC's place for secrets: it is ignored by Git, and read by nobody else.
        _configure(root / ".dvc" / "config.local", {_SECTION: {"url": url}}, mode=0o600)


def _configure(path: Path, wanted: Mapping[str, Mapping[str, str]], *, mode: int = 0o644) -> bool:
    """Set keys of a DVC configuration file, and return whether any changed."""
    before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    lines = list(before)
    for section, values in wanted.items():
        for key, value in values.items():
            _set(lines, f"[{section}]", key, value)
    if lines != before:
        write_atomically(path, "\n".join(lines) + "\n", mode=mode)
    return lines != before


def _set(lines: list[str], header: str, key: str, value: str) -> None:
    if header not in [line.strip() for line in lines]:
        lines.append(header)
    start = [line.strip() for line in lines].index(header) + 1
    following = (place for place in range(start, len(lines)) if lines[place].lstrip().startswith("["))
    end = next(following, len(lines))
    for place in range(start, end):
        if lines[place].partition("=")[0].strip() == key:
            lines[place] = f"    {key} = {value}"
            return
    lines.insert(end, f"    {key} = {value}")
