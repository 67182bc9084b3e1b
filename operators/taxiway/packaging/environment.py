"""Locks a component's requirements and makes its virtual environment, both with uv.

A lock names versions and no index, so that it is the same behind every mirror. Equal locks share one environment.
Bytecode is compiled at first import, not at installation: installing takes 0.2 s instead of 6 s, and what a component
never imports is never compiled; so an environment stays writable for its owner.
"""

import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import SpecifierSet

from taxiway.errors import ToolFailedError
from taxiway.packaging import libraries
from taxiway.settings import Settings
from taxiway.tools import digest, exclusive, program, remove, run, write_atomically

_MARKER = ".complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """Exact versions for one Python on one platform.

    Attributes:
        text: One `name==version` a line, no index address, no hashes.
        python: Version of Python, such as `3.11`.
    """

    text: str
    python: str

    @property
    def hash(self) -> str:
        """SHA-256 of the text, 64 hexadecimal characters."""
        return digest(self.text)

    @property
    def key(self) -> str:
        """Name of the environment: the lock, the Python and the platform."""
        return digest([self.text, self.python, sys.platform, platform.machine()])[:16]


def lock(requirements: Iterable[str], requires_python: str, settings: Settings) -> Lock:
    """Resolve requirements to exact versions, once for each set of requirements and constraints.

    The answer is kept under `home/locks`, so that packaging the same code tomorrow gives the same package although an
    index has moved on; delete the file to resolve again.

    Raises:
        ToolFailedError: If uv finds no solution, or no Python that `requires_python` allows.
    """
    wanted = sorted(set(requirements))
    python = _python_version(requires_python, settings)
    limits = settings.constraints.read_text(encoding="utf-8") if settings.constraints else ""
    memo = (
        settings.home
        / "locks"
        / f"{digest([wanted, limits, python, sys.platform, platform.machine()])[:16]}.txt"
    )
    with exclusive(memo.with_suffix(".lock")):
        if not memo.exists():
            write_atomically(memo, _resolve(wanted, python, settings, memo.with_suffix(".in")))
    return Lock(text=memo.read_text(encoding="utf-8"), python=python)


def ensure(locked: Lock, settings: Settings) -> Path:
    """Return the Python of the environment of a lock, installed if it is not there.

    Safe to call from several processes at once; one that is killed half-way leaves nothing that looks finished.

    Raises:
        ToolFailedError: If uv cannot install it.
    """
    folder = settings.home / "environments" / locked.key
    python = folder / "bin" / "python"
    if (folder / _MARKER).exists():
        return python
    with exclusive(folder.with_suffix(".lock")):
        if not (folder / _MARKER).exists():
            remove(folder)
            run(
                [program("uv"), "venv", "-q", "--python", _interpreter(locked.python), folder],
                cwd=folder.parent,
            )
            _install(locked, folder, python, settings)
            (folder / _MARKER).touch()
    return python


def install_into(locked: Lock, target: Path, scratch: Path, settings: Settings) -> None:
    """Install what a lock names into a plain folder, compiled, for a container of the same Python and platform.

    The compiled files are checked by nothing, so they are the same bytes on every host and stay valid when copied.

    Raises:
        ToolFailedError: If uv cannot install it.
    """
    target.mkdir()
    if not locked.text.strip():
        return
    requirements = scratch / "lock.txt"
    requirements.write_text(libraries.requirements(locked.text, settings), encoding="utf-8")
    command = [str(program("uv")), "pip", "install", "-q", "--no-deps", "--compile-bytecode"]
    command += ["--python", _interpreter(locked.python), "--target", str(target), "-r", str(requirements)]
    _offline_first(command, scratch, {"PYC_INVALIDATION_MODE": "unchecked-hash"})


def _install(locked: Lock, folder: Path, python: Path, settings: Settings) -> None:
    requirements = folder / "lock.txt"
    requirements.write_text(libraries.requirements(locked.text, settings), encoding="utf-8")
    command = [program("uv"), "pip", "install", "-q", "--no-deps", "--python", python, "-r", requirements]
    _offline_first([str(part) for part in command], folder)


def _resolve(wanted: list[str], python: str, settings: Settings, source: Path) -> str:
    write_atomically(source, "\n".join(wanted) + "\n")
    command = [str(program("uv")), "pip", "compile", "-q", "--no-header", "--no-annotate", str(source)]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--python", _interpreter(python)]
    if libraries.folder(settings).is_dir():
        command += ["--find-links", str(libraries.folder(settings))]
    if settings.constraints is None:
        return run(command, cwd=source.parent)
    command += ["--constraints", str(settings.constraints)]
    return _offline_first(command, source.parent)


def _offline_first(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    # Exact versions have one solution, so uv's cache answers as well as an index does, and much faster.
    link = {"UV_LINK_MODE": "hardlink", **(environment or {})}
    try:
        return run([*command, "--offline"], cwd=folder, environment=link)
    except ToolFailedError:
        return run(command, cwd=folder, environment=link)


def _python_version(requires_python: str, settings: Settings) -> str:
    if SpecifierSet(requires_python).contains(platform.python_version(), prereleases=True):
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    settings.home.mkdir(parents=True, exist_ok=True)
    found = run([program("uv"), "python", "find", requires_python], cwd=settings.home).strip()
    show = "import sys; print('%d.%d' % sys.version_info[:2])"
    return run([found, "-c", show], cwd=settings.home).strip()


def _interpreter(version: str) -> str:
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    return sys.executable if version == ours else version
