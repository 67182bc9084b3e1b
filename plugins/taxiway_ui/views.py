"""What a browser is told of endpoints and their history. Pure: JSON of the controller in, JSON of the page out.

Only what the page shows leaves here: no token, no address of a variant, no process id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from taxiway.history.reading import Event, event_of, split_of

WIDTHS_S = (10, 30, 60, 300, 900, 3_600, 21_600, 86_400)
MOST_BUCKETS = 360

_ENDPOINT = ("handle", "url", "stable", "previous", "phase", "split", "rollout")
_VARIANT = ("version", "model", "phase", "reason", "restarts")


def endpoint_view(endpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return one endpoint as the page shows it."""
    variants = {
        version: {name: variant.get(name) for name in _VARIANT}
        for version, variant in endpoint["variants"].items()
    }
    return {name: endpoint.get(name) for name in _ENDPOINT} | {"variants": variants}


def history_view(entries: Sequence[Mapping[str, Any]], *, after: int, limit: int) -> dict[str, Any]:
    """Return what a stretch of the ledger says, without the looks that only waited.

    Args:
        entries: Of one endpoint, in order.
        after: Place that they were asked from.
        limit: Number that was asked for: as many as that, and there may be more.
    """
    points: list[dict[str, Any]] = []
    for entry in entries:
        wanted, observed = split_of(entry)
        point = {"at_s": entry["at_s"], "wanted": wanted, "observed": observed}
        is_news = (wanted or observed) and not _repeats(point, points)
        points += [point] if is_news else []
    return {
        "points": points,
        "events": [_event_view(event) for entry in entries if (event := event_of(entry))],
        "next_after": entries[-1]["seq"] if entries else after,
        "has_more": len(entries) == limit,
    }


def width_of(span_s: float) -> int:
    """Return the narrowest bucket that divides a span into at most `MOST_BUCKETS`."""
    return next((width_s for width_s in WIDTHS_S if span_s / width_s <= MOST_BUCKETS), WIDTHS_S[-1])


def _event_view(event: Event) -> dict[str, Any]:
    """A bandit shifts every few seconds, for weeks: what each shift rests on stays in the ledger."""
    return asdict(event) | ({"evidence": ()} if event.verdict == "shift" else {})


def _repeats(point: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> bool:
    return bool(points) and all(point[name] == points[-1][name] for name in ("wanted", "observed"))
