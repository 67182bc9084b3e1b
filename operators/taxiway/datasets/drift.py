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
        index: Population stability index, >= 0; None where its values were not counted, so that nobody can tell.
        threshold: From where it counts: `SOME`, and what chance alone may bring for so few rows; 0 without an index.
        missing_before: Share of values that were missing, 0 to 1.
        missing_after: Share that is missing now.
    """

    column: str
    index: float | None
    threshold: float
    missing_before: float
    missing_after: float

    @property
    def has_moved(self) -> bool:
        """Whether its values are distributed in another way, or more or fewer of them are missing."""
        return self._is_elsewhere or abs(self.missing_after - self.missing_before) > MISSING

    @property
    def words(self) -> str:
        """What happened, for people."""
        said = []
        if self._is_elsewhere and self.index is not None:
            how = "strong drift" if self.index > max(STRONG, self.threshold) else "some drift"
            said.append(f"{how} (index {self.index:.2f} > {self.threshold:.2f})")
        if abs(self.missing_after - self.missing_before) > MISSING:
            said.append(f"missing {self.missing_before:.0%} -> {self.missing_after:.0%}")
        none = "not compared" if self.index is None else f"no drift (index {self.index:.2f})"
        return f"{self.column}: {', '.join(said) or none}"

    @property
    def _is_elsewhere(self) -> bool:
        return self.index is not None and self.index > self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How far one version is from another.

    Attributes:
        before: Tag of the one.
        after: Tag of the other.
        schema: Columns that came, went or changed their type, in words.
        columns: Every column that both have, the one that moved most first.
        unread: Tables of which nobody knows what is in them, in words.
    """

    before: str
    after: str
    schema: tuple[str, ...]
    columns: tuple[ColumnDrift, ...]
    unread: tuple[str, ...] = ()

    @property
    def has_moved(self) -> bool:
        """Whether anything is seen to be other than by chance; what was not compared is in `unknown` and `unread`."""
        return bool(self.schema) or any(column.has_moved for column in self.columns)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Columns of which nobody can tell whether their values moved: free text, nested or hidden ones."""
        return tuple(column.column for column in self.columns if column.index is None)

    @property
    def text(self) -> str:
        """The drift for people: what changed, how many columns did not, and what nobody can tell."""
        moved = [column.words for column in self.columns if column.has_moved]
        still = sum(column.index is not None and not column.has_moved for column in self.columns)
        untold = (
            [f"{len(self.unknown)} column(s) not compared: {', '.join(self.unknown)}"] if self.unknown else []
        )
        said = (*self.schema, *moved, f"{still} column(s) did not move", *untold, *self.unread)
        return "\n".join((f"{self.before} -> {self.after}:", *(f"  {line}" for line in said)))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self) | {"has_moved": self.has_moved, "unknown": list(self.unknown)}


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
    drifts = sorted(
        (_drift(name, old[name], new[name]) for name in shared), key=lambda each: -(each.index or 0.0)
    )
    schema = [f"{name}: removed" for name in sorted(old.keys() - new.keys())]
    schema += [f"{name}: added" for name in sorted(new.keys() - old.keys())]
    schema += [text for name in shared if (text := _retyped(name, old[name], new[name]))]
    schema += _images(one.get("images", {}), other.get("images", {}))
    unread = [line for tag, profile in ((before, one), (after, other)) for line in _unread(tag, profile)]
    return Drift(
        before=before, after=after, schema=tuple(schema), columns=tuple(drifts), unread=tuple(unread)
    )


def _unread(tag: str, profile: Mapping[str, Any]) -> list[str]:
    said = [f"{tag}: {file} could not be read: {why}" for file, why in profile.get("unreadable", {}).items()]
    count = profile.get("unread", 0)
    return [*said, f"{tag}: nobody looked at {count} more table(s)"] if count else said


def _columns(profile: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for file, table in profile.get("tables", {}).items():
        for name, column in table["columns"].items():
            found.setdefault(name or file, []).append(column)
    return found


def _drift(name: str, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> ColumnDrift:
    found = stability_index(before, after)
    return ColumnDrift(
        column=name,
        index=found[0] if found else None,
        threshold=SOME + found[1] if found else 0.0,
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
