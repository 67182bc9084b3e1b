"""Exposures and reported events in the database. What counts, and how much, is decided in `taxiway_serving.rewards`.

What a call stored is on disk when it returns, and storing it again changes nothing.
"""

import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from taxiway_serving.errors import ConflictError, OverloadError, TransportError
from taxiway_serving.feedback import (
    MOST_EVENTS,
    SESSION_S,
    Attributed,
    Event,
    Exposure,
    Metric,
    Reported,
    check_events,
    conflicts,
)
from taxiway_serving.ledger import reward_queries as queries
from taxiway_serving.ledger import reward_tables as tables
from taxiway_serving.ledger import reward_values as values
from taxiway_serving.ledger.counted import Counted
from taxiway_serving.ledger.database import Database
from taxiway_serving.ledger.reward_metrics import Metrics
from taxiway_serving.ledger.reward_receipts import UNKNOWN_AFTER_S, Account, Receipt, receipt_of, receipts_of
from taxiway_serving.ledger.term import Term
from taxiway_serving.rewards import Cell, Rewards, rewards_of
from taxiway_serving.split import Split

EVENTS_KEPT_S: Final = 90 * 86_400.0
UNKNOWN_KEPT_S: Final = 3600.0
"""An event whose request never came is kept so much longer than a request is remembered."""
MOST_WAITING: Final = 1_000_000
"""Events that may wait for their request at once, over all handles: some 200 MB."""
_PRUNE_EVERY_S: Final = 5.0


class SqlRewards:
    """Exposures and events of all handles, in one database. Safe to call from several threads of one process."""

    def __init__(
        self,
        url: str,
        *,
        retention_s: float = 3600.0,
        most_waiting: int = MOST_WAITING,
        term: Term | None = None,
    ) -> None:
        """Open the tables, and bring them up to date.

        Args:
            url: SQLAlchemy address; the controller's own database will do.
            retention_s: How long a request is remembered after the longest window of its handle, in seconds. An event
                that comes later finds no request.
            most_waiting: Events without a request that are kept at once; more are refused.
            term: In which one writes; None writes whenever it likes.

        Raises:
            InvalidSpecError: If it is another database, or tables of a newer Taxiway.
            TransportError: If it cannot be reached.
        """
        self._lock = threading.RLock()
        self._retention_s, self._most_waiting = retention_s, most_waiting
        self._counted, self._pruned_at_s = Counted(), -math.inf
        self._database = Database(url, term=term)
        try:
            with self._database.reading() as connection:
                self._place = connection.scalar(sa.select(sa.func.max(tables.events.c.place))) or 0
                self._handles = set(connection.scalars(sa.select(tables.exposures.c.handle).distinct()))
                self._waiting = queries.waiting(connection)
                self._has_share = queries.last_shares(connection)
                self._metrics = Metrics(connection)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give file and connections back."""
        self._database.close()

    def follow(self, handle: str, metrics: Sequence[Metric]) -> None:
        """Say which metrics a handle counts now, and how; it replaces what was said before.

        A request is remembered as long as the longest of their windows asks for. What is reported under another name
        is kept and counted by the usual window.
        """
        with self._lock:
            if self._metrics.follows(handle, metrics):
                return
            with self._begun() as connection:
                queries.follow_metrics(connection, handle, metrics)
            self._metrics.follow(handle, metrics)

    def metric(self, handle: str, name: str) -> Metric:
        """Return how a handle counts a metric: as it was told last, else by the usual window."""
        return self._metrics.metric(handle, name)

    def note_splits(self, splits: Mapping[str, Split | None], *, now_s: float) -> None:
        """Remember which versions have a share from now on, so that a time without one is told from bad luck.

        Args:
            splits: As they were read back just now; a handle that could not be asked is absent.
            now_s: The time.

        Raises:
            TransportError: If the database cannot be written now.
        """
        with self._lock:
            seen = {
                (handle, version): parts > 0
                for handle, split in splits.items()
                for version, parts in (split.parts.items() if split else ())
            }
            gone = {key: False for key in self._has_share if key[0] in splits and key not in seen}
            changes = {key: has for key, has in (gone | seen).items() if self._has_share.get(key) is not has}
            if not changes:
                return
            with self._begun() as connection:
                queries.note_shares(connection, changes, now_s)
            self._has_share |= changes

    def record(self, exposures: Iterable[Exposure]) -> int:
        """Store exposures, and attribute the events that waited for them. What is known already changes nothing.

        Args:
            exposures: In any order; best as the gateway's log has them.

        Returns:
            How many requests were new.

        Raises:
            TransportError: If the database cannot be written now; nothing of it is stored.
        """
        given: dict[str, Exposure] = {}
        for exposure in exposures:
            given.setdefault(exposure.request_id, exposure)
        if not given:
            return 0
        with self._lock:
            with self._begun() as connection:
                known = queries.known_requests(connection, given)
                fresh = [exposure for request_id, exposure in given.items() if request_id not in known]
                rows = list(queries.opened_rows(fresh, queries.last_openings(connection, fresh)))
                if not rows:
                    return 0
                connection.execute(sa.insert(tables.exposures), rows)
                opened = queries.add_counts(connection, rows)
                waited = self._attribute_waiting(connection, {row["request_id"]: row for row in rows})
                named = self._metrics.name_unknown(connection, waited)
            self._metrics.add(named)
            self._waiting -= len(waited)
            self._handles.update(row["handle"] for row in rows)
            for handle, cells in opened.items():
                self._counted.add(handle, cells)
            self._counted.touch(waited)
        return len(rows)

    def accept(self, events: Sequence[Event], *, now_s: float) -> tuple[Receipt, ...]:
        """Store events, all of them or none; what was stored before is answered as a duplicate.

        Args:
            events: 1 to 1,000, in any order.
            now_s: The time.

        Returns:
            What became of each, in the order given.

        Raises:
            InvalidSpecError: If any has a fault; all faults of all are named.
            ConflictError: If any has another value than it had before, or than another of them has.
            OverloadError: If too many events wait for requests that nobody knows.
            TransportError: If the database cannot be written now. Send them again.
        """
        check_events(events, now_s)
        with self._lock:
            with self._begun() as connection:
                stored = queries.stored_events(connection, [event.key for event in events])
                found = conflicts(events, {key: row["value"] for key, row in stored.items()})
                if found:
                    next_step = "nothing of this call was stored; give another event an event_id of its own"
                    raise ConflictError("feedback", "; ".join(found), next_step)
                fresh: dict[queries.Key, Event] = {}
                for event in events:
                    if event.key not in stored:
                        fresh.setdefault(event.key, event)
                exposed = queries.known_requests(connection, {event.request_id for event in fresh.values()})
                waiting = sum(event.request_id not in exposed for event in fresh.values())
                self._check_room(waiting)
                rows = {key: self._row(event, exposed, now_s) for key, event in fresh.items()}
                if rows:
                    connection.execute(sa.insert(tables.events), list(rows.values()))
                reported = [tables.reported_of(row) for row in rows.values() if row["place"] is not None]
                named = self._metrics.name_unknown(connection, reported)
            self._metrics.add(named)
            self._waiting += waiting
            self._counted.touch(reported)
        return tuple(receipts_of(events, stored, rows, self.metric, now_s=now_s))

    def summary(
        self, handle: str, metric: Metric, *, versions: Sequence[int], since_s: float, now_s: float
    ) -> Mapping[int, Rewards]:
        """Return what each version's exposures have brought since a moment; see `taxiway_serving.rewards`.

        Args:
            handle: Endpoint.
            metric: What is counted, and how; it need not be the one that the handle follows.
            versions: Which versions.
            since_s: Only exposures that were opened in that second or later.
            now_s: The time.
        """
        with self._lock, self._database.reading() as connection:
            counts, outcomes = self._counted.cells(connection, handle, metric, since_s=since_s, now_s=now_s)
        return rewards_of(counts, outcomes, metric, versions=versions, since_s=since_s, now_s=now_s)

    def values(
        self, handle: str, metric: Metric, *, after: int = 0, since_s: float = 0.0, limit: int = 10_000
    ) -> list[Attributed]:
        """Return values that were attributed inside their window, in the order in which that happened.

        Args:
            handle: Endpoint.
            metric: Which one, and its window.
            after: Only places above it; 0 for the beginning.
            since_s: Only of requests from then on.
            limit: At most so many.
        """
        with self._database.reading() as connection:
            return values.attributed(connection, handle, metric, after=after, since_s=since_s, limit=limit)

    def whole_values(
        self, handle: str, metric: Metric, *, after_s: float, since_s: float, now_s: float
    ) -> list[tuple[float, Attributed]]:
        """Return the whole value of each exposure whose window is over, in the order in which they were opened.

        Where several events of an exposure become one value, no earlier one is the exposure's.

        Args:
            handle: Endpoint.
            metric: Which one, its window, and how events become one value.
            after_s: Only exposures that were opened after it; give the moment of the last one that was returned.
            since_s: Only of requests from then on.
            now_s: The time.

        Returns:
            When the exposure was opened, and its value.
        """
        until_s = now_s - metric.window_s - SESSION_S
        with self._database.reading() as connection:
            return values.settled(
                connection, handle, metric, after_s=after_s, until_s=until_s, since_s=since_s
            )

    def history(
        self, handle: str, *, since_s: float, until_s: float, step_s: int
    ) -> dict[Cell, dict[str, dict[str, float]]]:
        """Return the rewards of every metric over time, by the time of the request that earned them.

        Args:
            handle: Endpoint.
            since_s: From this second on.
            until_s: Before this second.
            step_s: Width of the cells in seconds; they begin at its multiples.

        Returns:
            By version and beginning of the cell: by metric, `n` exposures with a value and their `sum`.
        """
        with self._database.reading() as connection:
            return values.history(
                connection, handle, self._metrics.of(handle), since_s=since_s, until_s=until_s, step_s=step_s
            )

    def drawn(
        self, handle: str, metric: Metric, *, version: int, since_s: float, now_s: float
    ) -> list[tuple[int, float, float]]:
        """Return the decisions of the time in which a version was drawn, one for each unit, with what each brought.

        Args:
            handle: Endpoint.
            metric: What was brought, and its window; exposures whose window is open are left out.
            version: Only of times in which it had a share, each from its first exposure to its last.
            since_s: Not earlier than this.
            now_s: The time.

        Returns:
            (version drawn, its share then, value) in order, as `statistics.counterfactual` takes them.
        """
        until_s = now_s - metric.window_s
        with self._database.reading() as connection:
            return values.drawn(connection, handle, metric, version=version, since_s=since_s, until_s=until_s)

    def account(self, request_id: str, *, now_s: float) -> Account | None:
        """Return what is known of a request; None if neither the gateway nor the product has named it."""
        with self._database.reading() as connection:
            exposed = queries.known_requests(connection, {request_id}).get(request_id)
            query = sa.select(tables.events).where(tables.events.c.request_id == request_id)
            order = (tables.events.c.received_at_s, tables.events.c.metric, tables.events.c.event_id)
            rows = connection.execute(query.order_by(*order).limit(MOST_EVENTS)).mappings().all()
        known = exposed or next((row for row in rows if row["place"] is not None), None)
        if known is None and not rows:
            return None
        return Account(
            exposure=tables.exposure_of(known) if known else None,
            receipts=tuple(receipt_of(row, self.metric, now_s=now_s) for row in rows),
        )

    def waiting(self, *, now_s: float) -> dict[str, int]:
        """Return how many events wait for their request, and of how many it never came: `pending` and `unknown`."""
        with self._database.reading() as connection:
            unknown = queries.waiting(connection, until_s=now_s - UNKNOWN_AFTER_S)
            return {"pending": queries.waiting(connection) - unknown, "unknown": unknown}

    def prune(self, *, now_s: float) -> None:
        """Forget requests whose windows are over, and events of long ago; a little at a time, and not at every call.

        Raises:
            TransportError: If the database cannot be written now.
        """
        with self._lock:
            if now_s - self._pruned_at_s < _PRUNE_EVERY_S:
                return
            self._pruned_at_s = now_s
            kept_s, unknown_s = now_s - EVENTS_KEPT_S, now_s - self._retention_s - UNKNOWN_KEPT_S
            with self._begun() as connection:
                for handle in self._handles:
                    end_s = now_s - self._metrics.longest_window_s(handle) - self._retention_s
                    queries.forget_requests(connection, handle, before_s=end_s)
                    queries.forget_counts(connection, handle, before_s=kept_s)
                queries.forget_events(connection, before_s=kept_s)
                gone = queries.forget_waiting(connection, before_s=max(unknown_s, kept_s))
            self._waiting -= gone
            self._counted.forget(before=math.floor(kept_s))

    @contextmanager
    def _begun(self) -> Iterator[Connection]:
        try:
            with self._database.writing() as connection:
                yield connection
        except TransportError:
            # It may be stored all the same: what memory says of the tables is read from them again.
            self._counted = Counted()
            raise

    def _row(self, event: Event, exposed: Mapping[str, queries.Found], now_s: float) -> dict[str, Any]:
        request = exposed.get(event.request_id)
        names = ("request_id", "metric", "event_id", "value", "event_at_s")
        row = {name: getattr(event, name) for name in names}
        return {**row, "received_at_s": now_s, **self._known(request)}

    def _known(self, request: queries.Found | None) -> dict[str, Any]:
        """Return the columns that tell of an event's request, with the next place if it is known."""
        if request is None:
            return dict.fromkeys(("place", *tables.KNOWN_OF_REQUEST))
        self._place += 1
        return {"place": self._place, **{name: request[name] for name in tables.KNOWN_OF_REQUEST}}

    def _attribute_waiting(
        self, connection: Connection, exposed: Mapping[str, Mapping[str, Any]]
    ) -> list[Reported]:
        table = tables.events
        attributed = []
        for some in queries.chunks(sorted(exposed)):
            query = sa.select(table).where(table.c.request_id.in_(some), table.c.place.is_(None))
            for row in connection.execute(query.order_by(table.c.received_at_s)).mappings().all():
                known = self._known(exposed[row["request_id"]])
                key = [column == row[column.name] for column in table.primary_key]
                connection.execute(sa.update(table).where(*key).values(**known))
                attributed.append(tables.reported_of({**row, **known}))
        return attributed

    def _check_room(self, more: int) -> None:
        """Refuse events that would wait, where too many do already; those of known requests have room for ever."""
        if more and self._waiting + more > self._most_waiting:
            got = f"{self._waiting:,} events wait for a request that the gateway has not shown, and {more:,} more came"
            next_step = "send the x-request-id of answers; what waits in vain is forgotten after a while"
            raise OverloadError("feedback", got, f"{self._most_waiting:,}", next_step)
