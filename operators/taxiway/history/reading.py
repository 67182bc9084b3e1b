"""Reads an endpoint's history from the controller: what the ledger says of its split, and what was measured meanwhile.

Two sources, one clock. The ledger holds every split that was wanted and every split that was read back from Envoy,
exact to the controller's tick; the timeline holds requests, failures, latencies and rewards in buckets. Nothing is
joined here, which `table.py` does, and nothing is written.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from taxiway.arguments import typed
from taxiway.errors import NotFoundError
from taxiway.settings import Settings
from taxiway_serving.client import Controller

Shares = Mapping[int, float]
"""Version to its share of live traffic in per cent; one that has none is left out."""

PAGE = 10_000
"""Entries that the controller gives in one answer, at the most."""
STEPS_S = (10, 60, 300, 3_600, 86_400)
MOST_BUCKETS = 1_000
GIVEN_UP = ("abort", "superseded")
"""What a person or a newer rollout does to one; that its traffic goes back then is nobody's verdict."""
MARKED = ("promote", "complete", "roll back", "inconclusive")
"""Verdicts that end or stop a rollout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The split from one moment on.

    Attributes:
        at_s: Seconds since the epoch.
        wanted: What the controller asked Envoy for; None before it asked for anything.
        observed: What was read back from Envoy; None while nothing was.
    """

    at_s: float
    wanted: Shares | None
    observed: Shares | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that was done or decided; looks that decided to wait are not among them.

    Attributes:
        seq: Place in the ledger.
        at_s: Seconds since the epoch.
        kind: `deployed`, `asked`, `rollout`, `decision`, `live`, `verb`, `failed`, `retired`, `stopped`.
        verdict: Of a decision: `advance`, `shift`, `promote`, `complete`, `roll back`, `inconclusive`; of a verb, that
            verb.
        version: Model version that it is about, where it is about one.
        rollout: Id of its rollout, where it is part of one.
        actor: Who: a person, a DAG run, or `controller`.
        reason: Why, in words.
        evidence: The readings that a decision rests on: guard, answer, log_e, threshold, reason.
    """

    seq: int
    at_s: float
    kind: str
    verdict: str | None
    version: int | None
    rollout: str | None
    actor: str
    reason: str
    evidence: tuple[Mapping[str, Any], ...]

    @property
    def title(self) -> str:
        return self.verdict or self.kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one query of Prometheus or SQL gave for one version.

    Attributes:
        at_s: Seconds since the epoch.
        version: The version.
        metric: Name of the metric.
        value: The value.
    """

    at_s: float
    version: int
    metric: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What happened to one endpoint in a span of time.

    Attributes:
        handle: The endpoint.
        since_s: Beginning of the span, a whole multiple of `step_s`.
        until_s: Its end.
        step_s: Width of the timeline's buckets, in whole seconds.
        points: The split, one point for each moment at which it changed.
        events: What was done and decided, in order.
        timeline: Rows as the controller gives them: `at_s`, `width_s` (never above `step_s`), `version`, `requests`,
            `bad`, `client_errors`, `p50_ms`, `p99_ms`, `rewards`.
        measured: Values of queries, in order.
        lineage: What each version was made of, as far as the ledger says: `dataset`, `dataset_hash` and others.
    """

    handle: str
    since_s: float
    until_s: float
    step_s: int
    points: tuple[Point, ...]
    events: tuple[Event, ...]
    timeline: tuple[Mapping[str, Any], ...]
    measured: tuple[Measurement, ...] = ()
    lineage: Mapping[int, Mapping[str, str]] = field(default_factory=dict)


@typed
def read(
    handle: str,
    settings: Settings,
    *,
    since_s: float | None = None,
    until_s: float | None = None,
    step_s: int | None = None,
) -> History:
    """Read an endpoint's history; its rollouts may have ended or be under way.

    Args:
        handle: The endpoint.
        settings: Where the controller is.
        since_s: Beginning of the span, seconds since the epoch; None is the endpoint's first entry.
        until_s: End of the span; None is now.
        step_s: Width of the buckets that requests are counted in, a multiple of 10 s; None takes the narrowest of
            10 s, 1 minute, 5 minutes, 1 hour and 1 day that gives at most 1,000 of them. Where the controller has
            added old buckets up to wider ones, all are as wide as the widest.

    Raises:
        NotFoundError: If the controller knows nothing of the endpoint up to the end of the span.
        InvalidSpecError: If the step is not one, or gives more buckets than the controller answers at once.
        TransportError: If the controller does not answer.
    """
    client = client_of(settings)
    end_s = time.time() if until_s is None else until_s
    folded = _folded(pages(client, handle), end_s)
    points, events = folded.points, folded.events
    if not points and not events:
        raise NotFoundError("history of endpoint", handle, "deploy a model version under this handle first")
    first_s = since_s if since_s is not None else min(part[0].at_s for part in (points, events) if part)
    step_s, timeline = _timeline(client, handle, first_s, end_s, step_s or step_of(end_s - first_s))
    start_s = first_s // step_s * step_s
    return History(
        handle=handle,
        since_s=start_s,
        until_s=end_s,
        step_s=step_s,
        points=tuple(since(points, start_s)),
        events=tuple(event for event in events if event.at_s >= start_s),
        timeline=tuple(timeline),
        measured=tuple(each for each in folded.measured if each.at_s >= start_s),
        lineage=folded.lineage,
    )


def _timeline(
    client: Controller, handle: str, first_s: float, end_s: float, step_s: int
) -> tuple[int, list[dict[str, Any]]]:
    """Return the rows of a span, and how wide they are: old ones may be kept only in wider buckets than asked for."""
    while True:
        rows = client.timeline(handle, since_s=first_s // step_s * step_s, until_s=end_s, step_s=step_s)
        widest_s = max((int(row["width_s"]) for row in rows), default=step_s)
        if widest_s <= step_s:
            return step_s, rows
        step_s = widest_s


def client_of(settings: Settings) -> Controller:
    """Return a client that reads as the library does."""
    return Controller(settings.controller_url, settings.controller_token or "", actor="history")


def pages(client: Controller, handle: str, *, size: int = PAGE) -> Iterator[dict[str, Any]]:
    """Yield every ledger entry of an endpoint in order; at most `size` of them are held at a time."""
    after = 0
    while True:
        page = client.ledger(handle, after=after, limit=size)
        yield from page
        if len(page) < size:
            return
        after = page[-1]["seq"]


def step_of(span_s: float) -> int:
    """Return the narrowest width of bucket that divides a span into at most `MOST_BUCKETS`."""
    return next((step_s for step_s in STEPS_S if span_s / step_s <= MOST_BUCKETS), STEPS_S[-1])


def split_of(entry: Mapping[str, Any]) -> tuple[Shares | None, Shares | None]:
    """Return the split that an entry wanted and the one that it saw; None where it says nothing of it."""
    return _shares(entry.get("split")), _shares(entry.get("observed"))


def event_of(entry: Mapping[str, Any]) -> Event | None:
    """Return what an entry did or decided; None for a look that waited and for a split that was read back."""
    verdict = entry.get("verdict") or entry.get("verb")
    if entry["kind"] == "split" or verdict == "hold":
        return None
    spec = entry.get("spec") or {}
    return Event(
        seq=entry["seq"],
        at_s=entry["at_s"],
        kind=entry["kind"],
        verdict=verdict,
        version=entry.get("version", spec.get("version", entry.get("stable"))),
        rollout=entry.get("rollout"),
        actor=entry["actor"],
        reason=entry["reason"],
        evidence=tuple(entry.get("evidence") or ()),
    )


def told_of(events: Iterable[Event]) -> Iterator[Event]:
    """Yield events without the roll-backs of rollouts that were aborted or superseded: that was told already."""
    given_up = set()
    for event in events:
        if event.kind == "verb" and event.verdict in GIVEN_UP:
            given_up.add(event.rollout)
        if event.verdict != "roll back" or event.rollout not in given_up:
            yield event


def marks_of(events: Iterable[Event]) -> list[Event]:
    """Return what ends or stops a rollout: verdicts, each once, and a person's abort or a newer rollout."""
    found: dict[tuple[str | None, str | None], Event] = {}
    for event in told_of(events):
        marked = {"decision": MARKED, "verb": GIVEN_UP}.get(event.kind, ())
        if event.verdict in marked:
            found.setdefault((event.rollout, event.verdict), event)
    return list(found.values())


def measured_of(entry: Mapping[str, Any]) -> Iterator[Measurement]:
    """Yield the values of queries that an entry's look saw."""
    for key, value in (entry.get("look") or {}).get("measured", {}).items():
        version, _, metric = key.partition("/")
        yield Measurement(at_s=entry["at_s"], version=int(version), metric=metric, value=float(value))


def lineage_of(entry: Mapping[str, Any]) -> dict[int, Mapping[str, str]]:
    """Return what an entry says of versions' origins: a deployment of its own, others of all that they concern."""
    made_of = entry.get("lineage") or {}
    if entry["kind"] == "deployed":
        return {int(entry["version"]): made_of} if made_of else {}
    return {int(version): parts for version, parts in made_of.items()}


def since(points: Iterable[Point], start_s: float) -> Iterator[Point]:
    """Yield the points of a span; the split that it began with comes first, at its beginning."""
    before: Point | None = None
    for point in points:
        if point.at_s <= start_s:
            before = point
            continue
        if before is not None:
            yield Point(at_s=start_s, wanted=before.wanted, observed=before.observed)
            before = None
        yield point
    if before is not None:
        yield Point(at_s=start_s, wanted=before.wanted, observed=before.observed)


@dataclass(slots=True, kw_only=True)
class _Folded:
    """What a ledger's entries say together."""

    points: list[Point] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    measured: list[Measurement] = field(default_factory=list)
    lineage: dict[int, Mapping[str, str]] = field(default_factory=dict)
    candidates: dict[str, int] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        """Take an event; one that gives a rollout up is about that one's candidate."""
        if event.kind in ("asked", "rollout") and event.rollout and event.version:
            self.candidates[event.rollout] = event.version
        if event.verdict in GIVEN_UP and event.rollout:
            event = replace(event, version=self.candidates.get(event.rollout))
        self.events.append(event)


def _folded(entries: Iterable[Mapping[str, Any]], until_s: float) -> _Folded:
    found = _Folded()
    wanted: Shares | None = None
    observed: Shares | None = None
    for entry in entries:
        if entry["at_s"] > until_s:
            break
        event = event_of(entry)
        if event is not None:
            found.add(event)
        found.measured += measured_of(entry)
        found.lineage |= lineage_of(entry)
        asked, seen = split_of(entry)
        now = (asked if asked is not None else wanted, seen if seen is not None else observed)
        if now != (wanted, observed):
            wanted, observed = now
            found.points.append(Point(at_s=entry["at_s"], wanted=wanted, observed=observed))
    return found


def _shares(split: Mapping[str, Any] | None) -> Shares | None:
    if split is None:
        return None
    return {int(version): parts / 100 for version, parts in split["parts"].items() if parts}
