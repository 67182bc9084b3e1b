"""Holds the arguments of a function that a notebook calls to their types, before it does anything.

A type is what the function's own annotation says. What a value means is the function's to judge.
"""

import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from taxiway.errors import InvalidSpecError

Taken = ParamSpec("Taken")
Given = TypeVar("Given")

_WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    Mapping: "a mapping",
    Callable: "a function",
}
# A number of numpy is one, too; and whatever can be a condition is true or false.
_WIDER: dict[type, type] = {int: Integral, float: Real, bool: object}


def typed(function: Callable[Taken, Given]) -> Callable[Taken, Given]:
    """Return a function that refuses what its annotations do not allow, every argument at once.

    Raises:
        InvalidSpecError: When it is called, if an argument has a wrong type. One that is missing, or that it does not
            know, stays Python's own TypeError.
    """

    @functools.wraps(function)
    def held(*args: Taken.args, **kwargs: Taken.kwargs) -> Given:
        if faults := _faults(function, args, kwargs):
            raise InvalidSpecError(faults, function.__name__)
        return function(*args, **kwargs)

    return held


def _faults(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[str, ...]:
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        # The call itself says it better: it names the function.
        return ()
    return tuple(
        f"{name} must be {' or '.join(_words(hint))}, got {value!r:.80}"
        for name, value, hint in _given(bound, get_type_hints(function))
        if not _fits(value, hint)
    )


def _given(bound: inspect.BoundArguments, hints: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield each argument by its name, with its type; those of `**options` by their own names."""
    for name, value in bound.arguments.items():
        if bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            yield from ((each, what, hints[name]) for each, what in value.items())
        else:
            yield name, value, hints[name]


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a value has a type; any value has that of a Protocol."""
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if kind is Literal:
        return any(isinstance(value, type(part)) for part in parts)
    if kind is Sequence:
        is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return is_list and all(_fits(each, parts[0]) for each in value)
    if kind is Any or not isinstance(kind, type) or getattr(kind, "_is_protocol", False):
        return True
    return isinstance(value, _WIDER.get(kind, kind))


def _words(hint: Any) -> list[str]:
    """Return what a type is called; of one that may be left out, only what it is otherwise."""
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, types.UnionType):
        return [word for part in parts if part is not types.NoneType for word in _words(part)]
    if kind is Sequence:
        return [f"a list (each {' or '.join(_words(parts[0]))})"]
    if kind is Literal:
        return [f"one of {', '.join(map(repr, parts))}"]
    return [_WORDS.get(kind, f"a {kind.__name__}")]
