"""The rules of the table `[tool.taxiway.evaluation]`. Nothing is measured here."""

import re
from collections.abc import Mapping
from typing import Any

from taxiway.project.plain import is_number, is_whole

KEYS = frozenset(
    {
        "minimum",
        "maximum",
        "compare",
        "tolerance",
        "slices",
        "slice_minimum",
        "class_minimum",
        "least_items",
        "calibration_at_most",
        "inconclusive",
        "sla_unmeasured",
        "checks",
    }
)
"""What the table has beside the keys of every component; all of them go into the package."""

FAIL_OR_PASS = ("fail", "pass")
DIRECTIONS = ("maximize", "minimize")
_WHERE = "[tool.taxiway.evaluation]"
_CHECK = re.compile(r"^(\*|[A-Za-z_][\w.-]*|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$")


def bar_faults(table: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the bars of `[tool.taxiway.evaluation]`."""
    return [*_metric_faults(table), *_item_faults(table), *_check_faults(table.get("checks", []))]


def _metric_faults(table: Mapping[str, Any]) -> list[str]:
    faults = []
    for key in ("minimum", "maximum"):
        bars = table.get(key, {})
        if not isinstance(bars, Mapping) or not all(is_number(bar) for bar in bars.values()):
            faults.append(f"{_WHERE}.{key} must be a table of finite numbers, got {bars!r}")
    compare = table.get("compare", "")
    if not isinstance(compare, str) and not _is_directed(compare):
        said = 'must name a metric, or be { metric = "…", direction = "maximize" or "minimize" }'
        faults.append(f"{_WHERE}.compare {said}, got {compare!r}")
    tolerance = table.get("tolerance", 0)
    if not is_number(tolerance) or tolerance < 0:
        faults.append(f"{_WHERE}.tolerance must be a finite number from 0, got {tolerance!r}")
    return faults


def _is_directed(compare: Any) -> bool:
    """Tell whether it is a metric with the way in which it is better."""
    return (
        isinstance(compare, Mapping)
        and set(compare) == {"metric", "direction"}
        and isinstance(compare["metric"], str)
        and compare["metric"] != ""
        and compare["direction"] in DIRECTIONS
    )


def _item_faults(table: Mapping[str, Any]) -> list[str]:
    faults = []
    slices = table.get("slices", [])
    if not isinstance(slices, list | tuple) or not all(isinstance(name, str) and name for name in slices):
        faults.append(f"{_WHERE}.slices must be a list of columns, got {slices!r}")
    faults += _share_faults("slice_minimum", table.get("slice_minimum", {}))
    classes = table.get("class_minimum", {})
    faults += _share_faults("class_minimum", classes if isinstance(classes, Mapping) else {"*": classes})
    least = table.get("least_items", 1)
    if not is_whole(least) or least < 1:
        faults.append(f"{_WHERE}.least_items must be a whole number from 1, got {least!r}")
    most = table.get("calibration_at_most", 0)
    if not _is_share(most):
        faults.append(f"{_WHERE}.calibration_at_most must be a number in [0, 1], got {most!r}")
    faults += [
        f"{_WHERE}.{key} must be fail or pass, got {table[key]!r}"
        for key in ("inconclusive", "sla_unmeasured")
        if table.get(key, "fail") not in FAIL_OR_PASS
    ]
    return faults


def _share_faults(key: str, table: Any) -> list[str]:
    if isinstance(table, Mapping) and all(_is_share(bar) for bar in table.values()):
        return []
    return [f"{_WHERE}.{key} must be a table of numbers in [0, 1], got {table!r}"]


def _is_share(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def _check_faults(checks: Any) -> list[str]:
    if isinstance(checks, list) and all(isinstance(name, str) and _CHECK.match(name) for name in checks):
        return []
    said = "must be a list of module:function, names of entry points in the group taxiway.checks, or *"
    return [f"{_WHERE}.checks {said}, got {checks!r}"]
