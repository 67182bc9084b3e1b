"""Published libraries on this host: where their wheels are, which a lock names, how uv is told to take these.

They are published and brought by `registry/libraries.py`.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from taxiway.errors import ArtifactChangedError
from taxiway.packaging.wheel import filename
from taxiway.settings import Settings


def folder(settings: Settings) -> Path:
    """Return the folder of the published wheels on this host; it need not be there."""
    return settings.home / "libraries"


def published_hash(wheel: Path) -> Path:
    """Return the file beside a wheel that says which SHA-256 it was published with."""
    return wheel.with_name(f"{wheel.name}.sha256")


def hash_of(wheel: Path) -> str:
    """Return the SHA-256 of a wheel as it is."""
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def libraries_of(lock: str, settings: Settings) -> dict[str, dict[str, str]]:
    """Return version and SHA-256 of each published library that a lock names, by name.

    Args:
        lock: One `name==version` a line.
        settings: Where the wheels are.

    Raises:
        ArtifactChangedError: If a wheel here is not the one that was published.
    """
    return {
        name: {"version": version, "hash": hash_of(wheel)}
        for name, version, wheel in _published(lock, settings)
    }


def requirements(lock: str, settings: Settings) -> str:
    """Return a lock as uv installs it: a published library by its wheel, so that no index can give another.

    Raises:
        ArtifactChangedError: If a wheel here is not the one that was published.
    """
    wheels = {f"{name}=={version}": wheel for name, version, wheel in _published(lock, settings)}
    return "".join(f"{_required(line, wheels)}\n" for line in lock.splitlines())


def _required(line: str, wheels: dict[str, Path]) -> str:
    pin, space, rest = line.partition(" ")
    if pin not in wheels:
        return line
    return f"{pin.partition('==')[0]} @ {wheels[pin].as_uri()}{space}{rest}"


def _published(lock: str, settings: Settings) -> Iterator[tuple[str, str, Path]]:
    for line in lock.splitlines():
        name, pinned, version = line.partition(" ")[0].partition("==")
        wheel = folder(settings) / filename(name, version)
        if pinned and wheel.is_file():
            _check(wheel)
            yield name, version, wheel


def _check(wheel: Path) -> None:
    memory, got = published_hash(wheel), hash_of(wheel)
    if memory.is_file() and memory.read_text(encoding="utf-8") != got:
        again = "delete it; packaging brings the published one again"
        raise ArtifactChangedError(wheel.name, "wheel", memory.read_text(encoding="utf-8"), got, again)
