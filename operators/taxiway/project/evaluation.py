"""The rules of the table `[tool.taxiway.evaluation]`. Nothing is measured here."""

from collections.abc import Mapping
from typing import Any

from taxiway.project.plain import is_number

KEYS = frozenset({"minimum", "compare", "tolerance"})
"""What the table has beside the keys of every component; all of them go into the package."""


def bar_faults(table: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the bars of `[tool.taxiway.evaluation]`."""
    where, faults = "[tool.taxiway.evaluation]", []
    minimum = table.get("minimum", {})
    if not isinstance(minimum, Mapping) or not all(is_number(bar) for bar in minimum.values()):
        faults.append(f"{where}.minimum must be a table of finite numbers, got {minimum!r}")
    if not isinstance(table.get("compare", ""), str):
        faults.append(f"{where}.compare must name a metric, got {table['compare']!r}")
    tolerance = table.get("tolerance", 0)
    if not is_number(tolerance) or tolerance < 0:
        faults.append(f"{where}.tolerance must be a finite number from 0, got {tolerance!r}")
    return faults
