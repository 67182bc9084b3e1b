"""Intervals for shares and for differences on the same items: pure formulas, randomness is an argument.

All are two-sided at 95 %. `tests/evaluation/test_intervals.py` simulates how often they hold the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
DRAWS = 2_000
_AT_ONCE = 1_000_000
_Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Two ends of what the data leave possible."""

    low: float
    high: float


def share(ok: int, total: int) -> Interval:
    """Return the Wilson interval of a share.

    Args:
        ok: Successes, 0 <= ok <= total.
        total: Trials; 0 leaves everything possible.

    Source: Wilson (1927), JASA 22, pp. 209-212.
    """
    if total == 0:
        return Interval(low=0.0, high=1.0)
    rate, spread = ok / total, _Z**2 / total
    middle = (rate + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * (rate * (1 - rate) / total + spread / (4 * total)) ** 0.5
    return Interval(low=max(0.0, middle - half), high=min(1.0, middle + half))


def paired_shares(won: float, lost: float, total: int) -> Interval:
    """Return the interval of the difference of two shares that were measured on the same items.

    Args:
        won: Items that only the first got right; parts of one are welcome, as of a mean over seeds.
        lost: Items that only the second got right.
        total: All items; 0 leaves everything possible.

    Source: the adjusted Wald interval of Bonett and Price (2012), Journal of Educational and Behavioral Statistics
    37(4), pp. 479-488.
    """
    if total == 0:
        return Interval(low=-1.0, high=1.0)
    first, second = (won + 1) / (total + 2), (lost + 1) / (total + 2)
    middle = first - second
    half = _Z * ((first + second - middle**2) / (total + 2)) ** 0.5
    return Interval(low=max(-1.0, middle - half), high=min(1.0, middle + half))


def paired_mean(differences: Sequence[float], random: np.random.Generator) -> Interval:
    """Return the interval of the mean of differences, one for each item, from resampled items.

    Args:
        differences: At least one number.
        random: Draws the resamples.

    Source: the percentile bootstrap of Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13.
    """
    values = np.asarray(differences, dtype=float)
    rows = max(1, _AT_ONCE // len(values))
    means = [
        values[random.integers(0, len(values), (min(rows, DRAWS - begun), len(values)))].mean(axis=1)
        for begun in range(0, DRAWS, rows)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(low=float(low), high=float(high))
