"""Which places on the line of 10,000 each version of a split has, so that users stay where they are. Pure.

Envoy finds a user's place by a hash and sends the user to the version that has it. Who moves when weights change is
decided here alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from taxiway_serving.split import TOTAL_PARTS, Split

# 10,000 over the golden ratio, made coprime to 10,000: the first places of neighbouring versions are far apart.
_STRIDE: Final = 6181


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Some places in a row that one version has."""

    version: int
    parts: int


def layout(split: Split) -> tuple[Run, ...]:
    """Return the runs of the line, in order; they sum to 10,000. Stable is named even if it has nothing.

    Every candidate has a first place of its own, which depends on its number only, and takes the places from there
    on that no candidate with a lower number has; stable has the rest. So

    - raising a weight never sends a candidate's user to stable, whatever the other weights are;
    - a user who leaves a candidate when the weight of another is raised goes to that other one, or to a third;
    - candidates that do not touch move nobody of each other, nor does one that comes, goes or has no weight;
    - the first users of one rollout are not those of the next.
    """
    runs: tuple[Run, ...] = (Run(version=split.stable, parts=TOTAL_PARTS),)
    for version in split.canaries:
        runs = _taken(runs, version, split)
    has_stable = any(run.version == split.stable for run in runs)
    return runs if has_stable else (*runs, Run(version=split.stable, parts=0))


def first_place(version: int) -> int:
    """Return where on the line a candidate's users begin, 0 to 9,999."""
    return version * _STRIDE % TOTAL_PARTS


def _taken(runs: Sequence[Run], version: int, split: Split) -> tuple[Run, ...]:
    """Return the line after a version has taken its parts from stable, from its first place on and round the end."""
    start, wanted = first_place(version), split.parts[version]
    found = []
    for run in _turned(runs, start):
        taken = min(run.parts, wanted) if run.version == split.stable else 0
        wanted -= taken
        found += [Run(version=version, parts=taken), Run(version=run.version, parts=run.parts - taken)]
    return _merged(_turned(found, TOTAL_PARTS - start))


def _turned(runs: Sequence[Run], start: int) -> list[Run]:
    """Return the same circle, cut open at another place."""
    before, behind, place = [], [], 0
    for run in runs:
        left = min(max(start - place, 0), run.parts)
        before.append(Run(version=run.version, parts=left))
        behind.append(Run(version=run.version, parts=run.parts - left))
        place += run.parts
    return behind + before


def _merged(runs: Sequence[Run]) -> tuple[Run, ...]:
    found: list[Run] = []
    for run in runs:
        if found and found[-1].version == run.version:
            found[-1] = Run(version=run.version, parts=found[-1].parts + run.parts)
        elif run.parts:
            found.append(run)
    return tuple(found)
