"""From attempts in the access log to units of evidence. Pure.

Units are users where one is known, else single requests. Of each metric only a unit's first bad event of a rollout
counts, and a unit that was bad is no longer at risk: ten users for whom everything fails are ten observations, not ten
thousand.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from taxiway_serving.answers import Answer
from taxiway_serving.evidence.source import Attempt
from taxiway_serving.rollout.judges import CLIENT_ERRORS, SETTLED_S, candidates_of
from taxiway_serving.rollout.observation import ERRORS, key_of
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import RolloutState
from taxiway_serving.statistics.label import Counts

PATIENCE_MS = 1000.0
"""A client that gave up after this long gave up because the version kept it waiting."""

Known = Mapping[str, Mapping[int, frozenset[str]]]
"""By unit: the versions that it has met in the rollout, and of which metrics it was bad there."""
Mark = tuple[str, int, frozenset[str]]
"""A unit on a version, and of which metrics it was bad: what a rollout remembers of it."""
IsSo = Callable[[Attempt], bool]


def _always(_attempt: Attempt) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How a metric reads an attempt.

    Attributes:
        is_bad: Whether it speaks against its version.
        tells: Whether it says anything at all.
    """

    is_bad: IsSo
    tells: IsSo = _always


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What one batch of attempts says about one rollout.

    Attributes:
        counts: Units of the interval, by candidate and metric.
        assigned: Units seen for the first time in the rollout, by version, while the split stood still.
        first_bad_at_s: When a candidate's first bad event in the batch happened.
        marks: What to remember.
    """

    counts: Mapping[str, Counts] = field(default_factory=dict)
    assigned: Mapping[int, int] = field(default_factory=dict)
    first_bad_at_s: float | None = None
    marks: tuple[Mark, ...] = ()


def concerns(attempt: Attempt, spec: RolloutSpec, state: RolloutState) -> bool:
    """Return whether an attempt is evidence for a rollout.

    A tester's is not, nor is one that its client gave up at once: nobody knows how it would have ended; nor one that
    this machine had no room for, which is no version's fault; nor stable's rescue of a request, whose first attempt
    says all. What a header or a cookie routed was not left to chance: it counts only while nothing else does. Who keeps
    the candidate behind a closed door was, and counts against the SLO alone.
    """
    is_unknown = attempt.is_abandoned and attempt.duration_ms < PATIENCE_MS
    if attempt.is_overflow or is_rescue(attempt):
        return False
    is_chosen = attempt.via == "header" and state.header is not None and not state.weights
    is_kept = attempt.via == "member" and state.is_closed
    is_evidence = (attempt.via == "split" or is_chosen or is_kept) and not is_unknown
    versions = (*candidates_of(spec, state), state.stable)
    return is_evidence and attempt.at_s >= state.started_at_s and attempt.assigned in versions


def is_rescue(attempt: Attempt) -> bool:
    """Return whether another version answers again for the one that was assigned and has failed."""
    return attempt.number > 1 and attempt.answered not in (attempt.assigned, None)


def is_bad(attempt: Attempt) -> bool:
    """Return whether an attempt speaks against the version that its unit was assigned to.

    A rescue does not: its first attempt did; nor what this machine had no room for. A first attempt that another
    version had to answer does: the assigned one was ejected or unreachable. So does one that kept its client waiting
    until the client gave up.
    """
    if is_rescue(attempt) or attempt.is_overflow:
        return False
    return attempt.is_error or attempt.is_abandoned or attempt.answered != attempt.assigned


def is_refused(attempt: Attempt) -> bool:
    """Return whether the version refused the request as the client's mistake. Too many requests are not its word."""
    return attempt.number == 1 and 400 <= attempt.status < 500 and attempt.status != 429


def breaks_contract(attempt: Attempt) -> bool:
    """Return whether the service says that this answer breaks the contract."""
    return attempt.keeps_contract is Answer.NO


def says_of_contract(attempt: Attempt) -> bool:
    """Return whether the assigned version answered, and says whether it keeps the contract."""
    return attempt.keeps_contract is not Answer.UNKNOWN and attempt.answered == attempt.assigned


def readers_of(spec: RolloutSpec, state: RolloutState) -> dict[str, Reader]:
    """Return how each metric that the access log tells of reads an attempt."""
    readers = {ERRORS: Reader(is_bad=is_bad), CLIENT_ERRORS: Reader(is_bad=is_refused)}
    limits = {"latency": state.baseline_ms, "latency_slo": spec.latency_ms}
    for metric in spec.metrics:
        limit_ms = limits.get(metric.kind)
        if limit_ms is not None:
            readers[metric.name] = Reader(is_bad=_slower_than(limit_ms))
        elif metric.kind == "schema":
            readers[metric.name] = Reader(is_bad=breaks_contract, tells=says_of_contract)
    return readers


def _slower_than(limit_ms: float) -> IsSo:
    return lambda attempt: attempt.number == 1 and attempt.latency_ms > limit_ms


def tally(attempts: Iterable[Attempt], spec: RolloutSpec, state: RolloutState, known: Known) -> Tally:
    """Return the units of a batch.

    Args:
        attempts: Those that concern the rollout.
        spec: The rollout.
        state: As the last look left it.
        known: Units that it has seen before.
    """
    own = _by_unit(attempts)
    candidates = candidates_of(spec, state)
    readers = readers_of(spec, state)
    units = {
        name: [
            _Unit.of(unit, telling, reader.is_bad, name, known)
            for unit, seen in own.items()
            if (telling := [attempt for attempt in seen if reader.tells(attempt)])
        ]
        for name, reader in readers.items()
    }
    counts = {
        key_of(version, name): _counts(found, version, state.stable)
        for name, found in units.items()
        for version in candidates
    }
    bad_at_s = [u.bad_at_s for u in units[ERRORS] if u.arm in candidates and u.bad_at_s is not None]
    return Tally(
        counts=counts,
        assigned=_assigned(own, state, known),
        first_bad_at_s=min(bad_at_s, default=None),
        marks=_marks(own, units, known),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unit:
    """One unit by one metric: its arm, its requests up to and with its first bad one, and when that was.

    A unit that was bad before, on whatever version, is no longer at risk.
    """

    name: str
    arm: int
    requests: int
    bad_at_s: float | None
    is_fresh: bool
    is_at_risk: bool

    @classmethod
    def of(cls, name: str, own: Sequence[Attempt], is_bad: IsSo, metric: str, known: Known) -> "_Unit":
        before = known.get(name, {})
        bad = next((index for index, attempt in enumerate(own) if is_bad(attempt)), None)
        at_risk = own if bad is None else own[: bad + 1]
        return cls(
            name=name,
            arm=own[0].assigned,
            requests=max(1, sum(attempt.number == 1 for attempt in at_risk)),
            bad_at_s=None if bad is None else own[bad].at_s,
            is_fresh=own[0].assigned not in before,
            is_at_risk=not any(metric in metrics for metrics in before.values()),
        )


def _by_unit(attempts: Iterable[Attempt]) -> dict[str, list[Attempt]]:
    """Group attempts by unit; one that moved to another arm meanwhile stays with its first."""
    found: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        own = found.setdefault(attempt.unit, [])
        if not own or attempt.assigned == own[0].assigned:
            own.append(attempt)
    return found


def _counts(units: Sequence[_Unit], version: int, stable: int | None) -> Counts:
    at_risk = [unit for unit in units if unit.is_at_risk]
    past_risk = [unit for unit in units if not unit.is_at_risk and unit.arm in (version, stable)]
    mine = [unit for unit in at_risk if unit.arm == version]
    control = [unit for unit in at_risk if unit.arm == stable]
    return Counts(
        canary=len(mine),
        control=len(control),
        bad_canary=sum(unit.bad_at_s is not None for unit in mine),
        bad_control=sum(unit.bad_at_s is not None for unit in control),
        fresh=sum(unit.is_fresh for unit in mine),
        requests=sum(unit.requests for unit in mine),
        spent=sum(unit.is_fresh and unit.arm == version for unit in past_risk),
        past_risk=len(past_risk),
    )


def _assigned(own: Mapping[str, Sequence[Attempt]], state: RolloutState, known: Known) -> dict[int, int]:
    """Count units at their first sight, if they came when the split had settled: each is one draw of the hash."""
    since_s = state.weighed_at_s + SETTLED_S
    counts: dict[int, int] = {}
    for name, attempts in own.items():
        first = attempts[0]
        if name not in known and first.via == "split" and first.at_s >= since_s:
            counts[first.assigned] = counts.get(first.assigned, 0) + 1
    return counts


def _marks(
    own: Mapping[str, Sequence[Attempt]], units: Mapping[str, Sequence[_Unit]], known: Known
) -> tuple[Mark, ...]:
    """A request without a user never comes again, so it need not be remembered."""
    bad: dict[str, set[str]] = {}
    for metric, found in units.items():
        for unit in found:
            if unit.bad_at_s is not None:
                bad.setdefault(unit.name, set()).add(metric)
    marks = []
    for name, attempts in own.items():
        if name.startswith("request:") and name not in bad:
            continue
        before = known.get(name, {}).get(attempts[0].assigned)
        after = (before or frozenset()) | bad.get(name, set())
        if after != before:
            marks.append((name, attempts[0].assigned, after))
    return tuple(marks)
