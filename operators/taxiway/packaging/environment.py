"""Locks a component's requirements and makes its virtual environment, both with uv.

A lock names versions and no index, so that it is the same behind every mirror. Equal locks share one environment, and
what was installed is remembered: one that somebody changed since is replaced (`generations.py`), and a run in it is no
run of its lock.
Bytecode is compiled at first import, not at installation: installing takes 0.2 s instead of 6 s, and what a component
never imports is never compiled; so an environment stays writable for its owner.
"""

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import SpecifierSet

from taxiway.errors import ToolFailedError
from taxiway.packaging import generations, libraries, soundness
from taxiway.settings import Settings
from taxiway.tools import digest, exclusive, program, remove, run, settle, shared, write_atomically

_MARKER, _SITE = ".complete", "lib/python*/site-packages"
_LINKED = {"UV_LINK_MODE": "hardlink"}


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
        # A power cut may have left the name without its bytes: no requirements at all, which nobody would notice.
        if not memo.exists() or (wanted and not memo.read_text(encoding="utf-8").strip()):
            write_atomically(memo, _resolve(wanted, python, settings, memo.with_suffix(".in")))
            settle([memo])
    return Lock(text=memo.read_text(encoding="utf-8"), python=python)


def ensure(locked: Lock, settings: Settings) -> Path:
    """Return the Python of the environment of a lock, installed if it is not there.

    One that is not what was installed any more is left to whoever runs in it, and another is made beside it. Safe to
    call from several processes at once; one that is killed half-way leaves nothing that looks finished.

    Raises:
        ToolFailedError: If uv cannot install it.
    """
    first = settings.home / "environments" / locked.key
    known = generations.every(first)
    if generations.is_settled(first) and known and _is_whole(known[0]):
        return _python(known[0])
    with exclusive(first.with_name(f"{first.name}.lock")):
        current = next(reversed(generations.every(first)), first)
        if not _is_whole(current):
            current = generations.following(first) if (current / _MARKER).exists() else current
            _make(locked, current, settings)
        generations.sweep(first, current)
    return _python(current)


def occupied(python: Path) -> AbstractContextManager[int]:
    """Keep the environment of an interpreter from being swept, in the block and as long as a child has its lock."""
    return shared(python.parents[1])


def changes(python: Path) -> tuple[str, ...]:
    """Return the files of an environment that are others than were installed, came since, or are gone; sorted.

    Compiled files are none of them. Costs 6 ms a thousand files.

    Args:
        python: Its interpreter; one that `ensure` did not make has no changes that anybody knows of.
    """
    folder = python.parents[1]
    known = _installed(folder)
    if known is None:
        return ()
    found = _files(folder)
    return tuple(sorted(name for name in {*known, *found} if known.get(name) != found.get(name)))


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _is_whole(folder: Path) -> bool:
    return _installed(folder) is not None and not changes(_python(folder))


def _make(locked: Lock, folder: Path, settings: Settings) -> None:
    if folder.is_symlink():
        # To a generation that somebody removed by hand.
        folder.unlink()
    remove(folder)
    run([program("uv"), "venv", "-q", "--python", _interpreter(locked.python), folder], cwd=folder.parent)
    _install(locked, folder, settings)
    write_atomically(folder / _MARKER, json.dumps(_files(folder)))


def _installed(folder: Path) -> dict[str, list[int]] | None:
    """Return what was installed in a folder, or None where nobody came to the end of it: it is made anew."""
    try:
        return dict(json.loads((folder / _MARKER).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return None


def _files(folder: Path) -> dict[str, list[int]]:
    """Return size, time and number of each file of the installed packages, by its name in there.

    A file's time of change is left out: it moves whenever another environment links to the same file.
    """
    found: dict[str, list[int]] = {}
    for site in folder.glob(_SITE):
        for parent, folders, names in os.walk(site):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for name in names:
                path = f"{parent}/{name}"
                seen = os.lstat(path)
                found[path[len(f"{site}/") :]] = [seen.st_size, seen.st_mtime_ns, seen.st_ino]
    return found


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
    _from_sound_cache(command, target, scratch, {"PYC_INVALIDATION_MODE": "UNCHECKED_HASH"})
    _require_bytecode(target)


def _require_bytecode(target: Path) -> None:
    sources = sum(1 for _ in target.rglob("*.py"))
    if sources and next(target.rglob("*.pyc"), None) is None:
        said = f"it compiled none of {sources} modules; each start of a container would do so"
        raise ToolFailedError("uv pip install --compile-bytecode", 0, said)


def _install(locked: Lock, folder: Path, settings: Settings) -> None:
    requirements = folder / "lock.txt"
    requirements.write_text(libraries.requirements(locked.text, settings), encoding="utf-8")
    command = [str(program("uv")), "pip", "install", "-q", "--no-deps"]
    command += ["--python", str(_python(folder)), "-r", str(requirements)]
    (site,) = folder.glob(_SITE)
    _from_sound_cache(command, site, folder)


def _from_sound_cache(
    command: Sequence[str], site: Path, folder: Path, environment: Mapping[str, str] | None = None
) -> None:
    """Install from uv's cache; what somebody wrote to in there is brought anew, for all who come later as well."""
    _offline_first(command, folder, environment)
    # A wheel that is at odds with its own record is so again, and is taken as it is.
    names = soundness.spoiled(site)
    again = [word for name in names for word in ("--refresh-package", name, "--reinstall-package", name)]
    try:
        if again:
            run([*command, *again], cwd=folder, environment=_LINKED | dict(environment or {}))
    except ToolFailedError as error:
        why = (
            f"uv's cache has other files of {', '.join(names)} than their wheels, which were asked for again"
        )
        raise ToolFailedError(error.command, error.exit_code, f"{why}: {error.output}") from error


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
    link = _LINKED | dict(environment or {})
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
