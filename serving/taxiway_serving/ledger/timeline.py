"""The timeline of every handle on SQLite: what each version was given and did. Old spans become longer, totals stay."""

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from taxiway_serving.errors import InvalidSpecError, TransportError
from taxiway_serving.ledger.engine import open_engine
from taxiway_serving.timeline import SPAN_S, Served, Span, added, merged, span_of

LEVELS: Final = ((SPAN_S, 6 * 3600), (300, 90 * 86_400), (86_400, None))
"""Width of the spans, and the age from which on they are too short, in seconds; days stay."""
MOST_SPANS: Final = 10_000
_SEEN_S: Final = 3600.0
_TIDY_EVERY_S: Final = 10.0
_MOST_TIDIED: Final = 2000
_CHUNK: Final = 500

_meta = sa.MetaData()
_spans = sa.Table(
    "timeline",
    _meta,
    sa.Column("handle", sa.String(64), primary_key=True),
    sa.Column("width_s", sa.Integer, primary_key=True),
    sa.Column("at_s", sa.Integer, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("requests", sa.Integer, nullable=False),
    sa.Column("bad", sa.Integer, nullable=False),
    sa.Column("client_errors", sa.Integer, nullable=False),
    sa.Column("bins", sa.Text, nullable=False),
    sa.Column("weights_pct", sa.Float, nullable=False),
    sa.Column("weights", sa.Integer, nullable=False),
    sa.Index("timeline_by_time", "width_s", "at_s"),
    sqlite_with_rowid=False,
)
_seen = sa.Table(
    "timeline_seen",
    _meta,
    sa.Column("request", sa.Integer, primary_key=True),
    sa.Column("at_s", sa.Float, nullable=False, index=True),
)

Place = tuple[str, int, int]
"""A handle, the beginning of one of its shortest spans, a version."""


class SqlTimeline:
    """Timelines on one SQLite file. Safe to call from several threads of one process."""

    def __init__(self, url: str) -> None:
        """Open the tables, and make them where they are missing.

        Args:
            url: SQLAlchemy address, `sqlite:///` and a path; the controller's own database will do.

        Raises:
            InvalidSpecError: If it is another database.
        """
        self._lock = threading.RLock()
        self._tidied_at_s = float("-inf")
        self._weights: dict[tuple[str, int], tuple[int, float]] = {}
        self._engine = open_engine(url)
        try:
            with self._engine.begin() as connection:
                _meta.create_all(connection)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the file back."""
        self._engine.dispose()

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
            with self._begun() as connection:
                for (handle, at_s, version), own in _by_place(_fresh(connection, given)).items():
                    _add(connection, handle, span_of(version, at_s, own))
                for (handle, version), (at_s, weight) in news.items():
                    _weigh(connection, handle, Span(at_s=at_s, width_s=SPAN_S, version=version), weight)
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
        query = sa.select(_spans).where(
            _spans.c.handle == handle,
            _spans.c.at_s > sa.literal(int(since_s) // step_s * step_s) - _spans.c.width_s,
            _spans.c.at_s < until_s,
        )
        with self._engine.connect() as connection:
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
            with self._begun() as connection:
                for (width_s, age_s), (wider_s, _) in pairwise(LEVELS):
                    _widen(connection, width_s, wider_s, int(now_s - (age_s or 0)) // wider_s * wider_s)
                connection.execute(sa.delete(_seen).where(_seen.c.at_s < now_s - _SEEN_S))

    @contextmanager
    def _begun(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except OperationalError as error:
            raise TransportError("the controller's database", f"nothing was stored: {error.orig}") from error


def _fresh(connection: Connection, given: Mapping[int, Served]) -> list[Served]:
    """Return the requests that are new, and remember them."""
    numbers, known = sorted(given), set[int]()
    for start in range(0, len(numbers), _CHUNK):
        query = sa.select(_seen.c.request).where(_seen.c.request.in_(numbers[start : start + _CHUNK]))
        known.update(connection.scalars(query))
    fresh = [number for number in numbers if number not in known]
    if fresh:
        rows = [{"request": number, "at_s": given[number].at_s} for number in fresh]
        connection.execute(sa.insert(_seen), rows)
    return [given[number] for number in fresh]


def _by_place(served: Iterable[Served]) -> dict[Place, list[Served]]:
    found: dict[Place, list[Served]] = defaultdict(list)
    for one in served:
        found[one.handle, int(one.at_s) // SPAN_S * SPAN_S, one.version].append(one)
    return found


def _widen(connection: Connection, width_s: int, wider_s: int, end_s: int) -> None:
    """Add up the oldest spans of a width that begin before a multiple of the next."""
    old = sa.select(_spans).where(_spans.c.width_s == width_s, _spans.c.at_s < end_s)
    rows = connection.execute(old.order_by(_spans.c.at_s).limit(_MOST_TIDIED)).mappings().all()
    for row in rows:
        key = [column == row[column.name] for column in _spans.primary_key]
        connection.execute(sa.delete(_spans).where(*key))
    by_handle: dict[str, list[Span]] = defaultdict(list)
    for row in rows:
        by_handle[row["handle"]].append(_span(row))
    for handle, own in by_handle.items():
        for span in merged(own, width_s=wider_s):
            _add(connection, handle, span)


def _add(connection: Connection, handle: str, span: Span) -> None:
    known = _stored(connection, handle, span)
    _put(connection, handle, added(known, span) if known else span)


def _weigh(connection: Connection, handle: str, place: Span, weight_pct: float) -> None:
    """Note the weight of a span: the one that was read back last."""
    known = _stored(connection, handle, place) or place
    _put(connection, handle, replace(known, weights_pct=weight_pct, weights=1))


def _stored(connection: Connection, handle: str, span: Span) -> Span | None:
    query = sa.select(_spans).where(
        _spans.c.handle == handle,
        _spans.c.width_s == span.width_s,
        _spans.c.at_s == span.at_s,
        _spans.c.version == span.version,
    )
    row = connection.execute(query).mappings().first()
    return _span(row) if row else None


def _put(connection: Connection, handle: str, span: Span) -> None:
    names = ("width_s", "at_s", "version", "requests", "bad", "client_errors", "weights_pct", "weights")
    row = {"handle": handle, **{name: getattr(span, name) for name in names}}
    row["bins"] = json.dumps({str(number): count for number, count in sorted(span.bins.items())})
    keys = [column.name for column in _spans.primary_key]
    rest = {name: value for name, value in row.items() if name not in keys}
    connection.execute(insert(_spans).values(**row).on_conflict_do_update(index_elements=keys, set_=rest))


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
