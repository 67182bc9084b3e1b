"""Whether one set of parameters is better than another, with an interval. Pure statistics over paired measurements.

Both are trained once with each of a few seeds that the search did not use, so that the luck of the best trial, chosen
because it was best, is not counted as its merit. The interval is of the mean difference over seeds, on one split of
one dataset: it says nothing about other data.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from taxiway.errors import InvalidSpecError

FEWEST, MOST = 3, 30
CONFIDENCE = 0.95
# Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom.
_T = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452),
)

Better = Literal["yes", "no", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether parameters are better than others.

    Attributes:
        better: `yes` if the whole interval is above 0, `no` if it is below or the two are the same, else
            `inconclusive`.
        difference: Mean of the paired differences; above 0 is an improvement, whatever the direction of the metric.
        low: Lower end of its 95 % interval.
        high: Upper end.
        repeats: Pairs that were measured.
    """

    better: Better
    difference: float
    low: float
    high: float
    repeats: int


def judge(differences: Sequence[float]) -> Verdict:
    """Return the verdict on paired differences, each above 0 where the new parameters did better.

    Args:
        differences: One for each seed, `FEWEST` to `MOST` of them.

    Raises:
        InvalidSpecError: If there are fewer or more.

    Source: Student's paired t interval, as in Snedecor and Cochran, Statistical Methods, chapter 6.
    """
    count = len(differences)
    if not FEWEST <= count <= MOST:
        raise InvalidSpecError((f"a verdict takes {FEWEST} to {MOST} pairs, got {count}",), "verdict")
    mean = statistics.fmean(differences)
    half = _T[count - 2] * statistics.stdev(differences) / math.sqrt(count)
    low, high = mean - half, mean + half
    is_same = not any(differences)
    better: Better = "yes" if low > 0 else "no" if high < 0 or is_same else "inconclusive"
    return Verdict(better=better, difference=mean, low=low, high=high, repeats=count)
