"""From attempts in the access log to units of evidence. Pure.

Units are users where one is known, else single requests. Only a unit's first bad event of a rollout counts, and a
unit that was bad is no longer at risk: ten users for whom everything fails are ten observations, not ten thousand.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from taxiway_serving.evidence.source import Attempt
from taxiway_serving.statistics.label import NOTHING, Counts

PATIENCE_MS = 1000.0
"""A client that gave up after this long gave up because the version kept it waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What one batch of attempts says about one rollout.

    Attributes:
        counts: Units of the interval.
        first_bad_at_s: When the candidate's first bad event in the batch happened.
        marks: (unit, is bad) to remember: the candidate's users, and every unit that was bad.
    """

    counts: Counts = NOTHING
    first_bad_at_s: float | None = None
    marks: tuple[tuple[str, bool], ...] = ()


def concerns(attempt: Attempt, *, versions: Iterable[int | None], since_s: float) -> bool:
    """Return whether an attempt is evidence for a rollout between these versions that began at `since_s`.

    A tester's is not, nor is one that its client gave up at once: nobody knows how it would have ended.
    """
    is_unknown = attempt.is_abandoned and attempt.duration_ms < PATIENCE_MS
    is_evidence = not attempt.pinned and not is_unknown
    return is_evidence and attempt.at_s >= since_s and attempt.assigned in versions


def is_bad(attempt: Attempt) -> bool:
    """Return whether an attempt speaks against the version that its unit was assigned to.

    The retry on stable does not: its first attempt did. A first attempt that another version had to answer does: the
    assigned one was ejected or unreachable. So does one that kept its client waiting until the client gave up.
    """
    if attempt.number > 1 and attempt.answered not in (attempt.assigned, None):
        return False
    return attempt.is_error or attempt.is_abandoned or attempt.answered != attempt.assigned


def tally(attempts: Iterable[Attempt], *, candidate: int, known: Mapping[str, bool]) -> Tally:
    """Return the units of a batch.

    Args:
        attempts: Those that concern the rollout.
        candidate: The version that is judged; every other assigned version counts as control.
        known: Units that the rollout has seen before, and whether each was bad.
    """
    seen = [_unit(unit, own) for unit, own in _by_unit(attempts).items() if not known.get(unit)]
    canary = [unit for unit in seen if unit.arm == candidate]
    bad = [unit for unit in seen if unit.bad_at_s is not None]
    bad_canary = [unit for unit in bad if unit.arm == candidate]
    return Tally(
        counts=Counts(
            canary=len(canary),
            control=len(seen) - len(canary),
            bad_canary=len(bad_canary),
            bad_control=len(bad) - len(bad_canary),
            fresh=sum(unit.name not in known for unit in canary),
            requests=sum(unit.requests for unit in canary),
        ),
        first_bad_at_s=min((unit.bad_at_s for unit in bad_canary if unit.bad_at_s is not None), default=None),
        marks=_marks(canary, bad, known),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    """One unit in one batch: its arm, its requests up to and with its first bad one, and when that was."""

    name: str
    arm: int
    requests: int
    bad_at_s: float | None


def _by_unit(attempts: Iterable[Attempt]) -> Mapping[str, list[Attempt]]:
    """Group attempts by unit; one that moved to another arm meanwhile stays with its first."""
    found: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        own = found.setdefault(attempt.unit, [])
        if not own or attempt.assigned == own[0].assigned:
            own.append(attempt)
    return found


def _unit(name: str, own: list[Attempt]) -> _Unit:
    bad = next((index for index, attempt in enumerate(own) if is_bad(attempt)), None)
    at_risk = own if bad is None else own[: bad + 1]
    return _Unit(
        name=name,
        arm=own[0].assigned,
        requests=max(1, sum(attempt.number == 1 for attempt in at_risk)),
        bad_at_s=None if bad is None else own[bad].at_s,
    )


def _marks(
    canary: Iterable[_Unit], bad: Iterable[_Unit], known: Mapping[str, bool]
) -> tuple[tuple[str, bool], ...]:
    """A request without a user never comes again, so a good one need not be remembered."""
    users = (unit.name for unit in canary if unit.name not in known and not unit.name.startswith("request:"))
    marks = dict.fromkeys(users, False) | {unit.name: True for unit in bad}
    return tuple(marks.items())
