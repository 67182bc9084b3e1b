"""E-processes by betting: rewards in [0, 1], and answers that a shadow compared. Terms add up as `label.py`'s do.

`log_mean_exp` over the summed terms is the evidence; it reaches log(1/alpha) with probability at most alpha where the
null holds, at any number of looks. Nothing here knows of metrics or of requests.
"""

from collections.abc import Iterable, Sequence
from math import log

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.statistics.label import FLAWLESS_PARTS

FALL_RATIOS = (0.9, 0.8, 0.65, 0.5, 0.25, 0.1)
"""Alternatives where harm is a lower mean: the candidate's mean is this part of the control's."""

RISE_RATIOS = (1.1, 1.25, 1.5, 2.0, 4.0, 10.0)
"""Alternatives where harm is a higher mean."""


def bounded_terms(values: Iterable[tuple[bool, float, float]], ratios: Sequence[float]) -> tuple[float, ...]:
    """Return one interval's log factors for each alternative: is the candidate's mean above or below the control's?

    Under the null both arms have the same mean (or the candidate's lies on the other side of the alternatives), at
    every moment; the common mean may move. Give one value for each unit, its first or its whole, once its arm can no
    longer change: a second value of a sticky user belongs to the arm of the first, and is no new bet.

    Args:
        values: (is the candidate's, value in [0, 1], the candidate's share when the unit was assigned, in (0, 1)).
            Scale and cap by a limit known beforehand, such as the baseline's 99.9 % quantile.
        ratios: `FALL_RATIOS` or `RISE_RATIOS`, or part of them: candidate's mean / control's under the alternative.

    Raises:
        InvalidSpecError: If a value lies outside [0, 1] or a share outside (0, 1).

    Source: betting on a bounded mean, Waudby-Smith and Ramdas (2024), JRSS-B 86, pp. 1-27; stakes as in a label test.
    """
    rows = np.array([*values], float).reshape(-1, 3)
    arms, x, shares = rows[:, 0], rows[:, 1], rows[:, 2]
    faults = []
    if not ((x >= 0) & (x <= 1)).all():
        faults.append("a value outside [0, 1]; scale it by a limit known beforehand and cap it there")
    if not ((shares > 0) & (shares < 1)).all():
        faults.append("a share outside (0, 1); leave out what was not split")
    if faults:
        raise InvalidSpecError(tuple(faults), "rewards")
    return tuple(float(bounded_factors(arms, x, shares, ratio).sum()) for ratio in ratios)


def bounded_factors(
    is_candidate: ArrayLike, values: ArrayLike, shares: ArrayLike, ratio: float
) -> NDArray[np.float64]:
    """Return the log factor of each value, log(1 + stake x value x ([candidate] - share)), for arrays of one shape."""
    share = np.asarray(shares, float)
    stake = (ratio - 1) / (share * ratio + 1 - share)
    return np.asarray(np.log1p(stake * np.asarray(values, float) * (np.asarray(is_candidate, float) - share)))


def paired_terms(only_candidate: int, only_noise: int, ratios: Sequence[float]) -> tuple[float, ...]:
    """Return one interval's log-likelihood ratios: does the candidate differ from stable more than stable from itself?

    A sample in which both differ, or neither, says nothing. Of the others the null says that each is the candidate's
    with probability 1/2, however noisy the model.

    Args:
        only_candidate: Samples in which the candidate's answer differed and the second copy of stable's did not.
        only_noise: The reverse.
        ratios: Alternatives > 1, such as `HARM_RATIOS`: discordant samples of the candidate for one of the noise.

    Source: McNemar (1947), Psychometrika 12, pp. 153-157, as an e-process.
    """
    discordant = only_candidate + only_noise
    return tuple(only_candidate * log(ratio) - discordant * log((ratio + 1) / 2) for ratio in ratios)


def beyond_noise_terms(
    only_candidate: int,
    only_noise: int,
    samples: int,
    *,
    limit: float,
    parts: Sequence[float] = FLAWLESS_PARTS,
) -> tuple[float, ...]:
    """Return one interval's log factors against "the candidate differs in at least `limit` of samples beyond noise".

    A certificate of likeness: evidence that P(candidate differs) - P(noise differs) < limit. Weigh the sums with
    `FLAWLESS_WEIGHTS`. Without a single difference it takes 340 samples to prove a limit of 1 % at alpha 0.05.

    Args:
        only_candidate: As of `paired_terms`.
        only_noise: As of `paired_terms`.
        samples: All samples of the interval, >= the two together.
        limit: Share of samples, in (0, 1).
        parts: What is left of the stake after a difference, each in (0, 1). A noisy model differs often, and is only
            certified by parts near 1.
    """
    neither = samples - only_candidate - only_noise
    if neither < 0 or not 0 < limit < 1:
        raise InvalidSpecError(
            (
                (
                    f"{only_candidate} + {only_noise} differing of {samples} samples at limit {limit:g}; "
                    "count each sample once and choose a limit in (0, 1)"
                ),
            ),
            "comparison",
        )
    return tuple(
        only_candidate * log(part)
        + only_noise * log(1 + (1 - part) * (1 + limit) / (1 - limit))
        + neither * log(1 + (1 - part) * limit / (1 - limit))
        for part in parts
    )
