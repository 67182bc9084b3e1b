"""What became of an event that was reported: its receipt. Rows come in, values go out; nothing is read or written."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from taxiway_serving.feedback import Event, Exposure, Metric
from taxiway_serving.ledger import reward_tables as tables
from taxiway_serving.ledger.reward_queries import Found, Key

Status = Literal["attributed", "late", "pending", "unknown", "duplicate"]
MetricOf = Callable[[str, str], Metric]
"""How a handle counts a metric."""

UNKNOWN_AFTER_S: Final = 60.0
"""The gateway's log shows a request within a second of its end; an id that it has not shown by then is none of its."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of an event.

    Attributes:
        event: The event, as it is stored.
        status: `attributed` to its request's version; `late`, stored and not counted; `pending` until the gateway's
            log shows its request; `unknown` when that did not happen; `duplicate` of one that was stored before.
        exposure: Its request, once the gateway's log has shown it.
        received_at_s: When it came first.
    """

    event: Event
    status: Status
    exposure: Exposure | None
    received_at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What is known of one request: its exposure, and what was reported about it."""

    exposure: Exposure | None
    receipts: tuple[Receipt, ...]


def receipt_of(row: Found, metric_of: MetricOf, *, now_s: float) -> Receipt:
    """Return the receipt of an event's row."""
    return Receipt(
        event=tables.event_of(row),
        status=_status(row, metric_of, now_s),
        exposure=None if row["place"] is None else tables.exposure_of(row),
        received_at_s=row["received_at_s"],
    )


def receipts_of(
    events: Sequence[Event],
    stored: Mapping[Key, Found],
    fresh: Mapping[Key, Found],
    metric_of: MetricOf,
    *,
    now_s: float,
) -> Iterator[Receipt]:
    """Yield the receipt of each event of a call.

    Args:
        events: As they came.
        stored: Rows that were there before.
        fresh: Rows that this call stored.
        metric_of: How a handle counts a metric.
        now_s: The time.
    """
    told = set(stored)
    for event in events:
        receipt = receipt_of(fresh.get(event.key) or stored[event.key], metric_of, now_s=now_s)
        yield replace(receipt, status="duplicate") if event.key in told else receipt
        told.add(event.key)


def _status(row: Found, metric_of: MetricOf, now_s: float) -> Status:
    if row["place"] is None:
        return "unknown" if row["received_at_s"] <= now_s - UNKNOWN_AFTER_S else "pending"
    metric = metric_of(row["handle"], row["metric"])
    return "attributed" if metric.takes(row["event_at_s"] - row["at_s"]) else "late"
