"""What exposures and events come to, held in memory by the hour, and made again from the tables where it is missing.

Hours in which rewards may still come are held second by second; those before as one number for each version. One
process at a time owns it, and its owner locks. Nothing here writes to the tables.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from taxiway_serving.feedback import Metric, Reported
from taxiway_serving.ledger import reward_tables as tables
from taxiway_serving.rewards import Cell, Outcome, merged, outcome_of, with_late

HOUR_S: Final = 3600
_MOST_VIEWS: Final = 64


@dataclass(slots=True)
class _Hour:
    """One hour of a metric.

    Attributes:
        counts: Exposures by cell.
        outcomes: What they brought, by cell.
        is_merged: Whether there is one cell for each version only, at the hour's beginning.
        stale: Seconds to count again.
    """

    counts: dict[Cell, int]
    outcomes: dict[Cell, Outcome]
    is_merged: bool = False
    stale: set[int] = field(default_factory=set)


class Counted:
    """Counts by cell, kept up to date by being told what was stored."""

    def __init__(self) -> None:
        self._views: dict[tuple[str, Metric], dict[int, _Hour]] = {}

    def add(self, handle: str, opened: Mapping[Cell, int]) -> None:
        """Take in exposures that were stored just now."""
        for view in (view for (name, _), view in self._views.items() if name == handle):
            for cell, count in opened.items():
                hour = view.get(_hour_of(cell[1]))
                if hour is not None:
                    hour.counts[cell] = hour.counts.get(cell, 0) + count

    def touch(self, reported: Iterable[Reported]) -> None:
        """Take in events that were stored just now."""
        by_metric: dict[tuple[str, str], list[Reported]] = defaultdict(list)
        for each in reported:
            by_metric[each.exposure.handle, each.event.metric].append(each)
        for (handle, metric), view in self._views.items():
            for each in by_metric.get((handle, metric.name), ()):
                _touch(view, metric, each)

    def forget(self, *, before: int) -> None:
        """Drop what is older than a second: the tables have forgotten it."""
        for view in self._views.values():
            for begin in [begin for begin in view if begin + HOUR_S <= before]:
                del view[begin]

    def cells(
        self, connection: Connection, handle: str, metric: Metric, *, since_s: float, now_s: float
    ) -> tuple[dict[Cell, int], dict[Cell, Outcome]]:
        """Return exposures and outcomes by cell, from the second of `since_s` on.

        An hour whose windows are all over is one cell for each version, at its beginning.
        """
        view = self._view(handle, metric)
        since = math.floor(since_s)
        counts: dict[Cell, int] = {}
        outcomes: dict[Cell, Outcome] = {}
        for begin in _hours(connection, handle, since, max(view, default=0)):
            is_over = begin >= since and begin + HOUR_S <= now_s - metric.window_s
            hour = view.get(begin)
            if hour is None or (hour.is_merged and not is_over):
                hour = view[begin] = _loaded(connection, handle, metric, begin)
            for first, end in _ranges(hour.stale):
                hour.outcomes.update(_outcomes(connection, handle, metric, first, end))
            hour.stale.clear()
            if is_over and not hour.is_merged:
                own = merged(hour.counts, hour.outcomes, begin)
                hour = view[begin] = _Hour(counts=own[0], outcomes=own[1], is_merged=True)
            counts |= hour.counts
            outcomes |= hour.outcomes
        return counts, outcomes

    def _view(self, handle: str, metric: Metric) -> dict[int, _Hour]:
        if (handle, metric) not in self._views and len(self._views) >= _MOST_VIEWS:
            self._views.pop(next(iter(self._views)))
        return self._views.setdefault((handle, metric), {})


def _touch(view: dict[int, _Hour], metric: Metric, each: Reported) -> None:
    version, second = each.cell
    begin = _hour_of(second)
    hour = view.get(begin)
    if hour is None:
        return
    if not hour.is_merged:
        hour.stale.add(second)
    elif metric.takes(each.delay_s):
        del view[begin]
    else:
        # Stragglers come to hours long over; reading the hour again for each would hold up the tick.
        hour.outcomes[version, begin] = with_late(hour.outcomes.get((version, begin)))


def _hours(connection: Connection, handle: str, since: int, known_until: int) -> Iterator[int]:
    """Yield the beginning of each hour since a second in which there may be exposures."""
    table = tables.counts
    query = sa.select(sa.func.min(table.c.second), sa.func.max(table.c.second))
    first, last = connection.execute(query.where(table.c.handle == handle, table.c.second >= since)).one()
    if first is not None:
        yield from range(_hour_of(first), max(last, known_until) + 1, HOUR_S)


def _loaded(connection: Connection, handle: str, metric: Metric, begin: int) -> _Hour:
    table = tables.counts
    query = sa.select(table.c.version, table.c.second, table.c.exposures).where(
        table.c.handle == handle, table.c.second >= begin, table.c.second < begin + HOUR_S
    )
    return _Hour(
        counts={(version, second): count for version, second, count in connection.execute(query)},
        outcomes=dict(_outcomes(connection, handle, metric, begin, begin + HOUR_S)),
    )


def _outcomes(
    connection: Connection, handle: str, metric: Metric, first: int, end: int
) -> Iterator[tuple[Cell, Outcome]]:
    table = tables.events
    query = sa.select(table).where(
        table.c.handle == handle,
        table.c.metric == metric.name,
        table.c.opened_at_s >= float(first),
        table.c.opened_at_s < float(end),
    )
    rows = connection.execute(query.order_by(table.c.opened_at_s)).mappings()
    for second, own in groupby(rows, key=lambda row: math.floor(row["opened_at_s"])):
        by_version: dict[int, list[Reported]] = defaultdict(list)
        for row in own:
            by_version[row["version"]].append(tables.reported_of(row))
        for version, reported in by_version.items():
            yield (version, second), outcome_of(reported, metric)


def _ranges(seconds: Iterable[int]) -> list[tuple[int, int]]:
    """Return ranges that hold all seconds, few and not much wider."""
    found: list[tuple[int, int]] = []
    for second in sorted(seconds):
        if found and second < found[-1][1] + 10:
            found[-1] = (found[-1][0], second + 1)
        else:
            found.append((second, second + 1))
    return found


def _hour_of(second: int) -> int:
    return second // HOUR_S * HOUR_S
