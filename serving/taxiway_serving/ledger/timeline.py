"""The timeline of every handle: what each version was given and did. Old spans become longer, totals stay."""

import hashlib
import json
import math
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.ledger.database import Database
from taxiway_serving.ledger.dialects import put
from taxiway_serving.ledger.tables import timeline as spans
from taxiway_serving.ledger.tables import timeline_seen as seen
from taxiway_serving.ledger.term import Term
from taxiway_serving.timeline import SPAN_S, Served, Span, added, merged, span_of

LEVELS: Final = ((SPAN_S, 6 * 3600), (300, 90 * 86_400), (86_400, None))
"""Width of the spans, and the age from which on they are too short, in seconds; days stay."""
MOST_SPANS: Final = 10_000
_SEEN_S: Final = 3600.0
_TIDY_EVERY_S: Final = 10.0
_MOST_TIDIED: Final = 2000
_CHUNK: Final = 500

Place = tuple[str, int, int]
"""A handle, the beginning of one of its shortest spans, a version."""


class SqlTimeline:
    """Timelines in one database. Safe to call from several threads of one process."""

    def __init__(self, url: str, *, term: Term | None = None) -> None:
        """Open the tables, and bring them up to date.

        Args:
            url: SQLAlchemy address; the controller's own database will do.
            term: In which one writes; None writes whenever it likes.

        Raises:
            InvalidSpecError: If it is another database, or tables of a newer Taxiway.
            TransportError: If it cannot be reached.
        """
        self._lock = threading.RLock()
        self._tidied_at_s = float("-inf")
        self._weights: dict[tuple[str, int], tuple[int, float]] = {}
        self._database = Database(url, term=term)

    def close(self) -> None:
        """Give file and connections back."""
        self._database.close()

    def record(
        self, served: Iterable[Served], weights_pct: Mapping[str, Mapping[int, float]], *, now_s: float
    ) -> None:
        """Store what was served, and the weights that were read back just now.

        A request that was recorded within the last hour is not counted twice, so a controller that dies before it has
        stored how far it read loses nothing and doubles nothing.

        Args:
            served: Live requests, each once; in any order.
            weights_pct: By handle, the weight of each version in its split. What could not be read is absent.
            now_s: The time.

        Raises:
            TransportError: If the database cannot be written now; nothing of it is stored.
        """
        given = {_number(one.request_id): one for one in served}
        with self._lock:
            at_s = int(now_s) // SPAN_S * SPAN_S
            news = {
                (handle, version): (at_s, weight)
                for handle, own in weights_pct.items()
                for version, weight in own.items()
                if self._weights.get((handle, version)) != (at_s, weight)
            }
            if not given and not news:
                return
            with self._database.writing() as connection:
                for (handle, at_s, version), own in _by_place(_fresh(connection, given)).items():
                    _add(connection, handle, span_of(version, at_s, own))
                _weigh(connection, news)
            self._weights |= news

    def rows(self, handle: str, *, since_s: float, until_s: float, step_s: int = SPAN_S) -> list[Span]:
        """Return what each version did, span by span.

        Args:
            handle: Endpoint.
            since_s: From here on; rounded down to a multiple of the step.
            until_s: Before this.
            step_s: Width to add spans up to, a multiple of 10. Old ones may be longer already; each says its width.

        Raises:
            InvalidSpecError: If the step is not one, or there are more than 10,000 spans.
        """
        _check_range(since_s, until_s, step_s)
        query = sa.select(spans).where(
            spans.c.handle == handle,
            spans.c.at_s > sa.literal(int(since_s) // step_s * step_s) - spans.c.width_s,
            spans.c.at_s < math.ceil(until_s),
        )
        with self._database.reading() as connection:
            found = merged((_span(row) for row in connection.execute(query).mappings()), width_s=step_s)
        if len(found) > MOST_SPANS:
            fault = f"{len(found):,} spans, at most {MOST_SPANS:,}; ask for a larger step_s or a shorter time"
            raise InvalidSpecError((fault,), "timeline")
        return found

    def tidy(self, *, now_s: float) -> None:
        """Add old spans up to longer ones; a little at a time, and not at every call.

        Raises:
            TransportError: If the database cannot be written now.
        """
        with self._lock:
            if now_s - self._tidied_at_s < _TIDY_EVERY_S:
                return
            self._tidied_at_s = now_s
            with self._database.writing() as connection:
                for (width_s, age_s), (wider_s, _) in pairwise(LEVELS):
                    _widen(connection, width_s, wider_s, int(now_s - (age_s or 0)) // wider_s * wider_s)
                connection.execute(sa.delete(seen).where(seen.c.at_s < now_s - _SEEN_S))


def _fresh(connection: Connection, given: Mapping[int, Served]) -> list[Served]:
    """Return the requests that are new, and remember them."""
    numbers, known = sorted(given), set[int]()
    for start in range(0, len(numbers), _CHUNK):
        query = sa.select(seen.c.request).where(seen.c.request.in_(numbers[start : start + _CHUNK]))
        known.update(connection.scalars(query))
    fresh = [number for number in numbers if number not in known]
    if fresh:
        rows = [{"request": number, "at_s": given[number].at_s} for number in fresh]
        connection.execute(sa.insert(seen), rows)
    return [given[number] for number in fresh]


def _by_place(served: Iterable[Served]) -> dict[Place, list[Served]]:
    found: dict[Place, list[Served]] = defaultdict(list)
    for one in served:
        found[one.handle, int(one.at_s) // SPAN_S * SPAN_S, one.version].append(one)
    return found


def _widen(connection: Connection, width_s: int, wider_s: int, end_s: int) -> None:
    """Add up the oldest spans of a width that begin before a multiple of the next."""
    old = sa.select(spans).where(spans.c.width_s == width_s, spans.c.at_s < end_s)
    rows = connection.execute(old.order_by(spans.c.at_s).limit(_MOST_TIDIED)).mappings().all()
    for row in rows:
        key = [column == row[column.name] for column in spans.primary_key]
        connection.execute(sa.delete(spans).where(*key))
    by_handle: dict[str, list[Span]] = defaultdict(list)
    for row in rows:
        by_handle[row["handle"]].append(_span(row))
    for handle, own in by_handle.items():
        for span in merged(own, width_s=wider_s):
            _add(connection, handle, span)


def _add(connection: Connection, handle: str, span: Span) -> None:
    known = _stored(connection, handle, span)
    _put(connection, handle, added(known, span) if known else span)


def _weigh(connection: Connection, news: Mapping[tuple[str, int], tuple[int, float]]) -> None:
    """Note the weights of spans, those that were read back last. In one statement: they begin for all at once."""
    rows = [
        _row(handle, Span(at_s=at_s, width_s=SPAN_S, version=version, weights_pct=weight_pct, weights=1))
        for (handle, version), (at_s, weight_pct) in news.items()
    ]
    put(connection, spans, rows, once=("requests", "bad", "client_errors", "bins"))


def _stored(connection: Connection, handle: str, span: Span) -> Span | None:
    query = sa.select(spans).where(
        spans.c.handle == handle,
        spans.c.width_s == span.width_s,
        spans.c.at_s == span.at_s,
        spans.c.version == span.version,
    )
    row = connection.execute(query).mappings().first()
    return _span(row) if row else None


def _put(connection: Connection, handle: str, span: Span) -> None:
    put(connection, spans, [_row(handle, span)])


def _row(handle: str, span: Span) -> dict[str, Any]:
    names = ("width_s", "at_s", "version", "requests", "bad", "client_errors", "weights_pct", "weights")
    row = {"handle": handle, **{name: getattr(span, name) for name in names}}
    row["bins"] = json.dumps({str(number): count for number, count in sorted(span.bins.items())})
    return row


def _span(row: Mapping[Any, Any]) -> Span:
    names = ("width_s", "at_s", "version", "requests", "bad", "client_errors", "weights_pct", "weights")
    bins = {int(number): count for number, count in json.loads(row["bins"]).items()}
    return Span(**{name: row[name] for name in names}, bins=bins)


def _check_range(since_s: float, until_s: float, step_s: int) -> None:
    faults = []
    if step_s < SPAN_S or step_s % SPAN_S:
        faults.append(f"step_s: must be a multiple of {SPAN_S}, got {step_s}")
    if not since_s < until_s:
        faults.append(f"since_s: must be before until_s {until_s:g}, got {since_s:g}")
    if faults:
        raise InvalidSpecError(tuple(faults), "timeline")


def _number(request_id: str) -> int:
    """Return 63 bits of a request's hash: two requests of one hour share them once in a million years."""
    return int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8).digest()) >> 1
