"""The tables of exposures and reported events, and how their rows become values. Nothing is decided here."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from taxiway_serving.feedback import Event, Exposure, Metric, Reported
from taxiway_serving.ledger.dialects import BIG, partial_index, words
from taxiway_serving.ledger.tables import meta

exposures = sa.Table(
    "exposures",
    meta,
    sa.Column("request_id", words(128), primary_key=True),
    sa.Column("handle", words(64), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("unit", words(300), nullable=False),
    sa.Column("at_s", sa.Float, nullable=False),
    sa.Column("share", sa.Float, nullable=False),
    sa.Column("opening", words(128), nullable=False),
    sa.Column("opened_at_s", sa.Float, nullable=False),
    sa.Index("exposures_by_time", "handle", "at_s"),
)
# Only users and cookies come again.
RETURNING_UNIT = "unit NOT LIKE 'request:%'"
"""Written out in queries as it stands in the index, or neither database would know that the index holds them all."""
partial_index(
    "exposures_by_unit",
    exposures.c.handle,
    exposures.c.unit,
    exposures.c.opened_at_s,
    where=RETURNING_UNIT,
)

counts = sa.Table(
    "exposure_counts",
    meta,
    sa.Column("handle", words(64), primary_key=True),
    sa.Column("second", BIG, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("exposures", BIG, nullable=False),
    sqlite_with_rowid=False,
)

events = sa.Table(
    "feedback_events",
    meta,
    sa.Column("request_id", words(128), primary_key=True),
    sa.Column("metric", words(64), primary_key=True),
    sa.Column("event_id", words(128), primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("event_at_s", sa.Float, nullable=False),
    sa.Column("received_at_s", sa.Float, nullable=False),
    # What is known of its request, from the moment on at which the gateway's log has shown that.
    sa.Column("place", BIG, unique=True),
    sa.Column("handle", words(64)),
    sa.Column("version", sa.Integer),
    sa.Column("unit", words(300)),
    sa.Column("at_s", sa.Float),
    sa.Column("share", sa.Float),
    sa.Column("opening", words(128)),
    sa.Column("opened_at_s", sa.Float),
    sa.Index("feedback_by_time", "handle", "metric", "opened_at_s"),
    sa.Index("feedback_by_unit", "handle", "metric", "unit", "place"),
)
partial_index("feedback_pending", events.c.received_at_s, where="place IS NULL")
sa.Index("feedback_by_age", events.c.received_at_s)

metrics = sa.Table(
    "feedback_metrics",
    meta,
    sa.Column("handle", words(64), primary_key=True),
    sa.Column("name", words(64), primary_key=True),
    sa.Column("window_s", sa.Float, nullable=False),
    sa.Column("how", words(8), nullable=False),
    sa.Column("is_followed", sa.Boolean, nullable=False),
)

# When a version of a handle was given a share of the split, and when it was left without one.
shares = sa.Table(
    "exposure_shares",
    meta,
    sa.Column("handle", words(64), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("at_s", sa.Float, primary_key=True),
    sa.Column("has_share", sa.Boolean, nullable=False),
    sqlite_with_rowid=False,
)

KNOWN_OF_REQUEST = ("handle", "version", "unit", "at_s", "share", "opening", "opened_at_s")


def event_of(row: Mapping[Any, Any]) -> Event:
    """Return the event that a row holds."""
    return Event(**{name: row[name] for name in ("request_id", "metric", "value", "event_id", "event_at_s")})


def exposure_of(row: Mapping[Any, Any]) -> Exposure:
    """Return the exposure that a row of either table holds."""
    return Exposure(
        **{name: row[name] for name in ("request_id", "handle", "version", "unit", "at_s", "share")}
    )


def reported_of(row: Mapping[Any, Any]) -> Reported:
    """Return the event of a row whose request is known."""
    return Reported(
        event=event_of(row),
        received_at_s=row["received_at_s"],
        exposure=exposure_of(row),
        opening=row["opening"],
        opened_at_s=row["opened_at_s"],
    )


def metric_of(row: Mapping[Any, Any]) -> Metric:
    """Return the metric that a row defines."""
    return Metric(name=row["name"], window_s=row["window_s"], how=row["how"])
