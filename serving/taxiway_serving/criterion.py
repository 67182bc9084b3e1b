"""What counts as the same answer of two variants, as a caller asks for it. Values; `evidence.matching` compares."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from taxiway_serving.errors import InvalidSpecError

TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """What counts as the same answer.

    Statuses always have to be equal. Of responses outside 2xx nothing else is compared: messages are for people. Of the
    others the content types have to be equal, and then the bodies: by the function if one is named, else as JSON with
    tolerance (the part at the pointer, or the whole), else, where they are not JSON, byte by byte.

    Attributes:
        pointer: JSON pointer (RFC 6901) of the part that is compared, such as /label; None compares the whole body.
        tolerance: Largest absolute difference of two numbers that are the same, >= 0.
        relative: Largest difference of two numbers that are the same, as a part of the larger one, in [0, 1].
        function: Name of an installed comparison, an entry point in the group `taxiway.comparisons`. Excludes pointer.
    """

    pointer: str | None = None
    tolerance: float = TOLERANCE
    relative: float = TOLERANCE
    function: str | None = None

    def __post_init__(self) -> None:
        faults = _faults(self)
        if faults:
            raise InvalidSpecError(tuple(faults), "compare")

    def to_json(self) -> dict[str, Any]:
        """Return the criterion as JSON values; `from_json` reads them."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the criterion that a caller wrote: `{"pointer": "/label", "tolerance": 0.01}`; keys may be left out.

        Raises:
            InvalidSpecError: If a key is unknown or a value is out of its range.
        """
        try:
            return cls(**value)
        except TypeError as exc:
            fault = f"takes pointer, tolerance, relative and function, got {value!r:.200}"
            raise InvalidSpecError((fault,), "compare") from exc


def _faults(criterion: Criterion) -> list[str]:
    faults = []
    # What a caller wrote in JSON may be of any type.
    pointer: object = criterion.pointer
    function: object = criterion.function
    if pointer is not None and not (isinstance(pointer, str) and (not pointer or pointer.startswith("/"))):
        faults.append(f"pointer must be a JSON pointer such as /label, or null, got {pointer!r}")
    if function is not None and not (isinstance(function, str) and function):
        faults.append(f"function must name an installed comparison, or be null, got {function!r}")
    if pointer is not None and function is not None:
        faults.append("takes a pointer or a function, not both: a function sees the whole answer")
    if not (is_number(criterion.tolerance) and 0 <= criterion.tolerance < math.inf):
        faults.append(f"tolerance must be a number from 0, got {criterion.tolerance!r}")
    if not (is_number(criterion.relative) and 0 <= criterion.relative <= 1):
        faults.append(f"relative must be in [0, 1], got {criterion.relative!r}")
    return faults


def is_number(value: Any) -> bool:
    """Return whether a JSON value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
