"""The baseline's own figures, frozen with care: a latency limit, and a rate for where no control runs.

Both err to the safe side of the candidate: a limit that the baseline itself breaks no more often than it says. Pure.
"""

from collections.abc import Sequence
from math import ceil, log, log1p

from scipy import special

from taxiway_serving.errors import InvalidSpecError


def baseline_quantile(
    values: Sequence[float], level: float = 0.99, *, confidence: float = 0.95
) -> float | None:
    """Return a value that the baseline exceeds in at most 1 - level of cases, with some confidence.

    It is an order statistic, whatever the distribution. Take values of before the rollout: a limit from the traffic
    that it judges looks at its own answer.

    Args:
        values: One for each request or unit, in any order.
        level: Quantile, in (0, 1).
        confidence: Probability that the value is not below the true quantile, in (0, 1).

    Returns:
        None where there are too few values: 299 for the 99 % quantile at 95 % confidence, `fewest(level)` in general.
    """
    _check(level, confidence)
    ordered = sorted(values)
    rank = _rank(len(ordered), level, confidence)
    return None if rank is None else ordered[rank - 1]


def fewest(level: float, *, confidence: float = 0.95) -> int:
    """Return how many values `baseline_quantile` needs."""
    _check(level, confidence)
    count = max(1, ceil(log1p(-confidence) / log(level)) - 2)
    while _rank(count, level, confidence) is None:
        count += 1
    return count


def frozen_rate(bad: int, units: int, *, confidence: float = 0.95) -> float | None:
    """Return the baseline's bad rate, from above: the limit that `rate_terms` holds a version against at 100 %.

    Args:
        bad: The baseline's bad units, 0 <= bad <= units.
        units: Its units.
        confidence: Probability that its true rate is not above, in (0, 1).

    Returns:
        A rate in (0, 1), or None without a single good unit: nothing can be held against such a baseline.

    Source: Clopper and Pearson (1934), Biometrika 26, pp. 404-413.
    """
    _check(0.5, confidence)
    if not 0 <= bad <= units:
        raise InvalidSpecError((f"{bad} bad of {units} units; a bad unit is a unit",), "baseline")
    return None if bad == units else float(special.betaincinv(bad + 1, units - bad, confidence))


def _rank(count: int, level: float, confidence: float) -> int | None:
    """Return the least rank r with P(Binomial(count, level) < r) >= confidence."""
    low, high = 1, count + 1
    while low < high:
        middle = (low + high) // 2
        if special.bdtr(middle - 1, count, level) >= confidence:
            high = middle
        else:
            low = middle + 1
    return low if low <= count else None


def _check(level: float, confidence: float) -> None:
    if not (0 < level < 1 and 0 < confidence < 1):
        raise InvalidSpecError(
            (f"level {level:g} at confidence {confidence:g}; choose both in (0, 1)",), "quantile"
        )
