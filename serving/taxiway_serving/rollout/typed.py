"""Reading JSON values into the fields of a dataclass: what is unknown, missing or of the wrong type is named. Pure."""

import functools
import types
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, fields
from math import isfinite
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints


def fitting(kind: type[Any], given: Mapping[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """Return the values that fit the fields of a dataclass, and a fault for each that does not.

    Args:
        kind: The dataclass.
        given: Values by name, as JSON has them.
        where: What a fault calls the place that they come from.
    """
    hints = _hints(cast(Hashable, kind))
    needed = [
        item.name for item in fields(kind) if item.default is MISSING and item.default_factory is MISSING
    ]
    faults = [f"{where}.{name}: unknown; there are {', '.join(hints)}" for name in given if name not in hints]
    faults += [f"{where}.{name}: missing" for name in needed if name not in given]
    fit = {name: value for name, value in given.items() if name in hints and _fits(value, hints[name])}
    faults += [
        f"{where}.{name}: got {value!r}; must be {_words(hints[name])}"
        for name, value in given.items()
        if name in hints and name not in fit
    ]
    return fit, faults


@functools.cache
def _hints(kind: Hashable) -> Mapping[str, Any]:
    return get_type_hints(kind)


def is_number(value: object) -> bool:
    """Return whether a JSON value is a number that can be counted with: neither true nor NaN nor infinite."""
    return _fits_plain(value, float)


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, choice) for choice in get_args(hint))
    if origin is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if origin is None:
        return _fits_plain(value, hint)
    of_key, of_value = get_args(hint)
    return isinstance(value, Mapping) and all(
        _fits(key, of_key) and _fits(each, of_value) for key, each in value.items()
    )


def _fits_plain(value: object, hint: Any) -> bool:
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    names = {float: "a number", int: "a whole number", str: "text", bool: "true or false", type(None): "null"}
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_words(choice) for choice in get_args(hint))
    return names.get(hint, "an object")
