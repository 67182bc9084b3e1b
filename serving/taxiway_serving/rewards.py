"""What the reported events of a metric come to, version by version: the rules of counting. Pure.

Late, repeated and reordered events change nothing but what they must: any order of the same events gives the same
rewards. Values are in `feedback.py`; what is stored, and counted bit by bit, in `ledger/rewards.py`.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from taxiway_serving.feedback import Event, Exposure, How, Metric, Reported, joins
from taxiway_serving.statistics.delays import Mode, credited

MOST_DELAYS: Final = 2000
_DELAYS_PER_SECOND: Final = 8
_DELAYS_PER_HOUR: Final = 500

Cell = tuple[int, int]
"""A version, and the second in which exposures of it were opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the exposures that were opened in one second on one version brought so far.

    Attributes:
        rewarded: Exposures with a value.
        successes: Exposures with a value above 0.
        total: Sum of the values.
        squares: Sum of their squares.
        late: Events that came, and did not count: too late, or from before their request.
        last_at_s: When the last event that counts was received.
        delays_s: From request to first event that counts, ascending; a few of them where there were many.
    """

    rewarded: int = 0
    successes: int = 0
    total: float = 0.0
    squares: float = 0.0
    late: int = 0
    last_at_s: float | None = None
    delays_s: tuple[float, ...] = ()


NO_OUTCOME: Final = Outcome()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewards:
    """What one version's exposures have brought since a moment.

    Attributes:
        version: The version.
        mode: `mature` while only exposures whose window is over count, and their values; see `statistics.delays`.
        exposures: Exposures, each a unit within a session.
        credited: How many of them count by now: 1 for each whose window is over, less for one whose reward may still
            come. Divide by this, not by `exposures`.
        rewarded: Exposures with a value.
        successes: Exposures with a value above 0; what a binary reward counts.
        total: Sum of the values; the mean of a continuous reward is `total / credited`.
        squares: Sum of their squares.
        pending: Exposures without a value whose window is still open.
        late: Events that did not count.
        last_at_s: When the last event that counts was received; None if none was.
        delay_p50_s: Median time from request to event; None without any.
        delay_p95_s: 95th percentile of it.
    """

    version: int
    mode: Mode = "mature"
    exposures: int = 0
    credited: float = 0.0
    rewarded: int = 0
    successes: int = 0
    total: float = 0.0
    squares: float = 0.0
    pending: int = 0
    late: int = 0
    last_at_s: float | None = None
    delay_p50_s: float | None = None
    delay_p95_s: float | None = None

    @property
    def mean(self) -> float | None:
        """Mean value of an exposure; None while nothing is credited."""
        return self.total / self.credited if self.credited > 0 else None

    def to_json(self) -> dict[str, Any]:
        """Return the rewards as plain JSON values."""
        return {**asdict(self), "mean": self.mean}


def outcome_of(reported: Iterable[Reported], metric: Metric) -> Outcome:
    """Return what the events of one cell come to, whatever their order and however often each came.

    Args:
        reported: Events of one version and one second of opening; those of other metrics are passed over.
        metric: What is counted, and how.
    """
    by_opening: dict[str, list[Reported]] = {}
    late = 0
    once = {each.event.key: each for each in reported if each.event.metric == metric.name}
    for each in once.values():
        if metric.takes(each.delay_s):
            by_opening.setdefault(each.opening, []).append(each)
        else:
            late += 1
    values = [value_of(own, metric.how) for own in by_opening.values()]
    delays_s = sorted(max(0.0, min(one.delay_s for one in own)) for own in by_opening.values())
    received = [one.received_at_s for own in by_opening.values() for one in own]
    return Outcome(
        rewarded=len(values),
        successes=sum(value > 0 for value in values),
        total=math.fsum(values),
        squares=math.fsum(value * value for value in values),
        late=late,
        last_at_s=max(received, default=None),
        delays_s=_thinned(delays_s, _DELAYS_PER_SECOND),
    )


def rewards_of(
    counts: Mapping[Cell, int],
    outcomes: Mapping[Cell, Outcome],
    metric: Metric,
    *,
    versions: Sequence[int],
    since_s: float,
    now_s: float,
) -> dict[int, Rewards]:
    """Return what each version's exposures have brought.

    Args:
        counts: Exposures that were opened in each cell.
        outcomes: What they brought so far; a cell that is absent brought nothing.
        metric: What is counted.
        versions: Which versions; each is in the answer, also with nothing.
        since_s: Only exposures that were opened in that second or later.
        now_s: The time.
    """
    first, mature_until_s = math.floor(since_s), now_s - metric.window_s
    arms = {version: _Arm() for version in versions}
    for (version, second), count in counts.items():
        if version in arms and second >= first:
            row = _Row(second=second, count=count, outcome=outcomes.get((version, second), NO_OUTCOME))
            (arms[version].mature if second <= mature_until_s else arms[version].young).append(row)
    window_s = metric.window_s
    seen = {version: _watched(arm, now_s, window_s) for version, arm in arms.items()}
    # The largest and the sum may grow until the window is over, so no delay says that they are whole.
    told = seen if metric.how == "first" else {}
    credit = credited(
        {version: _ages(arm, now_s, window_s) for version, arm in arms.items()},
        {version: [delay_s for delay_s, _ in own] for version, own in told.items()},
        window_s=window_s,
        watched={version: [age_s for _, age_s in own] for version, own in told.items()},
    )
    return {
        version: _rewards(
            version, arm, credit.exposures[version], credit.mode, [delay_s for delay_s, _ in seen[version]]
        )
        for version, arm in arms.items()
    }


def merged(
    counts: Mapping[Cell, int], outcomes: Mapping[Cell, Outcome], second: int
) -> tuple[dict[Cell, int], dict[Cell, Outcome]]:
    """Return cells as one for each version, in a second: what is over need not be told apart any more."""
    total: Counter[Cell] = Counter()
    own: dict[Cell, list[Outcome]] = {}
    for (version, _), count in counts.items():
        total[version, second] += count
    for (version, _), outcome in sorted(outcomes.items(), key=lambda item: item[0]):
        own.setdefault((version, second), []).append(outcome)
    return dict(total), {cell: _sum(parts) for cell, parts in own.items()}


def with_late(outcome: Outcome | None) -> Outcome:
    """Return an outcome with one more event that did not count."""
    known = outcome or NO_OUTCOME
    return replace(known, late=known.late + 1)


def summarise(
    exposures: Iterable[Exposure],
    events: Iterable[Event],
    metric: Metric,
    *,
    versions: Sequence[int],
    since_s: float,
    now_s: float,
) -> dict[int, Rewards]:
    """Return what a whole log of exposures and events comes to: the rules in one piece, as the store must follow them.

    Args:
        exposures: In any order; one request counts once.
        events: In any order; those about unknown requests do not count. Each was received when it happened.
        metric: What is counted. Another one, on the same log, may have another winner.
        versions: Which versions.
        since_s: Only exposures from then on.
        now_s: The time.
    """
    opened = _opened(exposures)
    counts = Counter(
        (exposure.version, math.floor(exposure.at_s))
        for exposure, opening in opened.values()
        if exposure is opening
    )
    cells: dict[Cell, list[Reported]] = {}
    for event in events:
        if event.request_id in opened:
            exposure, opening = opened[event.request_id]
            each = Reported(
                event=event,
                received_at_s=event.event_at_s,
                exposure=exposure,
                opening=opening.request_id,
                opened_at_s=opening.at_s,
            )
            cells.setdefault(each.cell, []).append(each)
    outcomes = {cell: outcome_of(reported, metric) for cell, reported in cells.items()}
    return rewards_of(counts, outcomes, metric, versions=versions, since_s=since_s, now_s=now_s)


def value_of(own: Sequence[Reported], how: How) -> float:
    """Return the one value that the events of an exposure come to, at least one."""
    if how == "max":
        return max(one.event.value for one in own)
    if how == "sum":
        return math.fsum(one.event.value for one in own)
    return min(own, key=lambda one: (one.event.event_at_s, one.event.key)).event.value


def percentile(ascending: Sequence[float], rank: float) -> float | None:
    """Return the value below which a part of them lie, by nearest rank; None of nothing."""
    return ascending[min(len(ascending) - 1, math.ceil(rank * len(ascending)) - 1)] if ascending else None


def _sum(parts: Sequence[Outcome]) -> Outcome:
    seen = [part.last_at_s for part in parts if part.last_at_s is not None]
    return Outcome(
        rewarded=sum(part.rewarded for part in parts),
        successes=sum(part.successes for part in parts),
        total=math.fsum(part.total for part in parts),
        squares=math.fsum(part.squares for part in parts),
        late=sum(part.late for part in parts),
        last_at_s=max(seen, default=None),
        delays_s=_thinned(sorted(delay for part in parts for delay in part.delays_s), _DELAYS_PER_HOUR),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One cell of a version: its second, its exposures, and what they brought."""

    second: int
    count: int
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arm:
    """The cells of a version whose window is over, and those whose rewards may still come."""

    mature: list[_Row] = field(default_factory=list)
    young: list[_Row] = field(default_factory=list)


def _ages(arm: _Arm, now_s: float, window_s: float) -> list[tuple[float, float]]:
    """Return (age, exposures); what is past the window is one number, however long it has been."""
    mature = (window_s, float(sum(row.count for row in arm.mature)))
    return [mature, *((max(0.0, now_s - row.second), float(row.count)) for row in arm.young)]


def _rewards(version: int, arm: _Arm, exposures: float, mode: Mode, delays_s: Sequence[float]) -> Rewards:
    """With `mature`, the early rewards of young exposures would count without those exposures: leave out both."""
    rows = [*arm.mature, *arm.young]
    counted = [row.outcome for row in (arm.mature if mode == "mature" else rows)]
    seen = [row.outcome.last_at_s for row in rows if row.outcome.last_at_s is not None]
    ascending = sorted(delays_s)
    return Rewards(
        version=version,
        mode=mode,
        exposures=sum(row.count for row in rows),
        credited=exposures,
        rewarded=sum(outcome.rewarded for outcome in counted),
        successes=sum(outcome.successes for outcome in counted),
        total=math.fsum(outcome.total for outcome in counted),
        squares=math.fsum(outcome.squares for outcome in counted),
        pending=sum(max(0, row.count - row.outcome.rewarded) for row in arm.young),
        late=sum(row.outcome.late for row in rows),
        last_at_s=max(seen, default=None),
        delay_p50_s=percentile(ascending, 0.5),
        delay_p95_s=percentile(ascending, 0.95),
    )


def _watched(arm: _Arm, now_s: float, window_s: float) -> list[tuple[float, float]]:
    """Return delays of rewards, each with the age of its exposure: of a young one only a short delay can be seen.

    Of those past the window the latest; of the young ones some of every age, or long delays would be missing.
    """
    found: list[tuple[float, float]] = []
    for row in sorted(arm.mature, key=lambda row: row.second, reverse=True):
        found += [(delay_s, window_s) for delay_s in row.outcome.delays_s]
        if len(found) >= MOST_DELAYS:
            break
    young = [row for row in arm.young if row.outcome.delays_s]
    for row in young[:: 1 + len(young) * _DELAYS_PER_SECOND // MOST_DELAYS]:
        age_s = max(0.0, now_s - row.second)
        found += [(delay_s, max(age_s, delay_s)) for delay_s in row.outcome.delays_s]
    return found


def _opened(exposures: Iterable[Exposure]) -> dict[str, tuple[Exposure, Exposure]]:
    """Return each request with the one that opened its exposure, by the request's id."""
    found: dict[str, tuple[Exposure, Exposure]] = {}
    last: dict[tuple[str, str, int], Exposure] = {}
    for exposure in sorted(exposures, key=lambda one: (one.at_s, one.request_id)):
        if exposure.request_id in found:
            continue
        who = (exposure.handle, exposure.unit, exposure.version)
        if who not in last or not joins(exposure, last[who].at_s):
            last[who] = exposure
        found[exposure.request_id] = (exposure, last[who])
    return found


def _thinned(ascending: Sequence[float], most: int) -> tuple[float, ...]:
    if len(ascending) <= most:
        return tuple(ascending)
    return tuple(ascending[math.floor((index + 0.5) * len(ascending) / most)] for index in range(most))
