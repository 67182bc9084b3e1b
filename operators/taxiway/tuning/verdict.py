"""Whether new parameters are better than what is there, with an interval. Pure; randomness is an argument.

The parameters were chosen because they did best on the items that the search looked at, so those items prove nothing:
what is judged here was measured on others. Both what the seed and what the items leave to chance is in the interval.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from taxiway.errors import InvalidSpecError
from taxiway.evaluation import intervals
from taxiway.evaluation.intervals import Interval
from taxiway.evaluation.predictions import ACCURACY

FEWEST, MOST = 3, 30
CONFIDENCE = 0.95
# Below this an interval's width is what floating point leaves, and nothing that was measured.
_NOTHING = 1e-9
# Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom.
_T = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452),
)

Better = Literal["yes", "no", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether parameters are better than what is there.

    Attributes:
        better: `yes` if the whole interval is above 0, `no` if it is below or the two are the same, else
            `inconclusive`, as where the evidence is doubted.
        reason: Why, as a sentence.
        difference: Mean difference over items and seeds; above 0 is an improvement, whatever the direction of the
            metric. None where nothing could be measured.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    better: Better
    reason: str
    difference: float | None = None
    low: float | None = None
    high: float | None = None


def judge(differences: "np.ndarray", metric: str, least_items: int, random: np.random.Generator) -> Verdict:
    """Return the verdict on paired differences, each above 0 where the new parameters did better.

    Args:
        differences: A row for each seed, `FEWEST` to `MOST` of them, a column for each held-out item.
        metric: What was measured; differences of `accuracy` are -1, 0 or 1.
        least_items: Items below which nothing is said.
        random: Draws the resamples of a metric that is no share.

    Raises:
        InvalidSpecError: If there are fewer or more seeds.

    Source: the intervals over items and over seeds are put together by their squared distances from the mean, as in
    Zou and Donner (2008), Statistics in Medicine 27, pp. 1693-1702. What seeds and items share is counted in both, so
    the interval is rather too wide.
    """
    seeds, items = differences.shape
    if not FEWEST <= seeds <= MOST:
        raise InvalidSpecError((f"a verdict takes {FEWEST} to {MOST} seeds, got {seeds}",), "verdict")
    if items < least_items:
        return Verdict(better="inconclusive", reason=f"{items} items are too few, {least_items} are needed")
    mean, of_items = _over_items(differences.mean(axis=0), metric, random)
    by_seed = [float(each) for each in differences.mean(axis=1)]
    half = _T[seeds - 2] * statistics.stdev(by_seed) / math.sqrt(seeds)
    low = mean - math.hypot(mean - of_items.low, half)
    high = mean + math.hypot(of_items.high - mean, half)
    better, why = _answer(low, high)
    reason = f"{metric} {why} over {items:,} items that the search did not see, and {seeds} seeds"
    return Verdict(better=better, reason=reason, difference=mean, low=low, high=high)


def doubted(found: Verdict, doubts: Sequence[str]) -> Verdict:
    """Return a verdict that says why its evidence cannot be relied on: it is neither a yes nor a no then."""
    if not doubts:
        return found
    said = f"{found.reason}; but that cannot be relied on: {'; '.join(doubts)}"
    return replace(found, better="inconclusive", reason=said)


def _over_items(
    differences: "np.ndarray", metric: str, random: np.random.Generator
) -> tuple[float, Interval]:
    mean = float(differences.mean())
    if metric != ACCURACY:
        return mean, intervals.paired_mean(differences.tolist(), random)
    won, lost = float(differences[differences > 0].sum()), float(-differences[differences < 0].sum())
    found = intervals.paired_shares(won, lost, len(differences))
    return mean, Interval(low=min(mean, found.low), high=max(mean, found.high))


def _answer(low: float, high: float) -> tuple[Better, str]:
    if high - low <= _NOTHING:
        return "inconclusive", "differs by the same for every item and seed, which is no sample,"
    if low > 0:
        return "yes", "is better"
    return ("no", "is worse") if high < 0 else ("inconclusive", "may be better or worse")
