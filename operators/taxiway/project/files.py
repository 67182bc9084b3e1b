"""The rules about what a model project's files hold: which belong to a component, and what they must define.

Each function returns faults, or appends to those it is given; none raises for a fault, none imports the code.
"""

import ast
import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from taxiway.private import is_private


def candidates(root: Path, tracked: Iterable[str] | None) -> tuple[str, ...]:
    """Return every file that may be packed, relative: what Git knows or, outside Git, what is there.

    Version control, caches, virtual environments, `.env` files and compiled Python are never among them.
    """
    names = _walk(root, root) if tracked is None else tracked
    return tuple(name for name in names if not is_private(name) and (root / name).is_file())


def select(
    root: Path, known: Iterable[str], patterns: Iterable[str], where: str, faults: list[str]
) -> tuple[str, ...]:
    """Return the files of a component among the candidates, sorted: those that the patterns match, or all of them."""
    globs = tuple(patterns)
    if not globs:
        return _inside(root, set(known), where, faults)
    found: set[str] = set()
    for pattern in globs:
        if _leaves(pattern):
            faults.append(f"{where}.files: {pattern!r} leaves the project")
            continue
        try:
            paths = {path.relative_to(root).as_posix() for path in root.glob(pattern)}
        except (ValueError, IndexError) as exc:
            faults.append(f"{where}.files: {pattern!r} is no pattern: {exc}")
            continue
        matched = {name for name in known if not paths.isdisjoint(_with_parents(name))}
        if not matched:
            faults.append(f"{where}.files: {pattern!r} matches no file that may be packed")
        found |= matched
    return _inside(root, found, where, faults)


def _leaves(name: str) -> bool:
    return Path(name).is_absolute() or ".." in Path(name).parts


def _with_parents(name: str) -> set[str]:
    path = PurePosixPath(name)
    return {name, *(parent.as_posix() for parent in path.parents)}


def _inside(root: Path, names: set[str], where: str, faults: list[str]) -> tuple[str, ...]:
    home = root.resolve()
    left = sorted(name for name in names if not (root / name).resolve().is_relative_to(home))
    faults += [f"{where}.files: {name} is a link that leaves the project" for name in left]
    return tuple(sorted(names - set(left)))


def _walk(path: Path, root: Path) -> Iterable[str]:
    if path != root and is_private(path.name):
        return
    if path.is_dir() and not path.is_symlink():
        for child in path.iterdir():
            yield from _walk(child, root)
    elif path.is_file():
        yield path.relative_to(root).as_posix()


def contract_files(root: Path, known: Iterable[str], contract: str, faults: list[str]) -> tuple[str, ...]:
    """Return the contract and the request bodies that it names, so that they travel in the inference package."""
    where, may_be_packed = "[tool.taxiway.verification].contract", frozenset(known)
    if not _is_packable(root, contract, may_be_packed, where, faults):
        return ()
    try:
        document = json.loads((root / contract).read_text(encoding="utf-8"))
    except ValueError as exc:
        faults.append(f"{where}: {contract} is not JSON: {exc}")
        return ()
    if not isinstance(document, dict):
        faults.append(f"{where}: {contract} must be an object, got {type(document).__name__}")
        return ()
    bodies = [(Path(contract).parent / name).as_posix() for name in _bodies(document, contract, faults)]
    return tuple(
        name for name in (contract, *bodies) if _is_packable(root, name, may_be_packed, contract, faults)
    )


def _bodies(document: Mapping[str, Any], contract: str, faults: list[str]) -> list[str]:
    found = []
    for key in ("requests", "malformed"):
        entries = document.get(key, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            faults.append(f"{contract}: {key} must be a list of objects, got {entries!r:.80}")
            continue
        found += [entry["file"] for entry in entries if isinstance(entry.get("file"), str)]
    return found


def _is_packable(root: Path, name: str, known: frozenset[str], where: str, faults: list[str]) -> bool:
    if _leaves(name) or (
        (root / name).exists() and not (root / name).resolve().is_relative_to(root.resolve())
    ):
        faults.append(f"{where} names {name}, which leaves the project")
    elif not (root / name).is_file():
        faults.append(f"{where} names {name}, which is missing")
    elif name not in known:
        faults.append(f"{where} names {name}, which is never packed: Git ignores it, or it is private")
    else:
        return True
    return False


def source_faults(
    root: Path, files: tuple[str, ...], where: str, command: str | None, service: str | None
) -> list[str]:
    """Return what is wrong with a component's source: syntax, a script that is missing, a service that is."""
    faults = [fault for name in files if name.endswith(".py") for fault in _syntax_faults(root, name)]
    if command:
        faults += _command_faults(command, files, where)
    if service:
        faults += _service_faults(root, files, service, where)
    return faults


def _syntax_faults(root: Path, name: str) -> list[str]:
    try:
        ast.parse((root / name).read_bytes(), filename=name)
    except (SyntaxError, ValueError) as exc:
        return [f"{name} line {getattr(exc, 'lineno', None) or 0} is not Python: {exc.args[0]}"]
    return []


def _command_faults(command: str, files: tuple[str, ...], where: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as exc:
        return [f"{where}.command {command!r} cannot be split: {exc}"]
    scripts = [Path(word).as_posix() for word in words if word.endswith((".py", ".sh"))]
    return [
        f"{where}.command runs {name}, which is not among its files" for name in scripts if name not in files
    ]


def _service_faults(root: Path, files: tuple[str, ...], service: str, where: str) -> list[str]:
    module, separator, name = service.partition(":")
    path = module.replace(".", "/") + ".py"
    if not separator or not name.isidentifier():
        return [f"{where}.service must be module:Class, got {service!r}"]
    if path not in files:
        return [f"{where}.service names {path}, which is not among its files"]
    try:
        tree = ast.parse((root / path).read_bytes())
    except (SyntaxError, ValueError):
        # Named already, with its line, as a fault of the file.
        return []
    if name not in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}:
        return [f"{where}.service names {name}, which {path} does not define as a class"]
    return []


def read_mlproject(root: Path, faults: list[str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the entry points of an `MLproject` file as name: (command, default parameters); empty without one."""
    path = root / "MLproject"
    if not path.is_file():
        return {}
    import yaml

    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))["entry_points"]
        found = {name: (entry["command"], _mlproject_defaults(entry)) for name, entry in entries.items()}
        if not all(isinstance(text, str) for name, (command, _) in found.items() for text in (name, command)):
            raise TypeError("names and commands of entry points must be texts")
        return found
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as exc:
        faults.append(f"MLproject cannot be read: {exc}")
        return {}


def _mlproject_defaults(entry: Mapping[str, Any]) -> dict[str, Any]:
    given = entry.get("parameters") or {}
    pairs = {name: item.get("default") if isinstance(item, dict) else None for name, item in given.items()}
    return {name: default for name, default in pairs.items() if default is not None}
