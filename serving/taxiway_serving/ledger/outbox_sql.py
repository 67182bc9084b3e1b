"""The outbox on SQLite, in the controller's own database: a decision and its deliveries are one transaction."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Connection, Row

from taxiway_serving.ledger.engine import open_engine
from taxiway_serving.ledger.outbox import Delivery, Due

MOST_FAILED: Final = 1000
"""So many of the deliveries that were given up are kept, the newest ones."""

_meta = sa.MetaData()
_outbox = sa.Table(
    "outbox",
    _meta,
    sa.Column("place", sa.Integer, primary_key=True),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("event", sa.String(64), nullable=False),
    sa.Column("at_s", sa.Float, nullable=False),
    sa.Column("due_at_s", sa.Float, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("has_failed", sa.Boolean, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)


def make_tables(connection: Connection) -> None:
    """Make the outbox where it is missing."""
    _meta.create_all(connection)


def enqueue(connection: Connection, deliveries: Iterable[Delivery]) -> None:
    """Add deliveries within a transaction of the caller's; one that is there already stays as it is."""
    for delivery in deliveries:
        row = {
            "id": delivery.id,
            "event": delivery.event,
            "at_s": delivery.at_s,
            "due_at_s": delivery.at_s,
            "tries": 0,
            "has_failed": False,
            "body": json.dumps(delivery.body),
        }
        connection.execute(insert(_outbox).values(**row).on_conflict_do_nothing())


class SqlOutbox:
    """`Outbox` on one SQLite file. Safe to call from several threads."""

    def __init__(self, url: str) -> None:
        """Open the outbox and make it where it is missing.

        Args:
            url: SQLAlchemy address of the controller's database, `sqlite:///` and a path.

        Raises:
            InvalidSpecError: If it is another database.
        """
        self._engine = open_engine(url)
        try:
            with self._engine.begin() as connection:
                make_tables(connection)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the file back."""
        self._engine.dispose()

    def due(self, now_s: float, *, limit: int) -> Sequence[Due]:
        query = sa.select(_outbox).where(_outbox.c.has_failed.is_(False), _outbox.c.due_at_s <= now_s)
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(_outbox.c.place).limit(limit)).all()
        return [Due(delivery=_delivery(row), tries=row.tries) for row in rows]

    def delivered(self, ids: Sequence[str]) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.delete(_outbox).where(_outbox.c.id.in_(ids)))

    def postponed(self, delivery_id: str, *, until_s: float) -> None:
        self._tried(delivery_id, due_at_s=until_s)

    def given_up(self, delivery_id: str) -> None:
        self._tried(delivery_id, has_failed=True)
        newest = sa.select(_outbox.c.place).where(_outbox.c.has_failed.is_(True))
        newest = newest.order_by(_outbox.c.place.desc()).limit(MOST_FAILED)
        older = sa.delete(_outbox).where(_outbox.c.has_failed.is_(True), _outbox.c.place.not_in(newest))
        with self._engine.begin() as connection:
            connection.execute(older)

    def failed(self) -> Sequence[Delivery]:
        query = sa.select(_outbox).where(_outbox.c.has_failed.is_(True)).order_by(_outbox.c.place)
        with self._engine.connect() as connection:
            return [_delivery(row) for row in connection.execute(query)]

    def _tried(self, delivery_id: str, **values: Any) -> None:
        update = sa.update(_outbox).where(_outbox.c.id == delivery_id)
        with self._engine.begin() as connection:
            connection.execute(update.values(tries=_outbox.c.tries + 1, **values))


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(id=row.id, event=row.event, at_s=row.at_s, body=json.loads(row.body))
