"""The first schema: endpoints, variants, rollouts of one candidate, the ledger. `user_version` 1 of SQLite files."""

import sqlalchemy as sa
from alembic import op

from taxiway_serving.ledger.dialects import BIG, words

revision, down_revision = "0001", None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "endpoints",
        sa.Column("handle", words(64), primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "variants",
        sa.Column("handle", words(64), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "rollouts",
        sa.Column("id", words(250), primary_key=True),
        sa.Column("handle", words(64), nullable=False, index=True),
        sa.Column("started_at_s", sa.Float, nullable=False),
        sa.Column("has_ended", sa.Boolean, nullable=False, index=True),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_table(
        "units",
        sa.Column("rollout", words(250), primary_key=True),
        sa.Column("unit", words(300), primary_key=True),
        sa.Column("is_bad", sa.Boolean, nullable=False),
    )
    op.create_table(
        "entries",
        sa.Column("seq", BIG, primary_key=True, autoincrement=False),
        sa.Column("at_s", sa.Float, nullable=False),
        sa.Column("handle", words(64), nullable=False, index=True),
        sa.Column("kind", words(32), nullable=False),
        sa.Column("actor", words(250), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("previous", words(64), nullable=False),
        sa.Column("digest", words(64), nullable=False),
    )
    op.create_table(
        "cursors",
        sa.Column("source", words(64), primary_key=True),
        sa.Column("cursor", sa.Text, nullable=False),
    )
