"""How far the data of one version are from those of another: columns that came and went, distributions that moved.

Decided from two profiles alone; nothing is read here. A column is taken over all tables of a version, so that a version
with files added is compared as a whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from taxiway.datasets.columns import MOST_VALUES, missing_share, stability_index

SOME, STRONG, MISSING = 0.1, 0.25, 0.05
"""Stability indexes from which a column has moved somewhat and strongly, the usual ones; a share of missing values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDrift:
    """How far one column moved.

    Attributes:
        column: Its name; of an array outside a table, its file.
        index: Population stability index, >= 0.
        threshold: From where it counts: `SOME`, and what chance alone may bring for so few rows.
        missing_before: Share of values that were missing, 0 to 1.
        missing_after: Share that is missing now.
    """

    column: str
    index: float
    threshold: float
    missing_before: float
    missing_after: float

    @property
    def has_moved(self) -> bool:
        """Whether its values are distributed in another way, or more or fewer of them are missing."""
        return self.index > self.threshold or abs(self.missing_after - self.missing_before) > MISSING

    @property
    def words(self) -> str:
        """What happened, for people."""
        how = "strong drift" if self.index > max(STRONG, self.threshold) else "some drift"
        said = (
            [f"{how} (index {self.index:.2f} > {self.threshold:.2f})"] if self.index > self.threshold else []
        )
        if abs(self.missing_after - self.missing_before) > MISSING:
            said.append(f"missing {self.missing_before:.0%} -> {self.missing_after:.0%}")
        return f"{self.column}: {', '.join(said) or f'no drift (index {self.index:.2f})'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How far one version is from another.

    Attributes:
        before: Tag of the one.
        after: Tag of the other.
        schema: Columns that came, went or changed their type, in words.
        columns: Every column that both have, the one that moved most first.
    """

    before: str
    after: str
    schema: tuple[str, ...]
    columns: tuple[ColumnDrift, ...]

    @property
    def has_moved(self) -> bool:
        """Whether anything is other than by chance."""
        return bool(self.schema) or any(column.has_moved for column in self.columns)

    @property
    def text(self) -> str:
        """The drift for people: what changed, and how many columns did not."""
        moved = [column.words for column in self.columns if column.has_moved]
        still = len(self.columns) - len(moved)
        return "\n".join(
            (
                f"{self.before} -> {self.after}:",
                *(f"  {line}" for line in (*self.schema, *moved)),
                f"  {still} column(s) did not move",
            )
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self) | {"has_moved": self.has_moved}


def compare(before: str, one: Mapping[str, Any], after: str, other: Mapping[str, Any]) -> Drift:
    """Return how far a version is from another, given the profile of each.

    Args:
        before: Tag of the one.
        one: Its profile; an empty one says nothing, and then neither does the drift.
        after: Tag of the other.
        other: Its profile.
    """
    old, new = _columns(one), _columns(other)
    shared = sorted(old.keys() & new.keys())
    drifts = sorted((_drift(name, old[name], new[name]) for name in shared), key=lambda each: -each.index)
    schema = [f"{name}: removed" for name in sorted(old.keys() - new.keys())]
    schema += [f"{name}: added" for name in sorted(new.keys() - old.keys())]
    schema += [text for name in shared if (text := _retyped(name, old[name], new[name]))]
    schema += _images(one.get("images", {}), other.get("images", {}))
    return Drift(before=before, after=after, schema=tuple(schema), columns=tuple(drifts))


def _columns(profile: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for file, table in profile.get("tables", {}).items():
        for name, column in table["columns"].items():
            found.setdefault(name or file, []).append(column)
    return found


def _drift(name: str, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> ColumnDrift:
    index, noise = stability_index(before, after)
    return ColumnDrift(
        column=name,
        index=index,
        threshold=SOME + noise,
        missing_before=missing_share(before),
        missing_after=missing_share(after),
    )


def _retyped(name: str, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> str:
    old, new = ({str(part.get("type", "")) for part in each} for each in (before, after))
    if old != new:
        return f"{name}: {' and '.join(sorted(old))} -> {' and '.join(sorted(new))}"
    few, many = (f"at most {MOST_VALUES} distinct values", "more")
    was, now = (
        few if all("quantiles" in part or "values" in part for part in each) else many
        for each in (before, after)
    )
    return "" if was == now else f"{name}: {was} -> {now}"


def _images(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    said = []
    for side in ("width", "height"):
        old, new = before.get(side), after.get(side)
        if old and new and (new[0] < old[0] or new[1] > old[1]):
            said.append(f"images: {side} {old[0]}-{old[1]} -> {new[0]}-{new[1]} pixels")
    if bool(before) != bool(after):
        said.append(f"images: {before.get('count', 0)} -> {after.get('count', 0)}")
    return said
