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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from taxiway.errors import ToolFailedError
from taxiway.settings import child_environment, tool_environment

OUTPUT_LIMIT, COMMAND_LIMIT = 4_000, 300
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def redact(text: str) -> str:
    """Return the text with the credentials of every URL in it removed."""
    return _CREDENTIALS.sub("", text)


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    is_trusted: bool = True,
) -> str:
    """Run a tool and return its standard output.

    Args:
        argv: Program and arguments; no secret may be among them.
        cwd: Working directory.
        environment: Variables beside those that it inherits.
        is_trusted: Whether it may see proxies and credentials of this host; false for what runs a project's code.

    Raises:
        ToolFailedError: If it is missing or ends with an error; the end of its output is in the message.
    """
    command = [str(part) for part in argv]
    shown = " ".join(command)[:COMMAND_LIMIT].split("\n")[0]
    env = (tool_environment() if is_trusted else child_environment()) | dict(environment or {})
    try:
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
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
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock between the processes and threads of one host; the kernel frees it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder that becomes `target`, in one step, when the block ends well; else nothing is left.

    Where another process made `target` first, its folder stays: both hold the same content by their name.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}")
    folder.mkdir()
    try:
        yield folder
        _rename(folder, target)
    finally:
        remove(folder)


def _rename(folder: Path, target: Path) -> None:
    try:
        os.rename(folder, target)
    except OSError:
        if not target.exists():
            raise


def remove(path: Path) -> None:
    """Remove a folder tree if it is there, read-only parts too."""
    if not path.exists():
        return
    for folder, _, _ in os.walk(path):
        os.chmod(folder, 0o700)
    shutil.rmtree(path)


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step, so that a reader sees the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
