"""What counts as a plain value in a project's tables: numbers that can be compared, what travels as JSON."""

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any


def is_number(value: Any) -> bool:
    """Return whether a value is a number that can be compared: no boolean, neither infinite nor NaN."""
    return is_whole(value) or (isinstance(value, float) and isfinite(value))


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number of at most 63 bits, and no boolean."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def is_choice(value: Any) -> bool:
    """Return whether a value is a text, a boolean or a number that can be compared."""
    return isinstance(value, str | bool) or is_number(value)


def param_faults(params: Mapping[str, Any], where: str) -> list[str]:
    """Return which parameters cannot travel as JSON: dates, and numbers that are not finite."""
    return [
        f"{where}.params.{name} is no JSON value: {value!r}"
        for name, value in params.items()
        if not _is_json(value)
    ]


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
