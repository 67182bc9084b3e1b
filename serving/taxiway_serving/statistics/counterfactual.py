"""What would a version do at 100 %? Estimated from decisions that were logged with the share of the version drawn.

Each decision of the version stands for 1 / share decisions, so that a split that moved while rewards moved, as every
bandit's does, does no harm. One row for each unit: rows of one sticky user are one decision, not many. Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray
from scipy import special

from taxiway_serving.errors import InvalidSpecError

Floats = NDArray[np.float64]

STAKES = 0.75 * 0.5 ** np.arange(14.0)
"""Mixture of bets, from a handful of decisions to tens of millions."""

FEWEST_DRAWN = 20
"""Decisions of the version below which no figure is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Mean reward that a version would have had at 100 % of the logged traffic.

    Attributes:
        version: Whose.
        value: Self-normalised estimate; None where the log does not support one.
        low: Lower end of an interval that holds at every look, with probability 1 - alpha; the least reward without
            support.
        high: Upper end, likewise.
        decisions: Rows of the log.
        drawn: Rows of the version.
        effective: Rows of equal weight that would tell as much, <= drawn.
        reason: Why there is no value; empty where there is one.
    """

    version: int
    value: float | None
    low: float
    high: float
    decisions: int
    drawn: int
    effective: float
    reason: str = ""


def counterfactual(
    rows: Iterable[tuple[int, float, float]],
    version: int,
    *,
    alpha: float = 0.05,
    least: float = 0.0,
    most: float = 1.0,
    least_share: float | None = None,
) -> Estimate:
    """Estimate what a version would do at 100 %.

    Args:
        rows: Every decision of the time in question in order, of every version: (version drawn, its share of the split
            at the time in (0, 1], reward with its window closed). Leave out times at which the version had no share.
        version: Whose mean reward to estimate.
        alpha: Probability that the interval misses, over all looks; in (0, 1).
        least: Least reward there can be, known beforehand.
        most: Highest reward there can be; cap heavy tails by it.
        least_share: Least share that the version could have had, known beforehand (such as the floor of a bandit);
            None takes the least in the log, which is close enough for a split set by a plan.

    Raises:
        InvalidSpecError: If a reward or a share is out of range.

    Source: doubly robust pseudo-rewards as in Waudby-Smith, Wu, Ramdas, Karampatziakis and Mineiro (2024),
    "Anytime-valid off-policy inference for contextual bandits"; empirical-Bernstein process for means that may move,
    Howard, Ramdas, McAuliffe and Sekhon (2021), Annals of Statistics 49, theorem 4, with a mixture of bets.
    """
    versions, shares, rewards = np.array([*rows], float).reshape(-1, 3).T
    is_drawn = versions == version
    _check(shares, rewards, least, most)
    chances = np.where(is_drawn, 1 / np.where(is_drawn, shares, 1.0), 0.0)
    drawn = int(is_drawn.sum())
    if reason := _missing_support(chances, version, drawn):
        value, low, high = None, least, most
    else:
        floor = float(shares[is_drawn].min()) if least_share is None else least_share
        scaled = (rewards - least) / (most - least)
        low, high = (least + (most - least) * end for end in bounds(chances, scaled, floor, alpha))
        value = min(max(float((chances * rewards).sum() / chances.sum()), low), high)
    return Estimate(
        version=version,
        value=value,
        low=low,
        high=high,
        decisions=len(rewards),
        drawn=drawn,
        effective=float(chances.sum() ** 2 / (chances**2).sum()) if drawn else 0.0,
        reason=reason,
    )


def bounds(chances: Floats, rewards: Floats, least_share: float, alpha: float) -> tuple[float, float]:
    """Return both ends of the interval after the last decision; each side spends half of alpha.

    Args:
        chances: 1 / share where the version was drawn, else 0; in order.
        rewards: In [0, 1]; those of other versions are not looked at.
        least_share: Least share that the version could have had, in (0, 1].
        alpha: In (0, 1).
    """
    low = lower_bound(chances, rewards, least_share, alpha / 2)
    high = 1 - lower_bound(chances, 1 - rewards, least_share, alpha / 2)
    return float(low), float(high)


def lower_bound(chances: Floats, rewards: Floats, least_share: float, alpha: float) -> Floats:
    """Return the lower bound of the mean over all decisions; leading axes stand for many logs at once.

    A decision's pseudo-reward is what a running mean of the version foretells, plus 1 / share times its error where
    the version was drawn: its expectation is the version's mean at that moment, whatever the running mean. Times
    least_share it is at least -1, which is all that the inequality needs.
    """
    is_drawn = (chances > 0).astype(np.float64)
    model = _before(is_drawn * rewards, 0.5) / _before(is_drawn, 1.0)
    pseudo = np.asarray(least_share * (model + chances * (rewards - model)), np.float64)
    steps = np.arange(1, chances.shape[-1] + 1)
    guess = np.clip(_before(pseudo, 0.0) / steps, 0.0, least_share)
    spread = ((pseudo - guess) ** 2).sum(-1)
    total = pseudo.sum(-1)
    costs = -np.log1p(-STAKES) - STAKES

    low, high = np.zeros(total.shape), np.ones(total.shape)
    for _ in range(40):
        middle = (low + high) / 2
        excess = total - least_share * steps[-1] * middle
        log_e = special.logsumexp(
            STAKES * excess[..., None] - costs * spread[..., None], axis=-1, b=1 / STAKES.size
        )
        is_refuted = log_e >= -log(alpha)
        low, high = np.where(is_refuted, middle, low), np.where(is_refuted, high, middle)
    return np.asarray(low)


def _before(values: Floats, first: float) -> Floats:
    """Return at each step `first` plus the sum of the values before it: what a bet may know."""
    return np.asarray(first + np.cumsum(values, axis=-1) - values)


def _missing_support(chances: Floats, version: int, drawn: int) -> str:
    """Say why the log cannot tell. With full support the chances have mean 1."""
    if drawn < FEWEST_DRAWN:
        return f"version {version} was drawn {drawn} times; {FEWEST_DRAWN} are the least"
    deviation = chances.std() / len(chances) ** 0.5
    if abs(chances.mean() - 1) > 4 * deviation + 1e-9:
        return (
            f"the chances of version {version} have mean {chances.mean():.3g} instead of 1: "
            "at some logged time it had no share, or the shares are not those of the draws"
        )
    return ""


def _check(shares: Floats, rewards: Floats, least: float, most: float) -> None:
    faults = []
    if not least < most:
        faults.append(f"rewards from {least:g} to {most:g}; give the least first")
    if not ((shares > 0) & (shares <= 1)).all():
        faults.append("a share outside (0, 1]; log the share of the version that was drawn")
    if not ((rewards >= least) & (rewards <= most)).all():
        faults.append(f"a reward outside [{least:g}, {most:g}]; cap it there")
    if faults:
        raise InvalidSpecError(tuple(faults), "log")
