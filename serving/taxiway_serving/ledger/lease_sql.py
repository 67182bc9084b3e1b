"""The lease on PostgreSQL: one row with its holder, its fence and its end by the database's clock."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from taxiway_serving.ledger.database import Database
from taxiway_serving.ledger.dialects import inserting
from taxiway_serving.ledger.tables import lease
from taxiway_serving.ledger.term import NAME, Term, hold_all_off, steady_s

_NOW_S = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Float)


class SqlLease:
    """`Lease` on the controllers' own database."""

    def __init__(
        self, url: str, *, holder: str, address: str, lease_s: float, clock: Callable[[], float] = steady_s
    ) -> None:
        """Open the lease, and bring the tables up to date.

        Args:
            url: SQLAlchemy address of a PostgreSQL.
            holder: A name that no other process has.
            address: Where the holder answers, for those who ask a standby.
            lease_s: How long a term lasts without renewal, in seconds.
            clock: Seconds by a clock that only goes forward.

        Raises:
            InvalidSpecError: If it is another database, or tables of a newer Taxiway.
            TransportError: If it cannot be reached.
        """
        self._database = Database(url)
        self._holder, self._address, self._lease_s, self._clock = holder, address, lease_s, clock
        self._seen: tuple[int, float] | None = None
        self._seen_at_s = 0.0
        self.leader = ""

    def close(self) -> None:
        """Give the connections back."""
        self._database.close()

    def take(self) -> Term | None:
        asked_at_s = self._clock()
        with self._database.reading() as connection:
            found = connection.execute(
                sa.select(lease, _NOW_S.label("now_s")).where(lease.c.name == NAME)
            ).first()
        if found is not None and not self._is_over(found, asked_at_s):
            self.leader = found.url
            return None
        self.leader = ""
        with self._database.writing() as connection:
            hold_all_off(connection, patience_s=self._lease_s)
            fence = self._taken(connection, found)
        if fence is None:
            return None
        self.leader = self._address
        return Term(
            fence=fence, holder=self._holder, lease_s=self._lease_s, asked_at_s=asked_at_s, clock=self._clock
        )

    def renew(self, term: Term) -> None:
        asked_at_s = self._clock()
        if self._set_end(term, _NOW_S + self._lease_s):
            term.extend(asked_at_s)
        else:
            term.end("another controller leads")

    def release(self, term: Term) -> None:
        self._set_end(term, sa.literal(0.0))

    def _is_over(self, found: Row[Any], now_s: float) -> bool:
        """Tell whether a term is over: by the database's clock, or since nobody renewed it while this one watched.

        The second is for a database whose clock was set back, and for one only.
        """
        seen = (found.fence, found.expires_at_s)
        if seen != self._seen:
            self._seen, self._seen_at_s = seen, now_s
        return bool(found.expires_at_s <= found.now_s or now_s - self._seen_at_s > 2 * self._lease_s)

    def _taken(self, connection: Connection, found: Row[Any] | None) -> int | None:
        """Write oneself down as the holder, unless the row is no longer as it was found; return the new fence."""
        own = {"holder": self._holder, "url": self._address, "expires_at_s": _NOW_S + self._lease_s}
        statement: sa.Executable
        if found is None:
            first = inserting(connection, lease).values(name=NAME, fence=1, **own)
            statement = first.on_conflict_do_nothing().returning(lease.c.fence)
        else:
            is_same = (lease.c.fence == found.fence, lease.c.expires_at_s == found.expires_at_s)
            update = sa.update(lease).where(lease.c.name == NAME, *is_same)
            statement = update.values(fence=found.fence + 1, **own).returning(lease.c.fence)
        fence: int | None = connection.scalar(statement)
        return fence

    def _set_end(self, term: Term, end_s: sa.ColumnElement[float]) -> bool:
        is_mine = (lease.c.name == NAME, lease.c.fence == term.fence, lease.c.holder == term.holder)
        with self._database.writing() as connection:
            changed = connection.execute(sa.update(lease).where(*is_mine).values(expires_at_s=end_s))
        return changed.rowcount == 1
