"""Finds a model project: a path relative to the DAG's own file, or a Git URL and a revision, resolved in the task.

What a project must contain is read in `project.py`. A URL's credentials reach git through its environment only.
"""

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from taxiway.dirt import difference
from taxiway.errors import InvalidSpecError, ToolFailedError
from taxiway.settings import Settings
from taxiway.tools import digest, exclusive, fresh_folder, redact, remove, run

_SCP_LIKE = re.compile(r"^[\w.-]+@[\w.-]+:")
_COMMIT = re.compile(r"^[0-9a-f]{40}$")
# How Git ends where nothing was committed yet, and what it says outside a repository.
_NO_COMMIT, _OUTSIDE = 1, "not a git repository (or any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A model project on disk, and where it came from.

    Attributes:
        root: Folder that holds the project's `pyproject.toml`.
        commit: Git commit of the folder, or None outside Git.
        is_dirty: Whether files that may be packed differ from the commit; the code that runs is hashed either way.
        url: Where the repository lives, without credentials, or None.
        diff: What `git diff` says about a dirty folder, untracked files included; else empty. Of a long file that is
            no text, or is not tracked, its name, size and hash alone.
        files: What Git tracks or would, relative to the root; None outside Git. What it ignores is not the project's.
    """

    root: Path
    commit: str | None = None
    is_dirty: bool = False
    url: str | None = None
    diff: str = ""
    files: tuple[str, ...] | None = None


def is_url(project: str) -> bool:
    """Return whether the text names a Git repository rather than a path."""
    return "://" in project or _SCP_LIKE.match(project) is not None


def locate(
    project: str, settings: Settings, *, beside: Path | None = None, revision: str | None = None
) -> Checkout:
    """Return the model project's folder, cloned if it is given by URL.

    Args:
        project: A path, or a Git URL; `#subdirectory=path` after it names the folder in the repository.
        settings: Clones are kept under `home/checkouts`, one folder for each commit.
        beside: What a relative path is relative to: a DAG's file or its folder; None is the working directory.
        revision: Branch, tag or commit of a URL; None is the repository's default branch.

    Raises:
        InvalidSpecError: If there is no such folder, a revision is given for a path, or a URL cannot be read.
        ToolFailedError: If git cannot clone the URL or does not know the revision, or does not let this user read a
            path's repository, as where another user owns it.
    """
    if is_url(project):
        return _clone(project, revision or "HEAD", settings)
    if revision is not None:
        raise InvalidSpecError(
            (f"a path takes no revision, got {revision!r}; give a Git URL with it",), project
        )
    base = Path.cwd() if beside is None else beside if beside.is_dir() else beside.parent
    root = (base / project).resolve()
    if not root.is_dir():
        raise InvalidSpecError((f"no folder {root}; a relative path starts at {base}",), project)
    return _local(root)


def _local(root: Path) -> Checkout:
    commit = _commit(root)
    files = _files(root) if commit else ()
    if not files:
        # A repository further up that ignores this folder, as a checkout does a trial's home, says nothing about it.
        return Checkout(root=root)
    diff = difference(root)
    return Checkout(root=root, commit=commit, is_dirty=bool(diff), url=_origin(root), diff=diff, files=files)


def _commit(root: Path) -> str | None:
    """Return the commit that a folder is at, or None outside Git and where nothing was committed yet.

    Both are code in no known commit, which is marked, and of which no model is ever promoted. Code that Git does not
    let this user read may be committed all the same, so that is an error.
    """
    try:
        words = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
        return run(words, cwd=root, environment={"LC_ALL": "C"}).strip()
    except ToolFailedError as refused:
        is_bare = refused.exit_code == _NO_COMMIT and not refused.output
        if is_bare or _OUTSIDE in refused.output.lower():
            return None
        raise


def _files(root: Path) -> tuple[str, ...]:
    listed = run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", "."], cwd=root)
    return tuple(name for name in listed.split("\0") if name)


def _origin(root: Path) -> str | None:
    try:
        return redact(run(["git", "config", "--get", "remote.origin.url"], cwd=root).strip()) or None
    except ToolFailedError:
        # So Git answers where there is no remote.
        return None


def _clone(project: str, revision: str, settings: Settings) -> Checkout:
    location, _, fragment = project.removeprefix("git+").partition("#")
    url, environment = _without_credentials(location)
    base = settings.home / "checkouts" / digest(url)[:16]
    with exclusive(base.with_suffix(".lock")):
        mirror = _mirror(url, base / "mirror.git", revision, environment)
        commit = _resolve(mirror, revision)
        tree = base / commit
        _restore(tree, commit)
        if not tree.exists():
            with fresh_folder(tree) as folder:
                run(["git", "clone", "--quiet", "--no-checkout", "--", mirror, folder], cwd=base)
                run(["git", "checkout", "--quiet", "--detach", commit], cwd=folder)
                run(["git", "remote", "set-url", "origin", url], cwd=folder)
    root = (tree / fragment.removeprefix("subdirectory=")).resolve()
    if not root.is_relative_to(tree.resolve()) or not root.is_dir():
        raise InvalidSpecError((f"no folder {fragment!r} at {commit[:12]}",), redact(project))
    return Checkout(root=root, commit=commit, url=redact(url), files=_files(root))


def _restore(tree: Path, commit: str) -> None:
    """Undo what somebody changed in a clone; one that lost its `.git` goes, lest Git find another further up."""
    if not (tree / ".git").is_dir():
        remove(tree)
        return
    run(["git", "checkout", "--quiet", "--force", "--detach", commit], cwd=tree)
    run(["git", "clean", "--quiet", "-ffd"], cwd=tree)


def _mirror(url: str, mirror: Path, revision: str, environment: dict[str, str]) -> Path:
    if not mirror.exists():
        with fresh_folder(mirror) as folder:
            run(
                ["git", "clone", "--quiet", "--mirror", "--", url, folder],
                cwd=mirror.parent,
                environment=environment,
            )
    elif not (_COMMIT.match(revision) and _knows(mirror, revision)):
        run(["git", "fetch", "--quiet", "--prune", "origin"], cwd=mirror, environment=environment)
    return mirror


def _resolve(mirror: Path, revision: str) -> str:
    return run(
        ["git", "rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}"], cwd=mirror
    ).strip()


def _knows(mirror: Path, commit: str) -> bool:
    """Tell whether a mirror has a commit; one that it does not have is fetched."""
    try:
        return _resolve(mirror, commit) == commit
    except ToolFailedError:
        return False


def _without_credentials(url: str) -> tuple[str, dict[str, str]]:
    quiet = {"GIT_TERMINAL_PROMPT": "0"}
    parts = urlsplit(url)
    if parts.scheme.startswith("http") and "@" not in parts.netloc and redact(url) != url:
        fault = "a password with / must be written with %2F, or git takes it for a path"
        raise InvalidSpecError((fault,), redact(url))
    if not parts.scheme.startswith("http") or "@" not in parts.netloc:
        return url, quiet
    login, _, host = parts.netloc.rpartition("@")
    clean = urlunsplit(parts._replace(netloc=host))
    pair = unquote(login if ":" in login else f"{login}:")
    secret = base64.b64encode(pair.encode()).decode()
    return clean, quiet | {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{clean}.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {secret}",
    }
