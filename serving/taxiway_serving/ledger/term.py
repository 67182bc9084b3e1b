"""One controller's time as the leader: what its transactions are held to, and until when it may act."""

import math
import threading
import time
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from taxiway_serving.errors import NotLeaderError
from taxiway_serving.ledger.tables import lease

NAME: Final = "controller"
"""The one row of the lease."""
_LOCK: Final = 0x7461786977617901
_LOCK_NOT_AVAILABLE: Final = "55P03"
_END_HOLDERS: Final = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ShareLock'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND CAST(classid AS bigint) << 32 | CAST(objid AS bigint) = :lock AND objsubid = 1"
).bindparams(lock=_LOCK)


def steady_s() -> float:
    """Return seconds of a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Term:
    """What a controller holds while it leads. Safe to share between threads.

    Two things end it. In the database, a later fence: a transaction that began under this one is refused, however long
    its process slept. In this process, time: who has not renewed the lease for its length acts no more, so that what no
    database guards, Envoy's configuration above all, is left to whoever leads by then.
    """

    def __init__(
        self,
        *,
        fence: int,
        holder: str,
        lease_s: float,
        asked_at_s: float,
        clock: Callable[[], float] = steady_s,
    ) -> None:
        """Begin a term.

        Args:
            fence: Its number; each is above all before.
            holder: Who leads.
            lease_s: How long it lasts without renewal.
            asked_at_s: When the lease was asked for, by `clock`.
            clock: Seconds by a clock that only goes forward.
        """
        self.fence, self.holder, self.lease_s = fence, holder, lease_s
        self.ended = threading.Event()
        self.reason = ""
        self._clock, self._until_s = clock, asked_at_s + lease_s

    def extend(self, asked_at_s: float) -> None:
        """Go on until the lease's length after a renewal was asked for."""
        self._until_s = asked_at_s + self.lease_s

    def end(self, reason: str) -> None:
        """End the term; what ended it first stays its reason."""
        if not self.ended.is_set():
            self.reason = reason
            self.ended.set()

    @property
    def is_over(self) -> bool:
        """Whether it was ended, or not renewed in time."""
        if self._clock() >= self._until_s:
            self.end(f"the lease was not renewed for {self.lease_s:g} s")
        return self.ended.is_set()

    def check(self) -> None:
        """Act only behind this.

        Raises:
            NotLeaderError: If the term is over.
        """
        if self.is_over:
            raise NotLeaderError(self.holder)

    def hold(self, connection: Connection) -> None:
        """Hold a transaction to the term: until it ends, no later term begins.

        Raises:
            NotLeaderError: If a later one has begun, or this one is over.
        """
        self.check()
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock_shared(_LOCK)))
        # A statement of its own: it sees what was committed while the lock was waited for.
        query = sa.select(lease.c.holder).where(lease.c.name == NAME, lease.c.fence == self.fence)
        if connection.scalar(query) != self.holder:
            self.end("another controller leads")
            raise NotLeaderError(self.holder)


def hold_all_off(connection: Connection, *, patience_s: float) -> None:
    """Wait for the transactions of the term that is, and let no other begin before this one is committed.

    What is not done in time is ended. PostgreSQL itself ends a transaction in which nothing is said, but not one whose
    process stands still between two of many rows: these come as one message, for whose end it waits for ever.

    Args:
        connection: In a transaction.
        patience_s: Seconds to wait before others' transactions are ended, > 0.
    """
    hold = sa.select(sa.func.pg_advisory_xact_lock(_LOCK))
    try:
        with connection.begin_nested():
            connection.execute(sa.text(f"SET LOCAL lock_timeout = {math.ceil(patience_s * 1000)}"))
            connection.execute(hold)
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", "") != _LOCK_NOT_AVAILABLE:
            raise
        connection.execute(_END_HOLDERS)
        connection.execute(hold)
    else:
        connection.execute(sa.text("SET LOCAL lock_timeout TO DEFAULT"))
