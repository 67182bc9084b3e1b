"""From attempts in the access log to exposures for rewards and to requests for the timeline. Pure."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from taxiway_serving.controller.tally import is_bad
from taxiway_serving.evidence.source import Attempt
from taxiway_serving.feedback import LONGEST_ID, NOT_DRAWN, Exposure
from taxiway_serving.names import Via
from taxiway_serving.split import TOTAL_PARTS, Split
from taxiway_serving.timeline import Served

_SPLITS_KEPT = 5000
LAG_S = 5.0
"""A request that began so soon after a split was read back may still have followed the one before."""
_LIVE: Final[tuple[Via, ...]] = ("split", "header", "member")


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
        """Return the share that a version had at a time, in (0, 1]; None if no split of that time gave it any.

        A change is read back a moment after it took effect, so a version that had nothing yet has what came next; and
        it takes effect a moment after it was made, so one that has nothing any more has what it had just before.
        """
        times, known = self._since_s[handle], self._splits[handle]
        then = max(0, bisect_right(times, at_s) - 1)
        places = [then, then + 1]
        if then > 0 and at_s - times[then] <= LAG_S:
            places.append(then - 1)
        given = (known[place].parts.get(version, 0) for place in places if place < len(known))
        return next((parts / TOTAL_PARTS for parts in given if parts > 0), None)


def exposures_of(attempts: Iterable[Attempt], shares: Shares) -> Iterator[Exposure]:
    """Yield the exposure of each live request, by its first attempt.

    What a header, a cookie or a list of users routed was drawn by nobody: it has no share, and no comparison takes it.

    Args:
        attempts: As the log has them; a retry on stable is no exposure of stable.
        shares: Which share each version had.
    """
    for attempt in attempts:
        if attempt.number != 1 or attempt.via not in _LIVE or not 0 < len(attempt.request_id) <= LONGEST_ID:
            continue
        is_drawn = attempt.via == "split"
        share = shares.share(attempt.handle, attempt.assigned, attempt.at_s) if is_drawn else NOT_DRAWN
        if share is not None:
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
