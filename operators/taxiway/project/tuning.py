"""The rules of the table `[tool.taxiway.tuning]`. Nothing is searched here."""

from collections.abc import Mapping
from typing import Any

from taxiway.project.plain import is_choice, is_number, is_whole

KEYS = frozenset({"metric", "direction", "space"})
DIRECTIONS = ("maximize", "minimize")
_DISTRIBUTIONS = {"float": ("low", "high"), "int": ("low", "high"), "categorical": ("choices",)}


def faults(table: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a table that is there."""
    found = space_faults(table.get("space"))
    direction, metric = table.get("direction"), table.get("metric")
    if direction not in DIRECTIONS:
        found.append(f"[tool.taxiway.tuning].direction must be maximize or minimize, got {direction!r}")
    if not isinstance(metric, str) or not metric.strip():
        found.append(f"[tool.taxiway.tuning].metric must be a text, got {metric!r}")
    return found


def space_faults(space: Any) -> list[str]:
    """Return what is wrong with a search space, `{name: {type, low, high, log, step} | {type, choices}}`."""
    if not isinstance(space, Mapping) or not space:
        return ["[tool.taxiway.tuning].space must name at least one parameter"]
    return [fault for name, item in space.items() for fault in _range_faults(str(name), item)]


def _range_faults(name: str, item: Any) -> list[str]:
    where = f"[tool.taxiway.tuning].space.{name}"
    kind = item.get("type") if isinstance(item, Mapping) else None
    if not isinstance(kind, str) or kind not in _DISTRIBUTIONS:
        return [f"{where}.type must be one of {', '.join(_DISTRIBUTIONS)}, got {item!r}"]
    needed = _DISTRIBUTIONS[kind]
    known = {"type", *needed, *(() if kind == "categorical" else ("log", "step"))}
    faults = [f"{where}.{key} is missing" for key in needed if key not in item]
    faults += [f"{where} has an unknown key {key!r}" for key in sorted(map(str, set(item) - known))]
    return faults or (_choice_faults(where, item) if kind == "categorical" else _bounds_faults(where, item))


def _choice_faults(where: str, item: Mapping[str, Any]) -> list[str]:
    choices = item["choices"]
    if isinstance(choices, list) and choices and all(is_choice(choice) for choice in choices):
        return []
    return [f"{where}.choices must be a list of texts, numbers or booleans, not empty, got {choices!r}"]


def _bounds_faults(where: str, item: Mapping[str, Any]) -> list[str]:
    low, high, log, step = item["low"], item["high"], item.get("log", False), item.get("step")
    is_fit = is_whole if item["type"] == "int" else is_number
    what = "a whole number" if item["type"] == "int" else "a finite number"
    faults = []
    if not (is_fit(low) and is_fit(high)) or low > high:
        faults.append(f"{where}: low must be {what} not above high, got {low!r} and {high!r}")
    elif log is True and low <= 0:
        faults.append(f"{where}: a logarithmic range must start above 0, got {low!r}")
    if not isinstance(log, bool):
        faults.append(f"{where}.log must be true or false, got {log!r}")
    if step is not None and not (is_fit(step) and step > 0):
        faults.append(f"{where}.step must be {what} above 0, got {step!r}")
    if step is not None and log is True:
        faults.append(f"{where}: a logarithmic range takes no step, got {step!r}")
    return faults
