"""What one version of a handle did in a span of time: the values of a timeline, and how spans become longer ones. Pure.

Times that requests took are kept as a histogram: 50 bins for each factor of 1,000, so a percentile read from it is at
most 8 % off, and adding up two spans loses nothing.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SPAN_S: Final = 10
"""Shortest span; they begin at its multiples."""
_BINS_PER_FACTOR: Final = 50 / math.log(1000)
_SHORTEST_MS: Final = 0.01
_LONGEST_MS: Final = 1e7


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One live request, as its version served it.

    Attributes:
        request_id: The request.
        at_s: When it began.
        handle: The handle.
        version: The version that it was assigned to.
        is_bad: Whether it speaks against that version.
        is_client_error: Whether the answer was a 4xx (429 is not the version's).
        latency_ms: The version's own time; None if there was no answer.
    """

    request_id: str
    at_s: float
    handle: str
    version: int
    is_bad: bool
    is_client_error: bool
    latency_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What a version did in one span.

    Attributes:
        at_s: Beginning, a multiple of the width.
        width_s: Seconds that it covers.
        version: The version.
        requests: Live requests that were assigned to it.
        bad: Those that speak against it.
        client_errors: Those that were answered with a 4xx.
        bins: Requests by bin of their latency.
        weights_pct: Sum of the weights that were read back, one for each shortest span.
        weights: How many those are.
    """

    at_s: int
    width_s: int
    version: int
    requests: int = 0
    bad: int = 0
    client_errors: int = 0
    bins: Mapping[int, int] = field(default_factory=dict)
    weights_pct: float = 0.0
    weights: int = 0

    @property
    def weight_pct(self) -> float | None:
        """Mean weight read back from the gateway; None if it was not read."""
        return self.weights_pct / self.weights if self.weights else None

    def to_json(self) -> dict[str, Any]:
        """Return the span as plain JSON values, its histogram as percentiles."""
        names = ("at_s", "width_s", "version", "weight_pct", "requests", "bad", "client_errors")
        found = {name: getattr(self, name) for name in names}
        return {**found, "p50_ms": latency_ms(self.bins, 0.5), "p99_ms": latency_ms(self.bins, 0.99)}


def span_of(version: int, at_s: int, served: Iterable[Served]) -> Span:
    """Return the shortest span that holds these requests of one version."""
    own = [*served]
    return Span(
        at_s=at_s,
        width_s=SPAN_S,
        version=version,
        requests=len(own),
        bad=sum(one.is_bad for one in own),
        client_errors=sum(one.is_client_error for one in own),
        bins=Counter(bin_of(one.latency_ms) for one in own if one.latency_ms is not None),
    )


def merged(spans: Iterable[Span], *, width_s: int) -> list[Span]:
    """Add spans up to longer ones, by version, in the order of time; one that is longer already stays as it is.

    Args:
        spans: In any order; of one handle.
        width_s: Width to reach.
    """
    found: dict[tuple[int, int, int], Span] = {}
    for span in spans:
        width = max(width_s, span.width_s)
        key = (span.at_s // width * width, span.version, width)
        at_s, version, _ = key
        found[key] = added(found.get(key, Span(at_s=at_s, width_s=width, version=version)), span)
    return [found[key] for key in sorted(found)]


def added(span: Span, other: Span) -> Span:
    """Return the first span with what the second one holds."""
    return Span(
        at_s=span.at_s,
        width_s=span.width_s,
        version=span.version,
        requests=span.requests + other.requests,
        bad=span.bad + other.bad,
        client_errors=span.client_errors + other.client_errors,
        bins=Counter(span.bins) + Counter(other.bins),
        weights_pct=span.weights_pct + other.weights_pct,
        weights=span.weights + other.weights,
    )


def bin_of(latency_ms: float) -> int:
    """Return the bin of a latency."""
    return math.floor(math.log(min(max(latency_ms, _SHORTEST_MS), _LONGEST_MS)) * _BINS_PER_FACTOR)


def latency_ms(bins: Mapping[int, int], rank: float) -> float | None:
    """Return the latency that a part of the requests stayed below, in ms; None of no request.

    Args:
        bins: Requests by bin.
        rank: Which part, above 0 up to 1.
    """
    wanted, seen = math.ceil(rank * sum(bins.values())), 0
    for number in sorted(bins):
        seen += bins[number]
        if seen >= wanted:
            return round(math.exp((number + 0.5) / _BINS_PER_FACTOR), 3)
    return None
