"""The third schema: every table is Alembic's, rollouts keep their order themselves, and a lease says who leads.

Messages, times and rewards were made by whichever store was opened first, so some files have them and others do not.
"""

import sqlalchemy as sa
from alembic import op

from taxiway_serving.ledger.dialects import BIG, SQLITE, words

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    """Make what is missing, and number the rollouts in the order in which they were asked for."""
    _number_rollouts()
    _index("ix_entries_live", "entries", "handle", "seq", where="kind = 'live'")
    op.create_table(
        "lease",
        sa.Column("name", words(32), primary_key=True),
        sa.Column("holder", words(250), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("fence", BIG, nullable=False),
        sa.Column("expires_at_s", sa.Float, nullable=False),
    )
    _make_outbox()
    _make_timeline()
    _make_exposures()
    _make_events()


def _number_rollouts() -> None:
    is_sqlite = op.get_context().dialect.name == SQLITE
    op.add_column("rollouts", sa.Column("place", BIG, nullable=True))
    rollouts = sa.table("rollouts", *(sa.column(name) for name in ("id", "started_at_s", "place", "rowid")))
    order = [rollouts.c.rowid] if is_sqlite else [rollouts.c.started_at_s, rollouts.c.id]
    number = sa.func.row_number().over(order_by=order).label("number")
    numbered = sa.select(rollouts.c.id, number).subquery()
    op.execute(sa.update(rollouts).values(place=numbered.c.number).where(numbered.c.id == rollouts.c.id))
    with op.batch_alter_table("rollouts") as altered:
        altered.alter_column("place", existing_type=BIG, nullable=False)
    op.create_index("ix_rollouts_place", "rollouts", ["place"], unique=True)


def _make_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("place", BIG, primary_key=True),
        sa.Column("id", words(64), nullable=False, unique=True),
        sa.Column("event", words(64), nullable=False),
        sa.Column("at_s", sa.Float, nullable=False),
        sa.Column("due_at_s", sa.Float, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("has_failed", sa.Boolean, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        if_not_exists=True,
    )


def _make_timeline() -> None:
    op.create_table(
        "timeline",
        sa.Column("handle", words(64), primary_key=True),
        sa.Column("width_s", sa.Integer, primary_key=True),
        sa.Column("at_s", BIG, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        *(sa.Column(name, BIG, nullable=False) for name in ("requests", "bad", "client_errors")),
        sa.Column("bins", sa.Text, nullable=False),
        sa.Column("weights_pct", sa.Float, nullable=False),
        sa.Column("weights", BIG, nullable=False),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    _index("timeline_by_time", "timeline", "width_s", "at_s")
    op.create_table(
        "timeline_seen",
        sa.Column("request", BIG, primary_key=True, autoincrement=False),
        sa.Column("at_s", sa.Float, nullable=False),
        if_not_exists=True,
    )
    _index("ix_timeline_seen_at_s", "timeline_seen", "at_s")


def _make_exposures() -> None:
    op.create_table(
        "exposures",
        sa.Column("request_id", words(128), primary_key=True),
        sa.Column("handle", words(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("unit", words(300), nullable=False),
        sa.Column("at_s", sa.Float, nullable=False),
        sa.Column("share", sa.Float, nullable=False),
        sa.Column("opening", words(128), nullable=False),
        sa.Column("opened_at_s", sa.Float, nullable=False),
        if_not_exists=True,
    )
    _index("exposures_by_time", "exposures", "handle", "at_s")
    where = "unit NOT LIKE 'request:%'"
    _index("exposures_by_unit", "exposures", "handle", "unit", "opened_at_s", where=where)
    op.create_table(
        "exposure_counts",
        sa.Column("handle", words(64), primary_key=True),
        sa.Column("second", BIG, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("exposures", BIG, nullable=False),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )
    op.create_table(
        "exposure_shares",
        sa.Column("handle", words(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("at_s", sa.Float, primary_key=True),
        sa.Column("has_share", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
        if_not_exists=True,
    )


def _make_events() -> None:
    op.create_table(
        "feedback_events",
        sa.Column("request_id", words(128), primary_key=True),
        sa.Column("metric", words(64), primary_key=True),
        sa.Column("event_id", words(128), primary_key=True),
        *(sa.Column(name, sa.Float, nullable=False) for name in ("value", "event_at_s", "received_at_s")),
        sa.Column("place", BIG, unique=True),
        sa.Column("handle", words(64)),
        sa.Column("version", sa.Integer),
        sa.Column("unit", words(300)),
        sa.Column("at_s", sa.Float),
        sa.Column("share", sa.Float),
        sa.Column("opening", words(128)),
        sa.Column("opened_at_s", sa.Float),
        if_not_exists=True,
    )
    _index("feedback_by_time", "feedback_events", "handle", "metric", "opened_at_s")
    _index("feedback_by_unit", "feedback_events", "handle", "metric", "unit", "place")
    _index("feedback_pending", "feedback_events", "received_at_s", where="place IS NULL")
    _index("feedback_by_age", "feedback_events", "received_at_s")
    op.create_table(
        "feedback_metrics",
        sa.Column("handle", words(64), primary_key=True),
        sa.Column("name", words(64), primary_key=True),
        sa.Column("window_s", sa.Float, nullable=False),
        sa.Column("how", words(8), nullable=False),
        sa.Column("is_followed", sa.Boolean, nullable=False),
        if_not_exists=True,
    )


def _index(name: str, table: str, *columns: str, where: str | None = None) -> None:
    condition = sa.text(where) if where else None
    op.create_index(
        name,
        table,
        list(columns),
        sqlite_where=condition,
        postgresql_where=condition,
        if_not_exists=True,
    )
