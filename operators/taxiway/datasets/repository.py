"""The data repository's Git: what is committed, tagged and pushed, in steps that other hosts may take as well.

A commit is made beside the branch and is pushed before the branch moves here: whoever loses the race has changed
nothing, takes over what the other pushed, and tries again. What a dataset version means is decided in `versions.py`.
"""

import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from taxiway.datasets import configuration, recovery
from taxiway.errors import ToolFailedError
from taxiway.settings import Settings
from taxiway.tools import exclusive, redact, write_atomically

# Who commits where neither the machine nor the repository says; such a commit cannot be signed either.
_NOBODY = (
    *("-c", "user.name=taxiway", "-c", "user.email=taxiway@localhost"),
    *("-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"),
)
git, read = recovery.git, recovery.read
T = TypeVar("T")
ORIGIN, ATTEMPTS = "origin", 20
# What git says where the branch moved, where the tag is there, and where another push is under way.
_OVERTAKEN = (
    *("fetch first", "non-fast-forward", "already exists", "stale info"),
    *("cannot lock ref", "failed to update ref", "incorrect old value", "atomic transaction failed", ".lock"),
)
_TAG = re.compile(r"^(?P<name>.+)@v(?P<number>\d+)$")


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

    def text(self, name: str) -> str:
        """Return it as DVC writes it."""
        lines = (f"- md5: {self.hash}", f"  size: {self.size_bytes}", f"  nfiles: {self.files}")
        return "\n".join(("outs:", *lines, "  hash: md5", f"  path: {name}", ""))


def locked(settings: Settings, *, waits: bool = True) -> AbstractContextManager[None]:
    """Hold the data repository against every other writer on this host; `waits` as `tools.exclusive` has it."""
    root = settings.data_repository
    return exclusive(root.with_name(f".{root.name}.lock"), waits=waits)


def ensure(settings: Settings) -> Path:
    """Return the data repository, made for Git and DVC and with its remote, if it is not yet.

    Raises:
        ToolFailedError: If git fails.
    """
    root = settings.data_repository
    root.mkdir(parents=True, exist_ok=True)
    if not (root / ".git").exists():
        git(root, "init", "--quiet", "--initial-branch", "main")
    recovery.recover(root)
    for _ in range(ATTEMPTS):
        if not (root / configuration.CONFIG).exists():
            # A clone of an empty repository may be behind by now: its configuration is the team's.
            follow(root)
        if _is_configured(root, settings):
            break
    configuration.keep_secret(root, settings)
    return root


def _is_configured(root: Path, settings: Settings) -> bool:
    """Commit DVC's configuration if it is not as it should be, and return whether it is so now."""
    wanted = configuration.wanted(root, settings)
    changed = {name: text for name, text in wanted.items() if text != recovery.text_of(root / name)}
    if not changed:
        return True
    for name, text in changed.items():
        configuration.put(root, name, text)
    # Staged with the text that the commit brings, the files are no obstacle to moving the branch.
    git(root, "add", "--", *wanted)
    if record(root, wanted, "Version data with DVC") is not None:
        return True
    # What another host committed first takes the place of what is new here.
    kept = read(root, [f"HEAD:{name}" for name in changed])
    new = [name for name in changed if f"HEAD:{name}" not in kept]
    if new:
        git(root, "rm", "--quiet", "--force", "--", *new)
    follow(root)
    return False


def origin(root: Path) -> str | None:
    """Return the address of the repository that this one is pushed to, without credentials, or None."""
    return redact(_configured(root, f"remote.{ORIGIN}.url")) or None


def place(root: Path) -> str:
    """Return where the data repository lives, for those who look for it: its origin, or this folder."""
    return origin(root) or str(root)


def follow(root: Path) -> None:
    """Take over what others pushed to the origin, if there is one; what both sides have is merged.

    Raises:
        ToolFailedError: If it does not answer, or changed the same lines as this repository: merge them by hand.
    """
    if origin(root) is None:
        return
    git(root, "fetch", "--quiet", "--tags", ORIGIN)
    theirs = f"refs/remotes/{ORIGIN}/{_branch(root)}"
    if git(root, "for-each-ref", theirs):
        _merge(root, theirs)


def in_turn(settings: Settings, attempt: Callable[[Path], T | None]) -> T:
    """Return what an attempt to record something made, repeated while other hosts push first.

    Args:
        settings: Which data repository.
        attempt: Decides what to record on what is there now, and records it; None asks for another turn.

    Raises:
        ToolFailedError: If git fails, or others were first each time; trying again is safe.
    """
    with locked(settings):
        root = ensure(settings)
        for turn in range(ATTEMPTS):
            follow(root)
            made = attempt(root)
            if made is not None:
                return made
            time.sleep(secrets.randbelow(20 * (turn + 1)) / 1000)
    raise ToolFailedError("git push", 1, f"other hosts pushed first, {ATTEMPTS} times in a row")


def catch_up(settings: Settings) -> Path:
    """Return the data repository with what others pushed to its origin taken over.

    Raises:
        ToolFailedError: As `follow` does.
    """
    with locked(settings):
        root = ensure(settings)
        follow(root)
    return root


def publish(root: Path, tag: str) -> None:
    """Push the branch and a tag to the origin, if there is one; what is there already costs one question.

    Raises:
        ToolFailedError: If the origin does not answer or refuses; trying again is safe.
    """
    if origin(root) is not None:
        branch, label = f"refs/heads/{_branch(root)}", f"refs/tags/{tag}"
        git(root, "push", "--quiet", "--atomic", ORIGIN, f"HEAD:{branch}", f"{label}:{label}")


def record(
    root: Path, files: Mapping[str, str | None], message: str, *, tag: tuple[str, str] | None = None
) -> str | None:
    """Commit files on top of the branch, push it where there is an origin, and only then move the branch here.

    Call it while `locked`, after `follow`. Killed at any moment it leaves no trace that counts, or all of them.

    Args:
        root: The data repository.
        files: Text of each file that the commit brings, by its path; None takes the file away.
        message: Of the commit.
        tag: Name and message of a tag of the commit.

    Returns:
        The commit, or None if another host pushed first: follow, decide again, and call again.

    Raises:
        ToolFailedError: If the origin does not answer, or refuses for another reason; trying again is safe.
    """
    parent = head(root)
    made = _commit(root, parent, files, message)
    label = (f"refs/tags/{tag[0]}", _tag_object(root, made, *tag)) if tag else None
    if origin(root) is not None and not _pushed(root, made, label):
        return None
    _merge(root, made)
    if label:
        git(root, "update-ref", *label)
    return made


def head(root: Path) -> str | None:
    """Return the commit of the branch, or None where nothing was committed yet."""
    return git(root, "for-each-ref", "--format=%(objectname)", f"refs/heads/{_branch(root)}").strip() or None


def tagged(root: Path, name: str) -> dict[int, Tagged]:
    """Return every version of a dataset by its number, in one call of git."""
    return all_tagged(root, f"{name}@v*").get(name, {})


def all_tagged(root: Path, pattern: str = "*@v*") -> dict[str, dict[int, Tagged]]:
    """Return the versions of every dataset by its name and their numbers, in one call of git."""
    commit_of = "%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)"
    form = f"%(refname:strip=2)%09{commit_of}%09%(contents:subject)"
    found: dict[str, dict[int, Tagged]] = {}
    for line in git(root, "for-each-ref", f"--format={form}", f"refs/tags/{pattern}").splitlines():
        label, commit, subject = line.split("\t", 2)
        if match := _TAG.match(label):
            versions = found.setdefault(match["name"], {})
            versions[int(match["number"])] = Tagged(commit=commit, subject=subject)
    return found


def output(root: Path, name: str, version: Tagged) -> Output:
    """Return what a version's data is: from the tag's message, or from the `.dvc` file where a person made the tag.

    Raises:
        ToolFailedError: If the commit does not hold the dataset.
    """
    return _told(version) or _written(git(root, "show", f"{version.commit}:{name}.dvc"))


def outputs(root: Path, versions: Mapping[str, Tagged]) -> dict[str, Output]:
    """Return what the data of many versions is, by their tags; a tag of what is no dataset's folder is left out."""
    told = {tag: _told(version) for tag, version in versions.items()}
    places = {
        tag: f"{versions[tag].commit}:{tag.rpartition('@v')[0]}.dvc"
        for tag, found in told.items()
        if found is None
    }
    texts = read(root, places.values()) if places else {}
    found = {tag: told[tag] or _folder(texts.get(places[tag], "")) for tag in versions}
    return {tag: each for tag, each in found.items() if each is not None}


def _told(version: Tagged) -> Output | None:
    """Return what the tag of a version says, unless a person made it."""
    try:
        return Output(**json.loads(version.subject))
    except (ValueError, TypeError):
        return None


def _folder(text: str) -> Output | None:
    """Return what a `.dvc` file says of a folder; None where it says something else."""
    try:
        return _written(text)
    except (KeyError, TypeError, ValueError):
        return None


def _written(text: str) -> Output:
    import yaml

    (out,) = yaml.safe_load(text)["outs"]
    return Output(hash=str(out["md5"]), size_bytes=int(out["size"]), files=int(out["nfiles"]))


def tag_message(found: Output) -> str:
    """Return the message of a version's tag: what its data is."""
    return json.dumps(asdict(found), sort_keys=True)


def _branch(root: Path) -> str:
    return git(root, "symbolic-ref", "--short", "HEAD").strip()


def _configured(root: Path, key: str) -> str:
    try:
        return git(root, "config", "--get", key).strip()
    except ToolFailedError:
        # So Git answers where nobody set the key.
        return ""


def _identity(root: Path) -> tuple[str, ...]:
    return () if _configured(root, "user.email") else _NOBODY


def _commit(root: Path, parent: str | None, files: Mapping[str, str | None], message: str) -> str:
    identity = _identity(root)
    is_signed = not identity and _configured(root, "commit.gpgsign") == "true"
    with TemporaryDirectory() as scratch:
        index = Path(scratch) / "index"
        git(root, "read-tree", parent or "--empty", index=index)
        entries = [_entry(root, name, text) for name, text in files.items()]
        git(root, "update-index", "--index-info", stdin="".join(entries), index=index)
        tree = git(root, "write-tree", index=index).strip()
    above = ("-p", parent) if parent else ()
    signed = ("-S",) if is_signed else ()
    return git(root, *identity, "commit-tree", tree, *above, *signed, stdin=f"{message}\n").strip()


def _entry(root: Path, name: str, text: str | None) -> str:
    """Return a line for Git's index; one of mode 0 takes the file out of it, whatever object it names."""
    return f"{'0' if text is None else '100644'} {_blob(root, text or '')}\t{name}\n"


def _blob(root: Path, text: str) -> str:
    return git(root, "hash-object", "-w", "--stdin", stdin=text).strip()


def _tag_object(root: Path, commit: str, name: str, message: str) -> str:
    identity = _identity(root)
    tagger = git(root, *identity, "var", "GIT_COMMITTER_IDENT").strip()
    text = f"object {commit}\ntype commit\ntag {name}\ntagger {tagger}\n\n{message}\n"
    return git(root, "mktag", stdin=text).strip()


def _pushed(root: Path, commit: str, label: tuple[str, str] | None) -> bool:
    """Push a commit and its tag, both or none, and return whether nobody else was first."""
    targets = [f"{commit}:refs/heads/{_branch(root)}"] + ([f"{label[1]}:{label[0]}"] if label else [])
    try:
        git(root, "push", "--quiet", "--atomic", ORIGIN, *targets)
    except ToolFailedError as refused:
        if any(reason in refused.output for reason in _OVERTAKEN):
            return False
        raise
    return True


def _merge(root: Path, commit: str) -> None:
    """Bring the branch to a commit, and the working tree with it, as long as nobody's work is in the way."""
    write_atomically(recovery.moving(root), git(root, "diff-tree", "-r", "--name-only", _base(root), commit))
    try:
        git(root, "merge", "--quiet", "--ff-only", commit)
    except ToolFailedError:
        if not _is_apart(root, commit):
            raise
        _merge_apart(root, commit)
    finally:
        recovery.moving(root).unlink()


def _base(root: Path) -> str:
    return head(root) or git(root, "hash-object", "-t", "tree", "/dev/null").strip()


def _is_apart(root: Path, commit: str) -> bool:
    ours = head(root)
    return ours is not None and git(root, "rev-list", "--count", f"{commit}..{ours}").strip() != "0"


def _merge_apart(root: Path, commit: str) -> None:
    try:
        git(root, *_identity(root), "merge", "--quiet", "--no-edit", commit)
    except ToolFailedError:
        git(root, "merge", "--abort")
        raise


def now() -> str:
    """Return the time, UTC, as it is written into the repository."""
    return datetime.now(UTC).isoformat(timespec="seconds")
