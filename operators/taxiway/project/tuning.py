"""The rules of the table `[tool.taxiway.tuning]`. Nothing is searched here.

The table names what is compared in a short form (`metric`, `direction`) or as a list of `objectives`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from taxiway.project.plain import is_choice, is_number, is_whole

KEYS = frozenset({"metric", "direction", "objectives", "constraints", "space", "pruner"})
DIRECTIONS = ("maximize", "minimize")
BOUNDS = ("at_most", "at_least")
PRUNERS = ("median", "none")
_DISTRIBUTIONS = {"float": ("low", "high"), "int": ("low", "high"), "categorical": ("choices",)}
_TABLE = "[tool.taxiway.tuning]"


def faults(table: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a table that is there."""
    found = space_faults(table.get("space")) + _objective_faults(table)
    found += _constraint_faults(table.get("constraints", []))
    pruner = table.get("pruner", PRUNERS[0])
    if pruner not in PRUNERS:
        found.append(f"{_TABLE}.pruner must be one of {', '.join(PRUNERS)}, got {pruner!r}")
    if "pruner" in table and pruner != "none" and len(objectives(table)) > 1:
        found.append(f"{_TABLE}.pruner must be none where there are several objectives, got {pruner!r}")
    return found


def objectives(table: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the objectives of a table, `[{metric, direction}, …]`, whichever form it takes."""
    listed = table.get("objectives")
    if isinstance(listed, list | tuple) and listed:
        return listed
    return [{"metric": table.get("metric"), "direction": table.get("direction")}]


def space_faults(space: Any) -> list[str]:
    """Return what is wrong with a search space, `{name: {type, low, high, log, step} | {type, choices}}`."""
    if not isinstance(space, Mapping) or not space:
        return [f"{_TABLE}.space must name at least one parameter"]
    return [fault for name, item in space.items() for fault in _range_faults(str(name), item)]


def _objective_faults(table: Mapping[str, Any]) -> list[str]:
    if "objectives" not in table:
        return _one_objective_faults(_TABLE, table)
    listed = table["objectives"]
    if "metric" in table or "direction" in table:
        return [f"{_TABLE} takes metric and direction, or objectives, and not both"]
    if not isinstance(listed, list | tuple) or not listed:
        return [f"{_TABLE}.objectives must be a list of {{metric, direction}}, not empty, got {listed!r}"]
    found = [
        fault for at, item in enumerate(listed) for fault in _item_faults(f"{_TABLE}.objectives[{at}]", item)
    ]
    names = [item.get("metric") for item in listed if isinstance(item, Mapping)]
    return found + [
        f"{_TABLE}.objectives names {name!r} twice" for name in set(names) if names.count(name) > 1
    ]


def _item_faults(where: str, item: Any) -> list[str]:
    if not isinstance(item, Mapping):
        return [f"{where} must be {{metric, direction}}, got {item!r}"]
    unknown = [f"{where} has an unknown key {key!r}" for key in sorted(set(item) - {"metric", "direction"})]
    return unknown + _one_objective_faults(where, item)


def _one_objective_faults(where: str, item: Mapping[str, Any]) -> list[str]:
    found, direction = _metric_faults(where, item), item.get("direction")
    if direction not in DIRECTIONS:
        found.append(f"{where}.direction must be maximize or minimize, got {direction!r}")
    return found


def _metric_faults(where: str, item: Mapping[str, Any]) -> list[str]:
    metric = item.get("metric")
    if isinstance(metric, str) and metric.strip():
        return []
    return [f"{where}.metric must be a text, got {metric!r}"]


def _constraint_faults(listed: Any) -> list[str]:
    where = f"{_TABLE}.constraints"
    if not isinstance(listed, list | tuple):
        return [f"{where} must be a list of {{metric, at_most | at_least}}, got {listed!r}"]
    return [
        fault for at, item in enumerate(listed) for fault in _one_constraint_faults(f"{where}[{at}]", item)
    ]


def _one_constraint_faults(where: str, item: Any) -> list[str]:
    if not isinstance(item, Mapping):
        return [f"{where} must be {{metric, at_most | at_least}}, got {item!r}"]
    found = [f"{where} has an unknown key {key!r}" for key in sorted(set(item) - {"metric", *BOUNDS})]
    found += _metric_faults(where, item)
    given = [bound for bound in BOUNDS if bound in item]
    if len(given) != 1 or not is_number(item[given[0]]):
        got = {bound: item[bound] for bound in given}
        found.append(f"{where} takes either at_most or at_least, a finite number, got {got}")
    return found


def _range_faults(name: str, item: Any) -> list[str]:
    where = f"{_TABLE}.space.{name}"
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
