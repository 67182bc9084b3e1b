"""Thompson sampling in batches, as weights: each arm's traffic is the probability that it is the best one.

Nothing is drawn: the posteriors of `posterior.py` are integrated on a grid, so the same evidence gives the same
weights. Functions of arrays take the arms on the last axis; leading axes stand for many bandits at once. What counts
as a reward, when to update and when to stop, the caller decides; other rules for weights are in `baselines.py`,
credit for late rewards in `delays.py`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.statistics.posterior import Arm, Beta, Floats, Posterior, RewardKind, posterior

LEADER_LEVELS = (np.arange(64) + 0.5) / 64
"""Places at which the leader's mean is taken when asking how much better another arm may be."""

TAILS = np.array([1e-6, 1e-3, 1 - 1e-3, 1 - 1e-6])
"""Quantiles beside those: where arms lie far apart, they keep a sure loser's probability near 0."""

POINTS_PER_ARM = 16
"""Quantiles that each arm gives to the grid that all share; keeps every probability within .005."""


def p_best(alphas: ArrayLike, betas: ArrayLike, points: int | None = None) -> Floats:
    """Return each arm's probability of having the highest success rate, from Beta posteriors.

    Args:
        alphas: 1 + successes of each arm, > 0, shape (..., K).
        betas: 1 + failures, > 0, the same shape.
        points: Points of the grid; None is `POINTS_PER_ARM` for each arm, within .005 of the exact integral.

    Returns:
        Probabilities of shape (..., K) that add up to 1.
    """
    alpha, beta = np.asarray(alphas, float), np.asarray(betas, float)
    return p_best_of(Beta(alpha=alpha, beta=beta), points)


def p_best_of(posteriors: Posterior, points: int | None = None) -> Floats:
    """Return each arm's probability of having the highest mean, for many bandits at once: shape (..., K).

    Each arm's density is integrated against the others' distribution functions, on a grid of all arms' quantiles.
    """
    arms = posteriors.means.shape[-1]
    own = max(2, (points or POINTS_PER_ARM * arms) // arms)
    levels = (np.arange(own) + (np.arange(arms)[:, None] + 0.5) / arms) / own
    levels = np.concatenate([levels, np.broadcast_to(TAILS, (arms, TAILS.size))], axis=-1)
    grid = posteriors.places(levels)
    grid = np.sort(grid.reshape(*grid.shape[:-2], -1), axis=-1)
    below = posteriors.cdf(grid[..., None, :])
    ends = np.ones_like(below[..., :1])
    below = np.concatenate([0 * ends, below, ends], axis=-1)
    others = _product_of_others(below)
    mass = (np.diff(below, axis=-1) * (others[..., 1:] + others[..., :-1])).sum(-1)
    return np.asarray(mass / mass.sum(-1, keepdims=True))


def floored(p: ArrayLike, floor: float, most: float = 1.0) -> Floats:
    """Return weights with exploration added and a ceiling kept: floor + (1 - K floor) p, then nothing above `most`.

    An additive floor keeps the order of the arms, which clipping does not. What a capped arm gives up, the others
    get in proportion to what they have.

    Args:
        p: Shares that add up to 1, shape (..., K).
        floor: Least share of an arm, 0 <= floor <= 1 / K.
        most: Highest share of an arm, 1 / K <= most <= 1.

    Raises:
        InvalidSpecError: If floor and most leave no room for K arms.
    """
    shares = np.asarray(p, float)
    arms = shares.shape[-1]
    faults = []
    if not 0 <= floor <= 1 / arms:
        faults.append(f"floor {floor:g} for {arms} arms; choose one in [0, {1 / arms:.4g}]")
    if not 1 / arms - 1e-12 <= most <= 1:
        faults.append(f"highest weight {most:g} for {arms} arms; choose one in [{1 / arms:.4g}, 1]")
    if faults:
        raise InvalidSpecError(tuple(faults), "weights")
    return _capped(floor + (1 - arms * floor) * shares, most)


def default_floor(arms: int) -> float:
    """Return the exploration floor for a number of arms: 1 % each, and at most 5 % for all where there are many."""
    return 0.01 if arms <= 5 else 0.05 / arms


def weights(
    arms: Sequence[Arm], *, kind: RewardKind = "binary", floor: float = 0.01, most: float = 1.0
) -> tuple[float, ...]:
    """Return the next batch's weights, in the order of the arms, adding up to 1.

    Args:
        arms: At least one.
        kind: "binary" where each reward is 0 or 1, else "continuous" (any scale, the higher the better).
        floor: As of `floored`.
        most: As of `floored`.
    """
    return tuple(floored(p_best_of(posterior(arms, kind)), floor, most).tolist())


def p_within(posteriors: Posterior, gain: ArrayLike) -> Floats:
    """Return the probability that no other arm is better than the leader by more than a relative gain.

    Args:
        posteriors: Of shape (..., K).
        gain: Relative to the leader, >= 0, of shape (...).

    Source: value remaining of Google Analytics' content experiments; here by quadrature instead of draws.
    """
    means = posteriors.means
    is_leader = np.arange(means.shape[-1]) == means.argmax(-1)[..., None]
    own = np.where(is_leader[..., None], posteriors.places(LEADER_LEVELS), 0.0).sum(-2)
    unit = posteriors.unit_of_gain(own, np.where(is_leader, means, 0.0).sum(-1))
    here = np.where(is_leader[..., None], posteriors.cdf(own[..., None, :]), 0.0).sum(-2)
    there = posteriors.cdf((own + np.asarray(gain, float)[..., None] * unit)[..., None, :])
    others = np.where(is_leader[..., None], 1.0, there).prod(-2)
    ends = np.ones_like(here[..., :1])
    mass = np.diff(np.concatenate([0 * ends, here, ends], -1), axis=-1)
    return np.asarray((mass * (_padded(others)[..., 1:] + _padded(others)[..., :-1])).sum(-1) / 2)


def _product_of_others(factors: Floats) -> Floats:
    """Return for each arm (last axis but one) the product of the other arms' factors, without dividing."""
    product = np.ones_like(factors)
    ahead = np.ones_like(factors[..., 0, :])
    behind = np.ones_like(factors[..., 0, :])
    arms = factors.shape[-2]
    for arm in range(arms):
        product[..., arm, :] *= ahead
        ahead = ahead * factors[..., arm, :]
        product[..., arms - 1 - arm, :] *= behind
        behind = behind * factors[..., arms - 1 - arm, :]
    return product


def _capped(shares: Floats, most: float) -> Floats:
    """Move what lies above `most` to the arms below it, in proportion; each round settles at least one arm."""
    settled = np.zeros_like(shares, dtype=bool)
    for _ in range(shares.shape[-1]):
        settled |= shares > most
        room = 1 - most * settled.sum(-1, keepdims=True)
        free = np.where(settled, 0.0, shares)
        held = free.sum(-1, keepdims=True)
        open_arms = np.maximum((~settled).sum(-1, keepdims=True), 1)
        spread = np.where(held > 0, free * room / np.where(held > 0, held, 1), room / open_arms)
        shares = np.where(settled, most, spread)
    return shares


def _padded(values: Floats) -> Floats:
    return np.concatenate([values[..., :1], values, values[..., -1:]], axis=-1)
