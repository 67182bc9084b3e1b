"""What a product reports about answers it was given: the values, and which of them are refused. Pure.

A request that the split gave to a version is an *exposure* of its unit. What the product says about that request later
is an *event* of a metric. What events come to is counted in `rewards.py` and kept by `ledger/rewards.py`; clocks, files
and HTTP are elsewhere.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from taxiway_serving.errors import InvalidSpecError

How = Literal["first", "max", "sum"]
"""How several events of one exposure become one value: the earliest, the largest, or all added up."""

METRIC_PATTERN: Final = r"^[a-z][a-z0-9_]{0,62}$"
BUILT_IN: Final = frozenset({"errors", "client_errors", "latency", "latency_slo", "schema"})
"""Metrics that the gateway's log counts; nobody reports them."""
MOST_EVENTS: Final = 1000
LONGEST_ID: Final = 128
LARGEST_VALUE: Final = 1e12
SKEW_S: Final = 60.0
"""The product's clock may be this far behind the gateway's: a reward from before its request by more is no reward."""
FUTURE_S: Final = 300.0
SESSION_S: Final = 60.0
"""What a user asks for within this time of an exposure belongs to it: one who reloads all day is not all evidence."""
NOT_DRAWN: Final = 0.0
"""Share of a version that nobody drew: its unit came by a header, a cookie or a list."""
DEFAULT_WINDOW_S: Final = 3600.0
LONGEST_WINDOW_S: Final = 30 * 86_400.0
_METRIC: Final = re.compile(METRIC_PATTERN)
_FIELDS: Final = ("request_id", "metric", "value", "event_id", "event_at_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One request that was given to a version.

    Attributes:
        request_id: The request's id, as its answer's `x-request-id` says.
        handle: The handle.
        version: The version that it was assigned to, also where another one answered for it.
        unit: Who asked, as in `Attempt.unit`.
        at_s: When.
        share: Probability with which its unit was given this version then, above 0 up to 1; `NOT_DRAWN` if it was not
            left to chance, so that it can be compared with nothing.
    """

    request_id: str
    handle: str
    version: int
    unit: str
    at_s: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that a product reports about a request.

    Attributes:
        request_id: Which request.
        metric: What is counted, such as `click` or `revenue`.
        value: How much of it; 1.0 and 0.0 for yes and no.
        event_id: Tells several events of one metric about one request apart; "" where there is only one.
        event_at_s: When it happened, in seconds since the epoch.
    """

    request_id: str
    metric: str
    value: float
    event_id: str = ""
    event_at_s: float

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes the event the same event again."""
        return self.request_id, self.metric, self.event_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A reported metric, and how a handle counts it.

    Attributes:
        name: Its name in the events.
        window_s: Events count up to so long after their request; silence until then is a zero. Above 0, up to 30 days.
        how: How several events of one exposure become one value.
    """

    name: str
    window_s: float = DEFAULT_WINDOW_S
    how: How = "first"

    def __post_init__(self) -> None:
        faults = [*_name_faults(self.name)]
        if not 0 < self.window_s <= LONGEST_WINDOW_S:
            faults.append(
                f"window_s: must be above 0 and at most {LONGEST_WINDOW_S:g}, got {self.window_s!r}"
            )
        if self.how not in get_args(How):
            faults.append(f"how: must be one of {', '.join(get_args(How))}, got {self.how!r}")
        if faults:
            raise InvalidSpecError(tuple(faults), "metric")

    def takes(self, delay_s: float) -> bool:
        """Return whether an event so long after its request counts."""
        return -SKEW_S <= delay_s <= self.window_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """An event whose request is known.

    Attributes:
        event: What was reported.
        received_at_s: When it came first.
        exposure: The request that it is about.
        opening: Id of the request that opened the exposure: this one's own, or an earlier one of the same session.
        opened_at_s: When that was.
    """

    event: Event
    received_at_s: float
    exposure: Exposure
    opening: str
    opened_at_s: float

    @property
    def delay_s(self) -> float:
        """Seconds from the request to the event; below 0 if the clocks differ."""
        return self.event.event_at_s - self.exposure.at_s

    @property
    def cell(self) -> tuple[int, int]:
        """Where the exposure is counted: its version, and the second in which it was opened."""
        return self.exposure.version, math.floor(self.opened_at_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributed:
    """One value that was newly attributed, for a guard to look at.

    Attributes:
        place: Its place in the order of attribution; ask for what comes after it next time.
        is_first: Whether it is its unit's first of this metric since the moment that was asked for. Only those are
            independent of each other.
    """

    place: int
    request_id: str
    version: int
    unit: str
    share: float
    value: float
    at_s: float
    event_at_s: float
    is_first: bool


def events_from_json(value: Any, now_s: float) -> tuple[Event, ...]:
    """Return the events that a caller sent: one object, or a list of them.

    Args:
        value: Parsed JSON. `event_id` may be left out; `event_at_s`, for something that happens now, too.
        now_s: The time.

    Raises:
        InvalidSpecError: If anything is wrong; every fault of every event is named.
    """
    given = value if isinstance(value, list) else [value]
    _check_number(len(given))
    events, faults = [], []
    for number, each in enumerate(given, 1):
        event, own = _event(each, now_s)
        events.append(event)
        faults += [f"event {number}: {fault}" for fault in own] if isinstance(value, list) else own
    if faults:
        raise InvalidSpecError(tuple(faults), "feedback")
    return tuple(events)


def event_faults(event: Event, now_s: float) -> tuple[str, ...]:
    """Return everything that is wrong with an event, each as `field: rule, what it got`.

    Args:
        event: What came in.
        now_s: The time.
    """
    faults = list(_id_faults("request_id", event.request_id, least=1))
    faults += _id_faults("event_id", event.event_id, least=0)
    faults += _name_faults(event.metric, "metric")
    if event.metric in BUILT_IN:
        faults.append(
            f"metric: {event.metric} is counted from the gateway's log and cannot be reported; choose another name"
        )
    if not (math.isfinite(event.value) and abs(event.value) <= LARGEST_VALUE):
        faults.append(
            f"value: must be a number from -{LARGEST_VALUE:g} to {LARGEST_VALUE:g}, got {event.value!r}"
        )
    if not (math.isfinite(event.event_at_s) and event.event_at_s >= 0):
        faults.append(f"event_at_s: must be seconds since the epoch, got {event.event_at_s!r}")
    elif event.event_at_s > now_s + FUTURE_S:
        ahead_s = event.event_at_s - now_s
        faults.append(
            f"event_at_s: lies {ahead_s:.0f} s in the future, at most {FUTURE_S:g} s; set the sender's clock"
        )
    return tuple(faults)


def check_events(events: Sequence[Event], now_s: float) -> None:
    """Refuse a call that has any fault.

    Args:
        events: What came in, 1 to 1,000.
        now_s: The time.

    Raises:
        InvalidSpecError: With every fault of every event.
    """
    _check_number(len(events))
    several = len(events) > 1
    faults = tuple(
        f"event {number}: {fault}" if several else fault
        for number, event in enumerate(events, 1)
        for fault in event_faults(event, now_s)
    )
    if faults:
        raise InvalidSpecError(faults, "feedback")


def _check_number(number: int) -> None:
    if not 1 <= number <= MOST_EVENTS:
        fault = f"takes 1 to {MOST_EVENTS:,} events at once, got {number:,}; send them in several calls"
        raise InvalidSpecError((fault,), "feedback")


def conflicts(events: Iterable[Event], known: Mapping[tuple[str, str, str], float]) -> tuple[str, ...]:
    """Return a sentence for each event that says another value than was said under its ids before.

    Args:
        events: What came in.
        known: Value by key of what is stored already.
    """
    said, found = dict(known), []
    for event in events:
        before = said.setdefault(event.key, event.value)
        if before != event.value:
            which = f"{event.metric} of request {event.request_id}, event_id {event.event_id!r}"
            found.append(f"{which}: is {before!r} already, got {event.value!r}")
    return tuple(found)


def joins(exposure: Exposure, opened_at_s: float, *, session_s: float = SESSION_S) -> bool:
    """Return whether a request belongs to an exposure of the same unit and version that was opened then."""
    return not is_single(exposure.unit) and abs(exposure.at_s - opened_at_s) < session_s


def is_single(unit: str) -> bool:
    """Return whether a unit is one request of somebody unknown, which never comes again."""
    return unit.startswith("request:")


def _id_faults(name: str, text: object, *, least: int) -> list[str]:
    is_text = (
        isinstance(text, str)
        and least <= len(text) <= LONGEST_ID
        and all("!" <= char <= "~" for char in text)
    )
    rule = f"must be {least} to {LONGEST_ID} printable ASCII characters without spaces"
    return [] if is_text else [f"{name}: {rule}, got {text!r}"]


def _name_faults(name: object, what: str = "name") -> list[str]:
    is_name = isinstance(name, str) and _METRIC.fullmatch(name)
    return [] if is_name else [f"{what}: must match {METRIC_PATTERN}, such as click, got {name!r}"]


def _event(value: Any, now_s: float) -> tuple[Event, list[str]]:
    """Return an event and what is wrong with it; what cannot be understood is replaced by something harmless."""
    if not isinstance(value, Mapping):
        return Event(request_id="-", metric="-", value=0.0, event_at_s=now_s), [
            f"must be an object with {', '.join(_FIELDS)}, got {value!r:.100}"
        ]
    faults = [
        f"{name}: no such field; there are {', '.join(_FIELDS)}" for name in sorted(set(value) - set(_FIELDS))
    ]
    event = Event(
        request_id=value.get("request_id", ""),
        metric=value.get("metric", ""),
        value=_number(value.get("value"), "value", faults),
        event_id=value.get("event_id", ""),
        event_at_s=_number(value.get("event_at_s", now_s), "event_at_s", faults),
    )
    return event, [*faults, *event_faults(event, now_s)]


def _number(value: object, name: str, faults: list[str]) -> float:
    try:
        if isinstance(value, int | float):
            return float(value)
    except OverflowError:
        # A whole number beyond what a float holds: refused as what is no number.
        pass
    faults.append(f"{name}: must be a number, got {value!r:.100}")
    return 0.0
