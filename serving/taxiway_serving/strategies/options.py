"""Reading the options of a strategy: what is missing takes its default, what is wrong is named. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from taxiway_serving.errors import InvalidSpecError


def refuse_unknown(kind: str, options: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse options that the strategy does not have.

    Raises:
        InvalidSpecError: If there is one; a misspelt option that is ignored is found out in production.
    """
    told = ", ".join(known) or "none"
    faults = [f"strategy.{key}: unknown; {kind} takes {told}" for key in sorted(set(options) - set(known))]
    if faults:
        raise InvalidSpecError(tuple(faults), "rollout")


def number(
    kind: str, options: Mapping[str, Any], key: str, default: float, least: float, most: float
) -> float:
    """Return a number among the options.

    Args:
        kind: The strategy, for the message.
        options: As the caller wrote them.
        key: Its name.
        default: Where it is missing.
        least: Least value, included.
        most: Most, included.

    Raises:
        InvalidSpecError: If it is no number, or out of range.
    """
    value = options.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        fault = f"strategy.{key}: got {value!r}; {kind} takes a number from {least:g} to {most:g}"
        raise InvalidSpecError((fault,), "rollout")
    return float(value)


def flag(kind: str, options: Mapping[str, Any], key: str, *, default: bool) -> bool:
    """Return a yes or no among the options.

    Raises:
        InvalidSpecError: If it is neither true nor false.
    """
    value = options.get(key, default)
    if not isinstance(value, bool):
        raise InvalidSpecError((f"strategy.{key}: got {value!r}; {kind} takes true or false",), "rollout")
    return value
