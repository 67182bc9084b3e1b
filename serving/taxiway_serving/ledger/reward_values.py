"""The questions that are asked of stored rewards: single values, sums over time, logged decisions. Reads only.

What was drawn by nobody (`NOT_DRAWN`) is in no comparison: it is left out of values and of decisions.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from taxiway_serving.feedback import NOT_DRAWN, SKEW_S, Attributed, Metric, is_single
from taxiway_serving.ledger import reward_tables as tables
from taxiway_serving.ledger.dialects import whole_seconds
from taxiway_serving.ledger.reward_queries import chunks
from taxiway_serving.rewards import Cell, value_of

Time = tuple[float, float]
"""Beginning and end, in seconds since the epoch."""

_MOST_TIMES: Final = 200


def in_window(table: sa.FromClause, metric: Metric, since_s: float) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the condition that an event counts: what `Metric.takes` says, in SQL."""
    delay_s = table.c.event_at_s - table.c.at_s
    return delay_s >= -SKEW_S, delay_s <= metric.window_s, table.c.at_s >= since_s


def attributed(
    connection: Connection, handle: str, metric: Metric, *, after: int, since_s: float, limit: int
) -> list[Attributed]:
    """Return events that were attributed inside their window behind a place, in order."""
    table, earlier = tables.events, tables.events.alias("earlier")
    before = sa.select(sa.literal(1)).where(
        earlier.c.unit == table.c.unit,
        earlier.c.place < table.c.place,
        *_compared(earlier, handle, metric, since_s),
    )
    query = sa.select(table, sa.exists(before).label("is_known")).where(
        table.c.place > after, *_compared(table, handle, metric, since_s)
    )
    rows = connection.execute(query.order_by(table.c.place).limit(limit)).mappings()
    return [_attributed(row, row["value"], is_first=not row["is_known"]) for row in rows]


def settled(
    connection: Connection, handle: str, metric: Metric, *, after_s: float, until_s: float, since_s: float
) -> list[tuple[float, Attributed]]:
    """Return the whole value of each exposure that was opened in a time, each with that moment, in its order.

    Args:
        connection: To the tables.
        handle: Endpoint.
        metric: What was brought, and how several events become one value.
        after_s: Only exposures that were opened after it.
        until_s: And not later than this: by now nothing can come that counts.
        since_s: Only of requests from then on.
    """
    table = tables.events
    query = sa.select(table).where(
        table.c.opened_at_s > after_s,
        table.c.opened_at_s <= until_s,
        *_compared(table, handle, metric, since_s),
    )
    order = (table.c.opened_at_s, table.c.opening, table.c.at_s, table.c.place)
    rows = connection.execute(query.order_by(*order)).mappings().all()
    known = _known_units(connection, handle, metric, rows, after_s=after_s, since_s=since_s)
    found = []
    for _, each in groupby(rows, key=lambda row: (row["opened_at_s"], row["opening"])):
        own = [*each]
        value = value_of([tables.reported_of(row) for row in own], metric.how)
        found.append(
            (own[0]["opened_at_s"], _attributed(own[0], value, is_first=own[0]["unit"] not in known))
        )
        known.add(own[0]["unit"])
    return found


def _known_units(
    connection: Connection,
    handle: str,
    metric: Metric,
    rows: Sequence[Any],
    *,
    after_s: float,
    since_s: float,
) -> set[str]:
    """Return which of these units had a value before."""
    table = tables.events
    found = set[str]()
    for some in chunks(sorted({row["unit"] for row in rows if not is_single(row["unit"])})):
        query = sa.select(table.c.unit).where(
            table.c.unit.in_(some),
            table.c.opened_at_s <= after_s,
            *_compared(table, handle, metric, since_s),
        )
        found.update(connection.scalars(query))
    return found


def drawn(
    connection: Connection, handle: str, metric: Metric, *, version: int, since_s: float, until_s: float
) -> list[tuple[int, float, float]]:
    """Return each unit's first exposure of the times in which a version had a share, in order.

    Args:
        connection: To the tables.
        handle: Endpoint.
        metric: What was brought, and its window.
        version: Whose times.
        since_s: Only exposures from then on.
        until_s: Before this: the window of later ones is open.

    Returns:
        (version drawn, its share then, what it brought, 0 for nothing).
    """
    times = _times_with_share(connection, handle, version, since_s=since_s)
    if not times:
        return []
    table = tables.exposures
    is_within = sa.or_(*(table.c.at_s.between(*each) for each in times))
    who = sa.case((table.c.unit.like("request:%"), table.c.request_id), else_=table.c.unit)
    number = sa.func.row_number().over(partition_by=who, order_by=(table.c.at_s, table.c.request_id))
    columns = (table.c.version, table.c.share, table.c.opening, table.c.at_s, table.c.request_id)
    first = (
        sa.select(*columns, number.label("number"))
        .where(table.c.handle == handle, table.c.share > NOT_DRAWN, table.c.at_s < until_s, is_within)
        .subquery()
    )
    earned = _values(handle, metric, since_s).subquery()
    query = (
        sa.select(first.c.version, first.c.share, sa.func.coalesce(earned.c.value, 0.0))
        .outerjoin(earned, earned.c.opening == first.c.opening)
        .where(first.c.number == 1)
        .order_by(first.c.at_s, first.c.request_id)
    )
    return [(version, share, value) for version, share, value in connection.execute(query)]


def _times_with_share(connection: Connection, handle: str, version: int, *, since_s: float) -> list[Time]:
    """Return the times in which a version had a share, each from its first exposure in it to its last.

    Before the first change that was noted, nothing is known but the exposures themselves.
    """
    table, changes = tables.exposures, tables.shares
    query = sa.select(changes.c.at_s, changes.c.has_share).where(
        changes.c.handle == handle, changes.c.version == version
    )
    noted = connection.execute(query.order_by(changes.c.at_s)).all()
    begins = [(0.0, True), *((at_s, has_share) for at_s, has_share in noted)]
    ends = [*(at_s for at_s, _ in noted), float("inf")]
    found = []
    for (begin_s, has_share), end_s in zip(begins, ends, strict=True):
        if not has_share or end_s < since_s:
            continue
        query = sa.select(sa.func.min(table.c.at_s), sa.func.max(table.c.at_s)).where(
            table.c.handle == handle,
            table.c.version == version,
            table.c.share > NOT_DRAWN,
            table.c.at_s >= max(since_s, begin_s),
            table.c.at_s < end_s,
        )
        first_s, last_s = connection.execute(query).one()
        if first_s is not None:
            found.append((first_s, last_s))
    return found[-_MOST_TIMES:]


def history(
    connection: Connection,
    handle: str,
    metrics: Iterable[Metric],
    *,
    since_s: float,
    until_s: float,
    step_s: int,
) -> dict[Cell, dict[str, dict[str, float]]]:
    """Return by version and beginning of the cell: by metric, `n` exposures with a value and their `sum`."""
    found: dict[Cell, dict[str, dict[str, float]]] = defaultdict(dict)
    for metric in metrics:
        query = _sums_by_cell(handle, metric, since_s=since_s, until_s=until_s, step_s=step_s)
        for version, at_s, count, total in connection.execute(query):
            found[version, at_s][metric.name] = {"n": count, "sum": total}
    return dict(found)


def _sums_by_cell(
    handle: str, metric: Metric, *, since_s: float, until_s: float, step_s: int
) -> sa.Select[Any]:
    """Return what selects (version, beginning of the cell, exposures with a value, their sum)."""
    table = tables.events.c
    is_within = (table.opened_at_s >= since_s, table.opened_at_s < until_s)
    exposure = _values(handle, metric, 0.0, *is_within).subquery().c
    whole_s = whole_seconds(exposure.opened_at_s)
    cell = (
        sa.select(exposure.version, (whole_s - whole_s % step_s).label("at_s"), exposure.value).subquery().c
    )
    totals = (sa.func.count(), sa.func.sum(cell.value))
    return sa.select(cell.version, cell.at_s, *totals).group_by(cell.version, cell.at_s)


def _values(
    handle: str, metric: Metric, since_s: float, *conditions: sa.ColumnElement[bool]
) -> sa.Select[Any]:
    """Return what selects each exposure with its `value`: what `rewards.value_of` says, in SQL."""
    table = tables.events.c
    counts = (
        table.handle == handle,
        table.metric == metric.name,
        *in_window(tables.events, metric, since_s),
        *conditions,
    )
    exposure = (table.opening, table.version, table.opened_at_s)
    if metric.how != "first":
        value = sa.func.max(table.value) if metric.how == "max" else sa.func.sum(table.value)
        return sa.select(*exposure, value.label("value")).where(*counts).group_by(*exposure)
    order = (table.event_at_s, table.request_id, table.metric, table.event_id)
    number = sa.func.row_number().over(partition_by=table.opening, order_by=order).label("number")
    each = sa.select(*exposure, table.value, number).where(*counts).subquery().c
    return sa.select(each.opening, each.version, each.opened_at_s, each.value).where(each.number == 1)


def _compared(
    table: sa.FromClause, handle: str, metric: Metric, since_s: float
) -> Iterable[sa.ColumnElement[bool]]:
    """Return the condition that an event counts, and that its version was drawn."""
    is_own = (table.c.handle == handle, table.c.metric == metric.name, table.c.share > NOT_DRAWN)
    return (*is_own, *in_window(table, metric, since_s))


def _attributed(row: Mapping[Any, Any], value: float, *, is_first: bool) -> Attributed:
    names = ("place", "request_id", "version", "unit", "share", "at_s", "event_at_s")
    return Attributed(**{name: row[name] for name in names}, value=value, is_first=is_first)
