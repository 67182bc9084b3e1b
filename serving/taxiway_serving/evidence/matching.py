"""Whether two variants answer the same: what a response is, and how two of them are compared by a criterion.

Pure: nothing is sent, read or logged here, and a user's own comparison is handed in.
"""

import json
import math
import re
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from taxiway_serving.answers import Answer
from taxiway_serving.criterion import Criterion, is_number

# What a variant says when it has too much to do is no answer of its model.
_TOO_BUSY: Final = (429, 503)
_MISSING: Final = object()
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What a variant answered.

    Attributes:
        status: Of HTTP; 0 if there was no answer.
        content_type: Media type in lower case without its parameters, such as `application/json`; "" if none was named.
        body: As it came, with any content encoding undone.
        reason: Why there was no answer; "" if there was one.
    """

    status: int
    content_type: str = ""
    body: bytes = b""
    reason: str = ""

    @property
    def is_json(self) -> bool:
        """Whether the body says of itself that it is JSON, or says nothing of itself."""
        return self.content_type in ("", "application/json") or self.content_type.endswith("+json")

    @property
    def failure(self) -> str:
        """Why this is no answer of a model; "" if it is one."""
        if self.status == 0:
            return self.reason or "no answer"
        return f"status {self.status}, too much to do" if self.status in _TOO_BUSY else ""

    def json(self) -> Any:
        """Return the body as JSON values.

        Raises:
            ValueError: If it is not JSON.
        """
        return json.loads(self.body)


Agree = Callable[[Response, Response], bool]
"""A user's own comparison: whether two successful responses agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Whether two responses are the same; unknown if they could not be compared.

    Attributes:
        is_same: Yes, no or unknown.
        detail: What differs, or why nobody knows; "" if they are the same.
    """

    is_same: Answer
    detail: str = ""


def match(first: Response, second: Response, criterion: Criterion, agree: Agree | None = None) -> Match:
    """Compare two answers of models. Symmetric, and never raises.

    Args:
        first: A response that is no failure.
        second: The other one.
        criterion: What counts as the same.
        agree: The function that the criterion names; None if it names none.
    """
    if first.status != second.status:
        return Match(is_same=Answer.NO, detail=f"status {first.status} or {second.status}")
    if not 200 <= first.status < 300:
        return Match(is_same=Answer.YES)
    if first.content_type != second.content_type:
        detail = f"content type {first.content_type or 'none'} or {second.content_type or 'none'}"
        return Match(is_same=Answer.NO, detail=detail)
    if criterion.function is not None:
        return _match_by_function(first, second, criterion.function, agree)
    return _match_bodies(first, second, criterion)


def _match_by_function(first: Response, second: Response, name: str, agree: Agree | None) -> Match:
    if agree is None:
        return Match(is_same=Answer.UNKNOWN, detail=f"no comparison {name!r} at hand")
    try:
        said: object = agree(first, second)
    except Exception as exc:  # noqa: BLE001  # it is the user's, and may raise anything
        return Match(is_same=Answer.UNKNOWN, detail=f"comparison {name!r} raised {type(exc).__name__}: {exc}")
    if not isinstance(said, bool):
        detail = f"comparison {name!r} must return True or False, got {reprlib.repr(said)}"
        return Match(is_same=Answer.UNKNOWN, detail=detail)
    return Match(is_same=Answer.of(said), detail="" if said else f"by {name}")


def _match_bodies(first: Response, second: Response, criterion: Criterion) -> Match:
    if first.body == second.body and criterion.pointer is None:
        return Match(is_same=Answer.YES)
    values = (_json(first), _json(second))
    if any(value is _MISSING for value in values):
        if criterion.pointer is not None:
            return Match(is_same=Answer.UNKNOWN, detail=f"no JSON to find {criterion.pointer} in")
        return Match(is_same=Answer.NO, detail=f"bodies of {len(first.body)} and {len(second.body)} bytes")
    pointer = criterion.pointer or ""
    one, other = (_at(value, pointer) for value in values)
    if one is _MISSING and other is _MISSING:
        return Match(is_same=Answer.UNKNOWN, detail=f"neither answer has {pointer}")
    detail = _difference(one, other, pointer, criterion)
    return Match(is_same=Answer.of(not detail), detail=detail)


def _json(response: Response) -> Any:
    """Return the body's JSON values, or `_MISSING` if it has none."""
    if not response.is_json:
        return _MISSING
    try:
        return response.json()
    except (ValueError, RecursionError):
        return _MISSING


def _at(value: Any, pointer: str) -> Any:
    """Return what a JSON pointer leads to, or `_MISSING`. Source: RFC 6901, section 4."""
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(key, _MISSING)
        elif isinstance(value, list) and _INDEX.fullmatch(key) and int(key) < len(value):
            value = value[int(key)]
        else:
            return _MISSING
    return value


def _difference(first: Any, second: Any, where: str, criterion: Criterion) -> str:
    """Return the first place at which two JSON values are not the same, or "". Without recursion: bodies are deep."""
    pairs = [(first, second, where)]
    while pairs:
        one, other, place = pairs.pop()
        if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
            pairs += [(one[key], other[key], f"{place}/{_escaped(key)}") for key in reversed(one)]
        elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
            pairs += [(one[i], other[i], f"{place}/{i}") for i in reversed(range(len(one)))]
        elif not _is_same_leaf(one, other, criterion):
            return f"{place or 'body'}: {_shown(one)} or {_shown(other)}"
    return ""


def _is_same_leaf(one: Any, other: Any, criterion: Criterion) -> bool:
    if is_number(one) and is_number(other):
        return _is_near(one, other, criterion)
    # A list or an object that came here has other keys or another length.
    return type(one) is type(other) and not isinstance(one, dict | list) and bool(one == other)


def _is_near(one: float, other: float, criterion: Criterion) -> bool:
    if one == other:
        return True
    try:
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return math.isclose(one, other, rel_tol=criterion.relative, abs_tol=criterion.tolerance)
    except OverflowError:  # whole numbers beyond what a float holds
        return False


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "nothing"
    if isinstance(value, dict | list):
        return f"{type(value).__name__} of {len(value)}"
    return reprlib.repr(value)
