"""How the traffic of one endpoint is divided between model versions, in parts of 10,000.

Pure values. Which split is right is decided by strategies; how it reaches Envoy is told in `routing/resources.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Self

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.names import check_version, is_version

TOTAL_PARTS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A division of live traffic: who gets how much. Which users that are is decided in `routing/layout.py`.

    The order of `parts` is normalised: canaries by their number, without those of zero parts, then stable, even at
    zero. So equal divisions are equal, whatever order they were written in.

    Attributes:
        stable: The version that takes what no canary takes, and that a failed canary attempt is retried on.
        parts: Version to parts, 0 <= parts <= 10,000, summing to 10,000. Read-only.
    """

    stable: int
    parts: Mapping[int, int]

    def __post_init__(self) -> None:
        faults = _faults(self.stable, self.parts)
        if faults:
            raise InvalidSpecError(faults, "split")
        ordered = {v: n for v, n in sorted(self.parts.items()) if n > 0 and v != self.stable}
        ordered[self.stable] = self.parts.get(self.stable, 0)
        object.__setattr__(self, "parts", MappingProxyType(ordered))

    def __hash__(self) -> int:
        return hash((self.stable, frozenset(self.parts.items())))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.stable, dict(self.parts))

    @classmethod
    def whole(cls, version: int) -> Self:
        """Return the split that gives one version everything.

        Raises:
            InvalidNameError: If it is not a version.
        """
        return cls(stable=check_version(version), parts={version: TOTAL_PARTS})

    @classmethod
    def of(cls, stable: int, canaries: Mapping[int, float]) -> Self:
        """Return the split that gives each canary its weight, and stable the rest.

        Args:
            stable: The version that takes the rest.
            canaries: Version to weight in per cent, 0 to 100, in steps of 0.01, summing to at most 100.

        Raises:
            InvalidSpecError: If weights are outside their range, or stable is named as a canary.
        """
        if stable in canaries:
            raise InvalidSpecError((f"version {stable} is stable and a canary at once",), "split")
        parts = {version: round(weight_pct * 100) for version, weight_pct in canaries.items()}
        return cls(stable=stable, parts={**parts, stable: TOTAL_PARTS - sum(parts.values())})

    @property
    def canaries(self) -> tuple[int, ...]:
        """The versions beside stable that receive traffic, by their number."""
        return tuple(version for version in self.parts if version != self.stable)

    def weight_pct(self, version: int) -> float:
        """Return the share of a version in per cent; 0.0 for one that is not part of the split."""
        return self.parts.get(version, 0) / 100

    def to_json(self) -> dict[str, Any]:
        """Return `{"stable": 1, "parts": {"2": 500, "1": 9500}}`."""
        return {"stable": self.stable, "parts": {str(version): n for version, n in self.parts.items()}}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the split that `to_json` wrote.

        Raises:
            InvalidSpecError: If it is not of that form.
        """
        try:
            parts = {int(version): int(n) for version, n in value["parts"].items()}
            return cls(stable=int(value["stable"]), parts=parts)
        except (KeyError, TypeError, AttributeError, ValueError) as exc:
            raise InvalidSpecError((f"not a split: {value!r} ({exc})",), "split") from exc


def _restore(stable: int, parts: dict[int, int]) -> Split:
    return Split(stable=stable, parts=parts)


def _faults(stable: object, parts: Mapping[Any, Any]) -> tuple[str, ...]:
    bad_names = [repr(version) for version in (stable, *parts) if not is_version(version)]
    bad_parts = [f"{version}: {n!r}" for version, n in parts.items() if not _is_part(n)]
    faults = []
    if bad_names:
        faults.append(f"versions must be whole numbers from 1, got {', '.join(bad_names)}")
    if bad_parts:
        faults.append(f"parts must be whole numbers from 0 to {TOTAL_PARTS}, got {', '.join(bad_parts)}")
    elif sum(parts.values()) != TOTAL_PARTS:
        faults.append(f"parts must sum to {TOTAL_PARTS}, got {sum(parts.values())}")
    return tuple(faults)


def _is_part(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TOTAL_PARTS
