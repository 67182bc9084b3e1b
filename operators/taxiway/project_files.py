"""The rules about what a model project's files hold: which belong to a component, and what they must define.

Each function returns faults, or appends to those it is given; none raises for a fault, none imports the code.
"""

import ast
import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

NEVER_PACKED = frozenset(
    {
        ".dvc",
        ".env",
        ".git",
        ".hg",
        ".ipynb_checkpoints",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".svn",
        ".trial",
        ".venv",
        "__pycache__",
        "mlruns",
        "node_modules",
        "venv",
    }
)
_DISTRIBUTIONS = {"float": ("low", "high"), "int": ("low", "high"), "categorical": ("choices",)}
_OPTIONAL = frozenset({"type", "log", "step"})


def select(root: Path, patterns: Iterable[str], where: str, faults: list[str]) -> tuple[str, ...]:
    """Return the files of a component, relative and sorted: those that the patterns match, or the whole project.

    Version control, caches, virtual environments, `.env` files and compiled Python are never among them.
    """
    globs = tuple(patterns)
    if not globs:
        return _inside(root, set(_walk(root, root)), where, faults)
    found: set[str] = set()
    for pattern in globs:
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            faults.append(f"{where}.files: {pattern!r} leaves the project")
            continue
        matched = {name for path in root.glob(pattern) for name in _walk(path, root)}
        if not matched:
            faults.append(f"{where}.files: {pattern!r} matches no file")
        found |= matched
    return _inside(root, found, where, faults)


def _inside(root: Path, names: set[str], where: str, faults: list[str]) -> tuple[str, ...]:
    home = root.resolve()
    left = sorted(name for name in names if not (root / name).resolve().is_relative_to(home))
    faults += [f"{where}.files: {name} is a link that leaves the project" for name in left]
    return tuple(sorted(names - set(left)))


def _walk(path: Path, root: Path) -> Iterable[str]:
    if (path.name in NEVER_PACKED and path != root) or path.suffix == ".pyc":
        return
    if path.is_dir() and not path.is_symlink():
        for child in path.iterdir():
            yield from _walk(child, root)
    elif path.is_file():
        yield path.relative_to(root).as_posix()


def with_contract(root: Path, files: tuple[str, ...], contract: str | None) -> tuple[str, ...]:
    """Add the contract and the request bodies that it names, so that they travel in the inference package."""
    if not contract or not (root / contract).is_file():
        return files
    try:
        document = json.loads((root / contract).read_text(encoding="utf-8"))
    except ValueError:
        return files
    named = {contract}
    for entry in [*document.get("requests", []), *document.get("malformed", [])]:
        if isinstance(entry, dict) and isinstance(entry.get("file"), str):
            named.add((Path(contract).parent / entry["file"]).as_posix())
    return tuple(sorted({*files, *(name for name in named if (root / name).is_file())}))


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
        return []
    if name not in {node.name for node in tree.body if isinstance(node, ast.ClassDef)}:
        return [f"{where}.service names {name}, which {path} does not define as a class"]
    return []


def space_faults(space: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a search space, `{name: {type, low, high, log, step} | {type, choices}}`."""
    faults = [] if space else ["[tool.taxiway.tuning].space must name at least one parameter"]
    for name, item in space.items():
        where = f"[tool.taxiway.tuning].space.{name}"
        needed = _DISTRIBUTIONS.get(item.get("type", "")) if isinstance(item, dict) else None
        if needed is None:
            faults.append(f"{where}.type must be one of {', '.join(_DISTRIBUTIONS)}, got {item!r}")
            continue
        faults += [f"{where}.{key} is missing" for key in needed if key not in item]
        faults += [f"{where} has an unknown key {key!r}" for key in sorted(set(item) - {*needed, *_OPTIONAL})]
        faults += _bounds_faults(where, item)
    return faults


def _bounds_faults(where: str, item: Mapping[str, Any]) -> list[str]:
    if "choices" in item:
        full = isinstance(item["choices"], list) and item["choices"]
        return [] if full else [f"{where}.choices must be a list that is not empty, got {item['choices']!r}"]
    low, high = item.get("low", 0), item.get("high", 0)
    if not all(isinstance(end, int | float) for end in (low, high)) or low > high:
        return [f"{where}: low must be a number not above high, got {low!r} and {high!r}"]
    if item.get("log") and low <= 0:
        return [f"{where}: a logarithmic range must start above 0, got {low!r}"]
    return []


def bar_faults(table: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the bars of `[tool.taxiway.evaluation]`."""
    where, faults = "[tool.taxiway.evaluation]", []
    minimum = table.get("minimum", {})
    if not isinstance(minimum, dict) or not all(isinstance(bar, int | float) for bar in minimum.values()):
        faults.append(f"{where}.minimum must be a table of numbers, got {minimum!r}")
    if not isinstance(table.get("compare", ""), str):
        faults.append(f"{where}.compare must name a metric, got {table['compare']!r}")
    tolerance = table.get("tolerance", 0)
    if not isinstance(tolerance, int | float) or tolerance < 0:
        faults.append(f"{where}.tolerance must be a number from 0, got {tolerance!r}")
    return faults


def read_mlproject(root: Path, faults: list[str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the entry points of an `MLproject` file as name: (command, default parameters); empty without one."""
    path = root / "MLproject"
    if not path.is_file():
        return {}
    import yaml

    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))["entry_points"]
        return {name: (entry["command"], _mlproject_defaults(entry)) for name, entry in entries.items()}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as exc:
        faults.append(f"MLproject cannot be read: {exc}")
        return {}


def _mlproject_defaults(entry: Mapping[str, Any]) -> dict[str, Any]:
    given = entry.get("parameters") or {}
    pairs = {name: item.get("default") if isinstance(item, dict) else None for name, item in given.items()}
    return {name: default for name, default in pairs.items() if default is not None}
