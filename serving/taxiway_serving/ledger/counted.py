"""What exposures and events come to, cell by cell, held in memory and made again from the tables where it is missing.

One process at a time owns it; its owner locks. Nothing here writes to the tables.
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
from taxiway_serving.rewards import Cell, Outcome, outcome_of

_MOST_VIEWS: Final = 64
_NEVER: Final = 2**62


@dataclass(slots=True)
class _Exposures:
    """Exposures of a handle by cell, from a second on."""

    since: int = _NEVER
    cells: dict[Cell, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Outcomes:
    """Outcomes of a metric by cell, from a second on, and the cells to count again."""

    since: int = _NEVER
    cells: dict[Cell, Outcome] = field(default_factory=dict)
    stale: set[Cell] = field(default_factory=set)


class Counted:
    """Counts by cell, kept up to date by being told what was stored."""

    def __init__(self) -> None:
        self._exposures: dict[str, _Exposures] = {}
        self._outcomes: dict[tuple[str, Metric], _Outcomes] = {}

    def add(self, handle: str, opened: Mapping[Cell, int]) -> None:
        """Take in exposures that were stored just now."""
        known = self._exposures.setdefault(handle, _Exposures())
        for cell, count in opened.items():
            if cell[1] >= known.since:
                known.cells[cell] = known.cells.get(cell, 0) + count

    def touch(self, reported: Iterable[Reported]) -> None:
        """Count the cells of these events again when they are asked for next: they were stored just now."""
        touched: dict[tuple[str, str], set[Cell]] = defaultdict(set)
        for each in reported:
            touched[each.exposure.handle, each.event.metric].add(each.cell)
        for (handle, metric), known in self._outcomes.items():
            cells = touched.get((handle, metric.name), set())
            known.stale |= {cell for cell in cells if cell[1] >= known.since}

    def forget(self, *, before: int) -> None:
        """Drop what is older than a second: the tables have forgotten it."""
        for exposures in self._exposures.values():
            exposures.cells = {cell: count for cell, count in exposures.cells.items() if cell[1] >= before}
        for outcomes in self._outcomes.values():
            outcomes.cells = {cell: found for cell, found in outcomes.cells.items() if cell[1] >= before}

    def exposures(self, connection: Connection, handle: str, since_s: float) -> Mapping[Cell, int]:
        """Return the exposures of a handle by cell; earlier cells may be among them."""
        known = self._exposures.setdefault(handle, _Exposures())
        since = math.floor(since_s)
        if since < known.since:
            table = tables.counts
            query = sa.select(table.c.version, table.c.second, table.c.exposures).where(
                table.c.handle == handle, table.c.second >= since, table.c.second < known.since
            )
            known.cells.update(
                ((version, second), count) for version, second, count in connection.execute(query)
            )
            known.since = since
        return known.cells

    def outcomes(
        self, connection: Connection, handle: str, metric: Metric, since_s: float
    ) -> Mapping[Cell, Outcome]:
        """Return the outcomes of a metric by cell; earlier cells may be among them."""
        known = self._view(handle, metric)
        since = math.floor(since_s)
        if since < known.since:
            known.cells.update(_counted(connection, handle, metric, since, known.since))
            known.since = since
        if known.stale:
            for first, end in _ranges(known.stale):
                known.cells.update(_counted(connection, handle, metric, first, end))
            known.stale.clear()
        return known.cells

    def _view(self, handle: str, metric: Metric) -> _Outcomes:
        if (handle, metric) not in self._outcomes and len(self._outcomes) >= _MOST_VIEWS:
            self._outcomes.pop(next(iter(self._outcomes)))
        return self._outcomes.setdefault((handle, metric), _Outcomes())


def _counted(
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


def _ranges(cells: Iterable[Cell]) -> Iterator[tuple[int, int]]:
    """Yield ranges of seconds that hold all cells, few and not much wider."""
    seconds = sorted({second for _, second in cells})
    first = last = seconds[0]
    for second in seconds[1:]:
        if second > last + 10:
            yield first, last + 1
            first = second
        last = second
    yield first, last + 1
