"""The tables of state, history, messages and times, on either database. Those of rewards are in `reward_tables.py`.

Whoever changes a table adds a migration: a test compares what migrations make with what stands here.
"""

from typing import Final

import sqlalchemy as sa

from taxiway_serving.ledger.dialects import BIG, partial_index, words

meta: Final = sa.MetaData()

endpoints = sa.Table(
    "endpoints",
    meta,
    sa.Column("handle", words(64), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)
variants = sa.Table(
    "variants",
    meta,
    sa.Column("handle", words(64), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)
rollouts = sa.Table(
    "rollouts",
    meta,
    sa.Column("id", words(250), primary_key=True),
    sa.Column("handle", words(64), nullable=False, index=True),
    sa.Column("started_at_s", sa.Float, nullable=False),
    sa.Column("has_ended", sa.Boolean, nullable=False, index=True),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("group_name", words(250), nullable=True),
    # Who was asked for first, among those of one moment.
    sa.Column("place", BIG, nullable=False),
)
sa.Index("ix_rollouts_place", rollouts.c.place, unique=True)
met = sa.Table(
    "met",
    meta,
    sa.Column("rollout", words(250), primary_key=True),
    sa.Column("unit", words(300), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("bad", sa.Text, nullable=False),
)
entries = sa.Table(
    "entries",
    meta,
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
# What was live is asked for by a person who is in a hurry, of a ledger that is mostly looks.
partial_index("ix_entries_live", entries.c.handle, entries.c.seq, where="kind = 'live'")
cursors = sa.Table(
    "cursors",
    meta,
    sa.Column("source", words(64), primary_key=True),
    sa.Column("cursor", sa.Text, nullable=False),
)
outbox = sa.Table(
    "outbox",
    meta,
    sa.Column("place", BIG, primary_key=True),
    sa.Column("id", words(64), nullable=False, unique=True),
    sa.Column("event", words(64), nullable=False),
    sa.Column("at_s", sa.Float, nullable=False),
    sa.Column("due_at_s", sa.Float, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("has_failed", sa.Boolean, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)
timeline = sa.Table(
    "timeline",
    meta,
    sa.Column("handle", words(64), primary_key=True),
    sa.Column("width_s", sa.Integer, primary_key=True),
    sa.Column("at_s", BIG, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("requests", BIG, nullable=False),
    sa.Column("bad", BIG, nullable=False),
    sa.Column("client_errors", BIG, nullable=False),
    sa.Column("bins", sa.Text, nullable=False),
    sa.Column("weights_pct", sa.Float, nullable=False),
    sa.Column("weights", BIG, nullable=False),
    sa.Index("timeline_by_time", "width_s", "at_s"),
    sqlite_with_rowid=False,
)
timeline_seen = sa.Table(
    "timeline_seen",
    meta,
    sa.Column("request", BIG, primary_key=True, autoincrement=False),
    sa.Column("at_s", sa.Float, nullable=False, index=True),
)
# One row: who leads, and the number that its commits carry. Times are the database's own.
lease = sa.Table(
    "lease",
    meta,
    sa.Column("name", words(32), primary_key=True),
    sa.Column("holder", words(250), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("fence", BIG, nullable=False),
    sa.Column("expires_at_s", sa.Float, nullable=False),
)
