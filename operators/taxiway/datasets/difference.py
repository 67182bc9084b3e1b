"""What changed between two dataset versions, file by file, from their listings alone. Nothing is read here."""

from dataclasses import asdict, dataclass
from typing import Any

from taxiway.datasets.store import Listing
from taxiway.datasets.version import DatasetVersion

SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How a version differs from another.

    Attributes:
        before: Tag of the one.
        after: Tag of the other.
        added: Files that only the other has.
        removed: Files that only the one has.
        changed: Files with other bytes.
        kept: How many are the same.
        bytes_before: Size of the one.
        bytes_after: Size of the other.
    """

    before: str
    after: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    kept: int
    bytes_before: int
    bytes_after: int

    @property
    def text(self) -> str:
        """The difference for people; of many files the first."""
        named = {"added": self.added, "removed": self.removed, "changed": self.changed}
        counts = ", ".join(f"{len(files)} {word}" for word, files in named.items())
        sizes = f"{self.bytes_before} -> {self.bytes_after} bytes ({self.bytes_after - self.bytes_before:+d})"
        lines = [f"{self.before} -> {self.after}: {counts}, {self.kept} kept; {sizes}"]
        for (word, files), sign in zip(named.items(), "+-~", strict=True):
            lines += [f"  {sign} {file}" for file in files[:SHOWN]]
            if len(files) > SHOWN:
                lines.append(f"  {sign} and {len(files) - SHOWN} more {word}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def between(before: DatasetVersion, one: Listing, after: DatasetVersion, other: Listing) -> Difference:
    """Return how a version differs from another, given what each holds."""
    shared = one.files.keys() & other.files.keys()
    changed = {file for file in shared if one.files[file] != other.files[file]}
    return Difference(
        before=before.tag,
        after=after.tag,
        added=tuple(sorted(other.files.keys() - shared)),
        removed=tuple(sorted(one.files.keys() - shared)),
        changed=tuple(sorted(changed)),
        kept=len(shared) - len(changed),
        bytes_before=before.size_bytes,
        bytes_after=after.size_bytes,
    )
