"""The outbox in the controller's own database: a decision and its deliveries are one transaction."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from taxiway_serving.ledger.database import Database
from taxiway_serving.ledger.dialects import inserting
from taxiway_serving.ledger.outbox import Delivery, Due
from taxiway_serving.ledger.tables import outbox
from taxiway_serving.ledger.term import Term

MOST_FAILED: Final = 1000
"""So many of the deliveries that were given up are kept, the newest ones."""


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
        connection.execute(inserting(connection, outbox).values(**row).on_conflict_do_nothing())


class SqlOutbox:
    """`Outbox` on one database. Safe to call from several threads."""

    def __init__(self, url: str, *, term: Term | None = None) -> None:
        """Open the outbox, and bring its tables up to date.

        Args:
            url: SQLAlchemy address of the controller's database.
            term: In which one writes; None writes whenever it likes.

        Raises:
            InvalidSpecError: If it is another database, or tables of a newer Taxiway.
            TransportError: If it cannot be reached.
        """
        self._database = Database(url, term=term)

    def close(self) -> None:
        """Give file and connections back."""
        self._database.close()

    def due(self, now_s: float, *, limit: int) -> Sequence[Due]:
        query = sa.select(outbox).where(outbox.c.has_failed.is_(False), outbox.c.due_at_s <= now_s)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(outbox.c.place).limit(limit)).all()
        return [Due(delivery=_delivery(row), tries=row.tries) for row in rows]

    def delivered(self, ids: Sequence[str]) -> None:
        with self._database.writing() as connection:
            connection.execute(sa.delete(outbox).where(outbox.c.id.in_(ids)))

    def postponed(self, delivery_id: str, *, until_s: float) -> None:
        self._tried(delivery_id, due_at_s=until_s)

    def given_up(self, delivery_id: str) -> None:
        self._tried(delivery_id, has_failed=True)
        newest = sa.select(outbox.c.place).where(outbox.c.has_failed.is_(True))
        newest = newest.order_by(outbox.c.place.desc()).limit(MOST_FAILED)
        older = sa.delete(outbox).where(outbox.c.has_failed.is_(True), outbox.c.place.not_in(newest))
        with self._database.writing() as connection:
            connection.execute(older)

    def failed(self) -> Sequence[Delivery]:
        query = sa.select(outbox).where(outbox.c.has_failed.is_(True)).order_by(outbox.c.place)
        with self._database.reading() as connection:
            return [_delivery(row) for row in connection.execute(query)]

    def _tried(self, delivery_id: str, **values: Any) -> None:
        update = sa.update(outbox).where(outbox.c.id == delivery_id)
        with self._database.writing() as connection:
            connection.execute(update.values(tries=outbox.c.tries + 1, **values))


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(id=row.id, event=row.event, at_s=row.at_s, body=json.loads(row.body))
