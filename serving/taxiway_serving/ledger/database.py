"""A store's database: opened durably, refused in words, written by one leader at a time. No table is known here."""

import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as NoRoomError

from taxiway_serving.errors import InvalidSpecError, TransportError
from taxiway_serving.ledger.dialects import POSTGRESQL, SQLITE
from taxiway_serving.ledger.migrating import bring_up_to_date
from taxiway_serving.ledger.term import Term

DRIVER: Final = "postgresql+psycopg"
CONNECT_S: Final = 5
BUSY_S: Final = 20.0
"""How long one waits for a file that another process has locked."""
BUSY_PAUSE_S: Final = 0.01
_PRIMARY: Final = 0xFF
"""Part of SQLite's error codes that says what it is; the rest says of which kind, such as a recovery under way."""
IDLE_S: Final = 5.0
"""A leader that stops in the middle of a transaction keeps others out; after this PostgreSQL ends that transaction."""
SILENCE: Final = {
    "keepalives_idle": 3,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""A host of a database that is gone says nothing: a connection to it is given up after some 10 s, and not after a
quarter of an hour. As libpq wants them: in seconds, and the last in milliseconds."""


class Database:
    """Transactions on one database. Safe to call from several threads.

    With a term, every transaction that writes is the term's: it is refused, whole, once another controller leads.
    """

    def __init__(self, url: str, *, term: Term | None = None) -> None:
        """Open the database, and bring its tables up to date.

        Args:
            url: SQLAlchemy address: `sqlite:///` and a path, or `postgresql+psycopg://…`.
            term: In which one writes; None writes whenever it likes.

        Raises:
            InvalidSpecError: If it is another database, or tables of a newer Taxiway.
            TransportError: If it cannot be reached.
        """
        self._term = term
        self._engine = open_engine(url, idle_s=term.lease_s if term else IDLE_S)
        self._pool, self._is_closed = self._engine.pool, False
        try:
            with _told():
                bring_up_to_date(self._engine)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give file and connections back; those that other threads have in use, as soon as they are done."""
        self._is_closed = True
        self._pool.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read.

        Raises:
            TransportError: If the database cannot be asked now.
        """
        with _told(), self._open(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Write, whole or not at all.

        Raises:
            NotLeaderError: If the term has ended; nothing is stored.
            TransportError: If the database cannot be written now. In a term, it ends with it: nobody knows whether the
                last transaction was stored, and the next term reads that from the tables.
        """
        try:
            with _told(), self._open(), self._engine.begin() as connection:
                if self._term is not None:
                    self._term.hold(connection)
                yield connection
        except TransportError as error:
            if self._term is not None:
                self._term.end(str(error))
            raise

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Leave no connection open that was in use while the database was closed."""
        try:
            yield
        finally:
            if self._is_closed:
                self._pool.dispose()


def open_engine(url: str, *, idle_s: float = IDLE_S) -> Engine:
    """Return an engine whose commits survive a crash of process and machine; its tables are not looked at.

    Args:
        url: SQLAlchemy address.
        idle_s: Seconds after which PostgreSQL ends a transaction in which nothing is said.

    Raises:
        InvalidSpecError: If it is no address, or of another database. A password in it is not shown.
    """
    parsed = _parsed(url)
    backend = parsed.get_backend_name()
    if backend == SQLITE and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_S}, hide_parameters=True)
        sa.event.listen(engine, "connect", _make_durable)
        return engine
    if backend == POSTGRESQL:
        return _open_postgresql(parsed.set(drivername=DRIVER), idle_s)
    raise _unknown(parsed.render_as_string(hide_password=True))


def _open_postgresql(url: URL, idle_s: float) -> Engine:
    options = f"-c idle_in_transaction_session_timeout={math.ceil(idle_s * 1000)}"
    arguments = {
        "connect_timeout": CONNECT_S,
        "options": options,
        "application_name": "taxiway",
        **{name: value for name, value in SILENCE.items() if name not in url.query},
    }
    try:
        return sa.create_engine(url, connect_args=arguments, pool_pre_ping=True, hide_parameters=True)
    except ModuleNotFoundError as error:
        fault = "psycopg is not installed; install taxiway-serving[postgresql]"
        raise InvalidSpecError((fault,), "database") from error


def _parsed(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        # What could not be read may be a password; the cause would show it.
        raise _unknown("something that is no address") from None


def _unknown(got: str) -> InvalidSpecError:
    fault = f"got {got}; this version keeps its state in sqlite:///FILE or {DRIVER}://USER@HOST/NAME"
    return InvalidSpecError((fault,), "database")


@contextmanager
def _told() -> Iterator[None]:
    """Tell trouble with the database as what it is to callers: worth another try."""
    try:
        yield
    except (OperationalError, InterfaceError, InternalError, NoRoomError) as error:
        raise TransportError(
            "the controller's database", f"nothing is known to be stored: {_said(error)}"
        ) from error


def _said(error: SQLAlchemyError) -> str:
    told = error.orig if isinstance(error, DBAPIError) else "every connection is in use"
    return " ".join(str(told).split())


def _make_durable(connection: sqlite3.Connection, _record: Any) -> None:
    _keep_a_log(connection)
    connection.execute("PRAGMA synchronous=FULL")


def _keep_a_log(connection: sqlite3.Connection) -> None:
    """Have changes logged ahead. SQLite waits for others' locks everywhere but here, so the wait is ours."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(BUSY_PAUSE_S)
