"""From attempts in the access log to exposures for rewards and to requests for the timeline. Pure."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from taxiway_serving.controller.tally import is_bad
from taxiway_serving.evidence.source import Attempt
from taxiway_serving.feedback import LONGEST_ID, Exposure
from taxiway_serving.names import Via
from taxiway_serving.split import TOTAL_PARTS, Split
from taxiway_serving.timeline import Served

_SPLITS_KEPT = 5000


class Shares:
    """Remembers the splits of late, so that a request finds the one that it was made under."""

    def __init__(self) -> None:
        self._since_s: dict[str, list[float]] = defaultdict(list)
        self._splits: dict[str, list[Split]] = defaultdict(list)

    def note(self, splits: Mapping[str, Split | None], *, now_s: float) -> None:
        """Remember the splits that were read back just now."""
        for handle, split in splits.items():
            times, known = self._since_s[handle], self._splits[handle]
            if split is not None and (not known or known[-1] != split):
                times.append(now_s)
                known.append(split)
                del times[:-_SPLITS_KEPT], known[:-_SPLITS_KEPT]

    def share(self, handle: str, version: int, at_s: float) -> float | None:
        """Return the share that a version had at a time, in (0, 1]; None if no split is known that gave it any.

        A change is read back a moment after it took effect: a version that had nothing yet has what came next.
        """
        known = self._splits[handle]
        then = max(0, bisect_right(self._since_s[handle], at_s) - 1)
        places = chain(range(then, len(known)), range(then - 1, -1, -1))
        given = (known[place].parts.get(version, 0) for place in places)
        return next((parts / TOTAL_PARTS for parts in given if parts > 0), None)


def exposures_of(
    attempts: Iterable[Attempt], shares: Shares, *, via: frozenset[Via] = frozenset({"split"})
) -> Iterator[Exposure]:
    """Yield the exposure of each request whose version was chosen in one of these ways.

    Args:
        attempts: As the log has them; a retry on stable is no exposure of stable.
        shares: Which share each version had.
        via: Who may have chosen the version. What was not left to chance cannot be compared.
    """
    for attempt in attempts:
        share = shares.share(attempt.handle, attempt.assigned, attempt.at_s)
        is_first = attempt.number == 1 and attempt.via in via
        if is_first and share is not None and 0 < len(attempt.request_id) <= LONGEST_ID:
            yield Exposure(
                request_id=attempt.request_id,
                handle=attempt.handle,
                version=attempt.assigned,
                unit=attempt.unit,
                at_s=attempt.at_s,
                share=share,
            )


def served_of(attempts: Iterable[Attempt]) -> Iterator[Served]:
    """Yield each live request once, by its first attempt; a tester's is not live."""
    for attempt in attempts:
        if attempt.number == 1 and attempt.via != "pin":
            yield Served(
                request_id=attempt.request_id,
                at_s=attempt.at_s,
                handle=attempt.handle,
                version=attempt.assigned,
                is_bad=is_bad(attempt),
                is_client_error=400 <= attempt.status < 500 and attempt.status != 429,
                latency_ms=attempt.latency_ms if attempt.status else None,
            )
