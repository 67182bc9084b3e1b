"""The statements that exposures and events are read and written by. Nothing is decided or remembered here."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from taxiway_serving.feedback import SESSION_S, Exposure, Metric, is_single, joins
from taxiway_serving.ledger.dialects import inserting, put
from taxiway_serving.ledger.reward_tables import RETURNING_UNIT, counts, events, exposures, shares
from taxiway_serving.ledger.reward_tables import metrics as definitions
from taxiway_serving.rewards import Cell

Key = tuple[str, str, str]
"""What makes an event: its request, its metric, its own id."""
Found = Mapping[Any, Any]
T = TypeVar("T")

_MOST_DELETED: Final = 5000
_CHUNK: Final = 500


def known_requests(connection: Connection, request_ids: Iterable[str]) -> dict[str, Found]:
    """Return the rows of those requests that are known."""
    found: dict[str, Found] = {}
    for some in chunks(sorted(request_ids)):
        query = sa.select(exposures).where(exposures.c.request_id.in_(some))
        found |= {row["request_id"]: row for row in connection.execute(query).mappings()}
    return found


def stored_events(connection: Connection, keys: Sequence[Key]) -> dict[Key, Found]:
    """Return the rows of those events that are stored already."""
    columns = tuple(events.primary_key)
    found: dict[Key, Found] = {}
    for some in chunks(sorted(set(keys))):
        query = sa.select(events).where(sa.tuple_(*columns).in_(some))
        for row in connection.execute(query).mappings():
            found[row["request_id"], row["metric"], row["event_id"]] = row
    return found


def last_openings(
    connection: Connection, fresh: Iterable[Exposure]
) -> dict[tuple[str, str, int], tuple[str, float]]:
    """Return the latest exposure of each of these users on each version that may still be open."""
    table = exposures
    units: dict[str, list[Exposure]] = defaultdict(list)
    for exposure in fresh:
        if not is_single(exposure.unit):
            units[exposure.handle].append(exposure)
    found: dict[tuple[str, str, int], tuple[str, float]] = {}
    for handle, own in units.items():
        since_s = min(exposure.at_s for exposure in own) - SESSION_S
        for some in chunks(sorted({exposure.unit for exposure in own})):
            query = (
                sa.select(table.c.unit, table.c.version, table.c.opening, table.c.opened_at_s)
                .where(table.c.handle == handle, table.c.unit.in_(some), table.c.opened_at_s > since_s)
                .where(sa.text(RETURNING_UNIT))
                .order_by(table.c.opened_at_s, table.c.at_s)
            )
            # In their order: the latest one of each stays.
            for unit, version, opening, opened_at_s in connection.execute(query):
                found[handle, unit, version] = (opening, opened_at_s)
    return found


def opened_rows(
    fresh: Iterable[Exposure], last: dict[tuple[str, str, int], tuple[str, float]]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of requests, each with the one that opened its exposure."""
    names = ("request_id", "handle", "version", "unit", "at_s", "share")
    for exposure in sorted(fresh, key=lambda one: (one.at_s, one.request_id)):
        who = (exposure.handle, exposure.unit, exposure.version)
        if who not in last or not joins(exposure, last[who][1]):
            last[who] = (exposure.request_id, exposure.at_s)
        opening, opened_at_s = last[who]
        row = {name: getattr(exposure, name) for name in names}
        yield {**row, "opening": opening, "opened_at_s": opened_at_s}


def add_counts(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> dict[str, Counter[Cell]]:
    """Add what was opened to the counts that outlive the requests, and return it by handle."""
    opened: dict[str, Counter[Cell]] = defaultdict(Counter)
    for row in rows:
        if row["opening"] == row["request_id"]:
            opened[row["handle"]][row["version"], math.floor(row["opened_at_s"])] += 1
    values = [
        {"handle": handle, "version": version, "second": second, "exposures": count}
        for handle, cells in opened.items()
        for (version, second), count in cells.items()
    ]
    if values:
        added = inserting(connection, counts)
        total = counts.c.exposures + added.excluded.exposures
        keys = [column.name for column in counts.primary_key]
        connection.execute(
            added.on_conflict_do_update(index_elements=keys, set_={"exposures": total}), values
        )
    return opened


def follow_metrics(connection: Connection, handle: str, metrics: Iterable[Metric]) -> None:
    """Store which metrics a handle follows from now on, and how it counts them."""
    quiet = sa.update(definitions).where(definitions.c.handle == handle)
    connection.execute(quiet.values(is_followed=False))
    for metric in metrics:
        define_metric(connection, handle, metric, is_followed=True)


def define_metric(connection: Connection, handle: str, metric: Metric, *, is_followed: bool) -> None:
    """Store how a handle counts a metric."""
    row = {"window_s": metric.window_s, "how": metric.how, "is_followed": is_followed}
    put(connection, definitions, [{"handle": handle, "name": metric.name, **row}])


def forget_requests(connection: Connection, handle: str, *, before_s: float) -> None:
    """Delete some requests of a handle that were made before; the rest waits for the next time."""
    old = sa.select(exposures.c.request_id).where(exposures.c.handle == handle, exposures.c.at_s < before_s)
    connection.execute(sa.delete(exposures).where(exposures.c.request_id.in_(old.limit(_MOST_DELETED))))


def forget_counts(connection: Connection, handle: str, *, before_s: float) -> None:
    """Delete the counts of exposures that were opened before."""
    connection.execute(sa.delete(counts).where(counts.c.handle == handle, counts.c.second < int(before_s)))


def forget_events(connection: Connection, *, before_s: float) -> None:
    """Delete some of the attributed events that were received before; the rest waits for the next time."""
    _forget_events(connection, events.c.received_at_s < before_s, events.c.place.is_not(None))


def forget_waiting(connection: Connection, *, before_s: float) -> int:
    """Delete some of the events that were received before and whose request never came; return how many."""
    return _forget_events(connection, events.c.place.is_(None), events.c.received_at_s < before_s)


def _forget_events(connection: Connection, *conditions: sa.ColumnElement[bool]) -> int:
    """Delete some of the events that conditions hold for; return how many."""
    old = sa.select(*events.primary_key).where(*conditions).limit(_MOST_DELETED)
    gone = connection.execute(sa.delete(events).where(sa.tuple_(*events.primary_key).in_(old)))
    return gone.rowcount


def waiting(connection: Connection, *, until_s: float = math.inf) -> int:
    """Return how many of the events that were received until then have no request yet."""
    query = sa.select(sa.func.count()).where(events.c.place.is_(None), events.c.received_at_s <= until_s)
    return connection.scalar(query) or 0


def last_shares(connection: Connection) -> dict[tuple[str, int], bool]:
    """Return whether each version had a share when that was noted last, by handle and version."""
    columns = (shares.c.handle, shares.c.version)
    last = sa.func.max(shares.c.at_s).label("at_s")
    latest = sa.select(*columns, last).group_by(*columns).subquery()
    is_latest = [shares.c[name] == latest.c[name] for name in ("handle", "version", "at_s")]
    query = sa.select(*columns, shares.c.has_share).join(latest, sa.and_(*is_latest))
    return {(handle, version): has_share for handle, version, has_share in connection.execute(query)}


def note_shares(connection: Connection, changes: Mapping[tuple[str, int], bool], at_s: float) -> None:
    """Store which versions have a share from a moment on, and which none any more."""
    rows = [
        {"handle": handle, "version": version, "at_s": at_s, "has_share": has_share}
        for (handle, version), has_share in changes.items()
    ]
    put(connection, shares, rows)


def chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield the items in parts that fit into one statement."""
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
