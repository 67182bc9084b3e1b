"""Publishes an improvement as a wheel under a name, and finds those of others by task."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from taxiway import checkout as checkouts
from taxiway.arguments import typed
from taxiway.checkout import Checkout
from taxiway.errors import InvalidSpecError
from taxiway.packaging import wheel
from taxiway.project.files import candidates
from taxiway.registry import libraries
from taxiway.registry.libraries import Library
from taxiway.research.cells import here
from taxiway.settings import Settings

_NO_LIBRARY = frozenset({"test", "tests", "docs", "examples", "setup.py", "conftest.py", "pyproject.toml"})


@typed
def publish(
    folder: str | Path,
    name: str | None = None,
    version: str | None = None,
    *,
    task: str = "",
    summary: str = "",
    settings: Settings | None = None,
) -> Library:
    """Publish the Python files of a folder as a library that projects require as `name==version`.

    Packages and modules in `src/`, or else in the folder itself, are what it installs; a folder that is a package
    itself is installed under its own name. What is published under a
    version never changes: the same files again are the same library, other files are refused.

    Args:
        folder: What to publish; its `pyproject.toml`, if it has one, says what an argument does not.
        name: Name of the library; None is `[project] name`.
        version: Its version; None is `[project] version`.
        task: What it is for, such as `visual recognition`: how others find it.
        summary: One line; empty is `[project] description`.
        settings: Where everything is; None reads the environment.

    Raises:
        InvalidSpecError: If a name, a version or Python files are missing; every fault is named.
        ArtifactChangedError: If this version was published with other files.
    """
    where = here(settings)
    found = checkouts.locate(str(Path(folder).resolve()), where)
    metadata, files = _read(found, name, version, summary)
    return libraries.publish(
        metadata,
        wheel.build(metadata, files),
        where,
        task=task,
        commit=found.commit,
        is_dirty=found.is_dirty,
    )


@typed
def find_libraries(
    text: str = "", *, task: str = "", settings: Settings | None = None
) -> tuple[Library, ...]:
    """Return the published libraries for a task, or whose name, task or summary holds every word of a text.

    Args:
        text: Words, in any case; an empty text is every library.
        task: What it is for, in any case; an empty text is any task.
        settings: Where everything is; None reads the environment.
    """
    return libraries.find(here(settings), task=task, text=text)


def _read(
    found: Checkout, name: str | None, version: str | None, summary: str
) -> tuple[wheel.Metadata, dict[str, bytes]]:
    project = _project(found.root)
    faults: list[str] = []
    known = _name(name or project.get("name"), faults)
    metadata = wheel.Metadata(
        name=known,
        version=_version(version or project.get("version"), faults),
        summary=summary or str(project.get("description", "")),
        requires_python=str(project.get("requires-python", "")),
        requires=_requires(project.get("dependencies", []), faults),
    )
    files = _files(found)
    if not files:
        faults.append(
            f"no Python file to publish in {found.root}: put a package or a module there, or in src/"
        )
    if faults:
        raise InvalidSpecError(tuple(faults), f"library {known or found.root}")
    return metadata, files


def _project(root: Path) -> Mapping[str, Any]:
    path = root / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    except ValueError as exc:
        raise InvalidSpecError((f"pyproject.toml is not TOML: {exc}",), str(root)) from exc
    return table if isinstance(table, dict) else {}


def _name(value: Any, faults: list[str]) -> str:
    try:
        return canonicalize_name(str(value or ""), validate=True)
    except InvalidName:
        faults.append(f"a library's name must be letters, digits, - or _, got {value!r}")
        return ""


def _version(value: Any, faults: list[str]) -> str:
    try:
        return str(Version(str(value or "")))
    except InvalidVersion:
        faults.append(f"a library's version must be one such as 1.0, got {value!r}")
        return "0"


def _requires(value: Any, faults: list[str]) -> tuple[str, ...]:
    given = value if isinstance(value, list) else [value]
    for each in given:
        try:
            Requirement(str(each))
        except InvalidRequirement:
            faults.append(f"[project] dependencies: {each!r} is no requirement")
    return tuple(map(str, given))


def _files(found: Checkout) -> dict[str, bytes]:
    """Return content by its path in the wheel: every file of a package, and modules beside them."""
    names = candidates(found.root, found.files)
    inside = [name for name in names if name.startswith("src/")]
    chosen = {name.removeprefix("src/"): found.root / name for name in inside or names}
    kept = {name: path for name, path in chosen.items() if name.split("/")[0] not in _NO_LIBRARY}
    if "__init__.py" in kept:
        return {f"{_package(found, inside)}/{name}": path.read_bytes() for name, path in kept.items()}
    packages = {name.split("/")[0] for name in kept if name.count("/") == 1 and name.endswith("/__init__.py")}
    return {
        name: path.read_bytes()
        for name, path in kept.items()
        if name.split("/")[0] in packages or ("/" not in name and name.endswith(".py"))
    }


def _package(found: Checkout, inside: Sequence[str]) -> str:
    """Return the name under which a folder that is a package itself is imported.

    Raises:
        InvalidSpecError: If nothing can be imported under its name.
    """
    folder = found.root / "src" if inside else found.root
    if inside or not folder.name.isidentifier():
        fault = f"{folder} is a package, and {folder.name} is no name to import it by; put it into a folder with one"
        raise InvalidSpecError((fault,), f"library {folder}")
    return folder.name
