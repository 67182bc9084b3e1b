"""The second schema: several candidates, groups. `user_version` 2 of SQLite files; bodies are upgraded when read."""

import sqlalchemy as sa
from alembic import op

from taxiway_serving.ledger.dialects import words

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    """Remember units by version and by metric; what was remembered before is learnt anew."""
    op.add_column("rollouts", sa.Column("group_name", words(250), nullable=True))
    op.drop_table("units")
    op.create_table(
        "met",
        sa.Column("rollout", words(250), primary_key=True),
        sa.Column("unit", words(300), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("bad", sa.Text, nullable=False),
        if_not_exists=True,
    )
