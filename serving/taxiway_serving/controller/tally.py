"""From attempts in the access log to units of evidence. Pure.

Units are users where one is known, else single requests. Only a unit's first bad event of a rollout counts,
and a unit that
was bad is no longer at risk: ten users for whom everything fails are ten observations, not ten thousand.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from taxiway_serving.evidence.source import Attempt
from taxiway_serving.statistics.label import NOTHING, Counts


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

    A tester's is not, nor is one that its client gave up: nobody knows how it would have ended.
    """
    is_evidence = not attempt.pinned and not attempt.is_abandoned
    return is_evidence and attempt.at_s >= since_s and attempt.assigned in versions


def is_bad(attempt: Attempt) -> bool:
    """Return whether an attempt speaks against the version that its unit was assigned to.

    The retry on stable does not: its first attempt did. A first attempt that another version had to answer
    does: the
    assigned one was ejected or unreachable.
    """
    if attempt.number > 1 and attempt.answered not in (attempt.assigned, None):
        return False
    return attempt.is_error or attempt.answered != attempt.assigned


def tally(attempts: Iterable[Attempt], *, candidate: int, known: Mapping[str, bool]) -> Tally:
    """Return the units of a batch.

    Args:
        attempts: Those that concern the rollout.
        candidate: The version that is judged; every other assigned version counts as control.
        known: Units that the rollout has seen before, and whether each was bad.
    """
    arms: dict[str, int] = {}
    bad: dict[str, float] = {}
    for attempt in attempts:
        arms.setdefault(attempt.unit, attempt.assigned)
        if is_bad(attempt) and attempt.assigned == arms[attempt.unit]:
            bad.setdefault(attempt.unit, attempt.at_s)
    at_risk = {unit: arm for unit, arm in arms.items() if not known.get(unit)}
    on_candidate = [unit for unit, arm in at_risk.items() if arm == candidate]
    bad_units = [unit for unit in at_risk if unit in bad]
    bad_canary = [unit for unit in bad_units if at_risk[unit] == candidate]
    return Tally(
        counts=Counts(
            canary=len(on_candidate),
            control=len(at_risk) - len(on_candidate),
            bad_canary=len(bad_canary),
            bad_control=len(bad_units) - len(bad_canary),
            fresh=sum(unit not in known for unit in on_candidate),
        ),
        first_bad_at_s=min((bad[unit] for unit in bad_canary), default=None),
        marks=_marks(on_candidate, bad_units, known),
    )


def _marks(
    on_candidate: Iterable[str], bad_units: Iterable[str], known: Mapping[str, bool]
) -> tuple[tuple[str, bool], ...]:
    """A request without a user never comes again, so a good one need not be remembered."""
    users = (unit for unit in on_candidate if unit not in known and not unit.startswith("request:"))
    marks = dict.fromkeys(users, False) | dict.fromkeys(bad_units, True)
    return tuple(marks.items())
