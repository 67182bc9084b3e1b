"""Runs the tools beside the library (git, dvc, uv) as child processes, and keeps files consistent between processes.

Credentials never reach a command line or an error: `redact` cleans what is stored or shown.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from taxiway.errors import ToolFailedError
from taxiway.settings import child_environment, tool_environment

OUTPUT_LIMIT, COMMAND_LIMIT = 4_000, 300
MOST_SETTLED = 64
"""Files beyond which one call for the whole machine costs less than one for each."""
# A password may hold `@` and `/`: after a colon, all up to the last `@` counts as one.
_CREDENTIALS = re.compile(r"""(?<=://)(?:[^\s/@:]*:[^\s'"]*|[^\s/]*)@""")
_DRAFT = re.compile(r"^\..+\.[0-9a-f]{8}$")
_HELD: ContextVar[tuple[int, ...]] = ContextVar("locks that this thread holds", default=())


def redact(text: str) -> str:
    """Return the text with the credentials of every URL in it removed."""
    return _CREDENTIALS.sub("", text)


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    is_trusted: bool = True,
    stdin: str | None = None,
) -> str:
    """Run a tool and return its standard output.

    Args:
        argv: Program and arguments; no secret may be among them.
        cwd: Working directory.
        environment: Variables beside those that it inherits.
        is_trusted: Whether it may see proxies and credentials of this host; false for what runs a project's code.
        stdin: What it reads; None is this process's own.

    Raises:
        ToolFailedError: If it is missing or ends with an error; the end of its output is in the message.
    """
    command = [str(part) for part in argv]
    shown = " ".join(command)[:COMMAND_LIMIT].split("\n")[0]
    env = (tool_environment() if is_trusted else child_environment()) | dict(environment or {})
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            pass_fds=held_locks(),
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
        )
    except FileNotFoundError as exc:
        raise ToolFailedError(redact(command[0]), 127, f"{exc.filename} is not there; install it") from exc
    if done.returncode != 0:
        output = (done.stdout + done.stderr).strip()[-OUTPUT_LIMIT:]
        raise ToolFailedError(redact(shown), done.returncode, redact(output))
    return done.stdout


def program(name: str) -> Path:
    """Return the program beside this interpreter, where pip and uv put it, or the one on the path.

    Raises:
        ToolFailedError: If there is none.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ToolFailedError(name, 127, f"no {name} beside {sys.executable} nor on the path; install it")
    return Path(found)


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form, 64 hexadecimal characters."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@contextlib.contextmanager
def exclusive(path: Path, *, waits: bool = True) -> Iterator[None]:
    """Hold a lock between the processes and threads of one host.

    The kernel frees it when its holder dies and, with it, every tool that `run` started under it: whoever waits never
    meets what a killed process left running.

    Args:
        path: A file, made if it is not there, or a folder.
        waits: Whether to wait for whoever holds it.

    Raises:
        BlockingIOError: If somebody holds it, and this one does not wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        with _handed_down(descriptor):
            yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


@contextlib.contextmanager
def in_turn(path: Path, log: Callable[[str], object], told: str) -> Iterator[None]:
    """Hold a lock as `exclusive` does, where one may wait for hours: if somebody else holds it, that is logged.

    Args:
        path: As of `exclusive`.
        log: Takes the line.
        told: Whom one waits for.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(exclusive(path, waits=False))
        except BlockingIOError:
            log(f"waiting: {told}")
            held.enter_context(exclusive(path))
        yield


@contextlib.contextmanager
def shared(folder: Path) -> Iterator[int]:
    """Hold a lock on a folder that any number may hold, and that keeps whoever has it `claimed` away.

    Whatever was given the descriptor, as what `run` starts is, holds it on when the block has ended.
    """
    while True:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            # Another folder may have taken its place while this one was waited for.
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                with _handed_down(descriptor):
                    yield descriptor
                return
        finally:
            os.close(descriptor)


def held_locks() -> tuple[int, ...]:
    """Return the descriptors of the locks that this thread holds, for `pass_fds` of a child that works under them."""
    return _HELD.get()


@contextlib.contextmanager
def _handed_down(descriptor: int) -> Iterator[None]:
    _HELD.set((*_HELD.get(), descriptor))
    try:
        yield
    finally:
        _HELD.set(tuple(held for held in _HELD.get() if held != descriptor))


@contextlib.contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder that becomes `target`, in one step, when the block ends well; else nothing is left.

    Where another process made `target` first, its folder stays: both hold the same content by their name. What a
    killed process left half-made beside it is removed.
    """
    with scratch_folder(target.parent, target.name) as folder:
        yield folder
        _rename(folder, target)


@contextlib.contextmanager
def scratch_folder(parent: Path, name: str = "scratch") -> Iterator[Path]:
    """Give an empty folder for the time of the block; what a killed process left of one is removed first.

    Args:
        parent: Where it is made; it is made, too.
        name: Part of the folder's name, for people.
    """
    parent.mkdir(parents=True, exist_ok=True)
    _sweep(parent)
    tag = uuid.uuid4().hex[:8]
    folder, unlocked = parent / f".{name}.{tag}", parent / f".{tag}"
    unlocked.mkdir()
    with exclusive(unlocked):
        # Only now has it a draft's name: no other process sweeps a draft that is locked.
        os.rename(unlocked, folder)
        try:
            yield folder
        finally:
            remove(folder)


def _sweep(parent: Path) -> None:
    """Remove the drafts that nobody works on: whoever does holds a lock on the draft."""
    for draft in parent.iterdir():
        if _DRAFT.match(draft.name):
            with contextlib.suppress(BlockingIOError, FileNotFoundError, NotADirectoryError), claimed(draft):
                remove(draft)


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a folder alone.

    Raises:
        BlockingIOError: If somebody holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _rename(folder: Path, target: Path) -> None:
    try:
        os.rename(folder, target)
    except OSError:
        # Another process was first, with the same content.
        if not target.exists():
            raise


def remove(path: Path) -> None:
    """Remove a folder tree if it is there, read-only parts too."""
    if not path.exists():
        return
    for folder, _, _ in os.walk(path):
        os.chmod(folder, 0o700)
    shutil.rmtree(path)


def protect(folder: Path) -> None:
    """Make everything in a folder readable by all and writable by none; the folder itself stays as it is."""
    for parent, _, names in os.walk(folder):
        for name in names:
            os.chmod(Path(parent) / name, 0o444)
        if Path(parent) != folder:
            os.chmod(parent, 0o555)  # noqa: S103 - readable by every component, writable by none


def settle(paths: Collection[Path | str]) -> None:
    """Have files on disk before anything is said of them: a power cut must not leave a name without its bytes.

    Args:
        paths: Files that were written; their folders are settled too.
    """
    if len(paths) > MOST_SETTLED:
        os.sync()
        return
    for path in (*paths, *{Path(path).parent for path in paths}):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_atomically(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace a file in one step, so that a reader sees the old text or the new one, with no wider mode than given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(draft, path)
