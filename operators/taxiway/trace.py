"""What a run of a component did, as whoever watched it saw: which code ran, which files it read. Values only.

A trace says what was seen and where nobody could look; it never says more. Taken in `runners/`, kept by `training.py`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_NAMED = 20
_LISTS = ("changed", "altered", "unwatched", "programs", "unseen", "hosts")
BLIND = (
    "nobody saw which files it read: its command is not Python, or keeps Python from being watched; start it as"
    " `python script.py`, without -I, -E, -S and a PYTHONPATH of its own, or run it in a container, where all that it"
    " can read is mounted"
)
BESIDE = (
    "nobody saw which files {programs} read, which it started: name it in `programs` of [tool.taxiway], which vouches"
    " that it reads declared inputs alone, or run it in a container, where all that it can read is mounted"
)
LOST = (
    "it read more files that may be none of its declared inputs than are noted: make them a dataset, or run it in a"
    " container, where all that it can read is mounted"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFile:
    """A file that was read and is none of the declared inputs.

    Attributes:
        path: Where it lay.
        sha256: Hash of its content when the run had ended; "" if it was gone by then, or too long.
    """

    path: str
    sha256: str = ""

    def __str__(self) -> str:
        return f"{self.path} (SHA-256 {self.sha256[:12]})" if self.sha256 else self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What was seen of one run.

    Attributes:
        source_hash: SHA-256 of the source as it was started.
        changed: Files of that source that were other ones when the run had ended.
        method: How files were seen: `audit hook`, `mounts` (all that it could see was mounted), or `none`.
        read: How many files of each declared kind were read: dataset, source models, model, secrets, source.
        undeclared: Files that it read and that are none of its inputs, the first `MOST_NAMED`.
        undeclared_count: How many of those there were.
        altered: What it was given that was another when the run had ended, in words: data, models, environment.
        unwatched: Pythons that it started in a way that keeps them from being watched.
        programs: Other programs that it started, whose reads nobody sees, without the harmless and the vouched ones.
        has_lost: Whether files that are none of its inputs, or programs, may have been too many to be noted.
        unseen: Why some reads may not have been seen, in words.
        hosts: Hosts that it asked for by name, with the port.
    """

    source_hash: str
    changed: tuple[str, ...] = ()
    method: str = "none"
    read: Mapping[str, int] = field(default_factory=dict)
    undeclared: tuple[ReadFile, ...] = ()
    undeclared_count: int = 0
    altered: tuple[str, ...] = ()
    unwatched: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    has_lost: bool = False
    unseen: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    @property
    def faults(self) -> tuple[str, ...]:
        """Why the lineage of what came out would have a missing edge; empty if it has none."""
        found = [BLIND] if self.method == "none" else []
        found += [f"the code changed while it ran: {', '.join(self.changed)}"] if self.changed else []
        found += self.altered
        found += [f"nobody saw which files {program} read, which it started" for program in self.unwatched]
        found += [BESIDE.format(programs=", ".join(self.programs))] if self.programs else []
        found += [LOST] if self.has_lost else []
        found += [f"{file} was read, and is none of its declared inputs" for file in self.undeclared]
        more = self.undeclared_count - len(self.undeclared)
        if more > 0:
            found.append(f"{more} more files were read that are none of its declared inputs")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Trace":
        """Read what `to_json` wrote."""
        lists = {name: tuple(data.get(name, ())) for name in _LISTS}
        undeclared = tuple(ReadFile(**file) for file in data.get("undeclared", ()))
        return cls(**{**data, **lists, "undeclared": undeclared})
