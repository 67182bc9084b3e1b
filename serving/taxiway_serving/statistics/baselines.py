"""The plain bandit rules beside Thompson sampling, as weights of a batch: epsilon-greedy and UCB1.

They exist to be compared with. Arms on the last axis, leading axes for many bandits at once; nothing is drawn.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.statistics.posterior import Arm, Floats


def epsilon_greedy(arms: Sequence[Arm], epsilon: float = 0.1) -> tuple[float, ...]:
    """Return weights: epsilon spread over all arms, the rest on the highest mean; equal means share it.

    Args:
        arms: At least one. An arm that was never shown counts as if it had the highest mean.
        epsilon: Share of exploration, in [0, 1].

    Raises:
        InvalidSpecError: If epsilon is outside [0, 1].
    """
    return tuple(greedy_shares(*_sums(arms), epsilon).tolist())


def ucb(arms: Sequence[Arm], batch: float = 1000.0, *, scale: float | None = None) -> tuple[float, ...]:
    """Return weights: the shares of a batch that UCB1 gives each arm while no reward of the batch is known yet.

    Args:
        arms: At least one.
        batch: Exposures until the next update, > 0.
        scale: Range of the rewards; None takes 1 for binary ones (no squares are kept), else twice their pooled
            standard deviation, which is what 1 is to a reward of 0 or 1.

    Raises:
        InvalidSpecError: If batch is not positive.

    Source: Auer, Cesa-Bianchi and Fischer (2002), Machine Learning 47, pp. 235-256.
    """
    exposures, totals = _sums(arms)
    width = _pooled_range(arms) if scale is None else scale
    return tuple(ucb_shares(exposures, totals, batch, width).tolist())


def greedy_shares(exposures: ArrayLike, totals: ArrayLike, epsilon: float) -> Floats:
    """Return the weights of `epsilon_greedy` for sums of shape (..., K)."""
    if not 0 <= epsilon <= 1:
        raise InvalidSpecError((f"epsilon is {epsilon:g}; choose one in [0, 1]",), "epsilon_greedy")
    means = _means(np.asarray(exposures, float), np.asarray(totals, float), unseen=np.inf)
    leads = means == means.max(-1, keepdims=True)
    greedy = leads / leads.sum(-1, keepdims=True)
    return np.asarray(epsilon / means.shape[-1] + (1 - epsilon) * greedy)


def ucb_shares(exposures: ArrayLike, totals: ArrayLike, batch: float, scale: float = 1.0) -> Floats:
    """Return the weights of `ucb` for sums of shape (..., K).

    UCB1 shows the arm with the highest index, mean + scale sqrt(2 ln t / n), whose n grows by that. Over a batch the
    indices so come down to one level; the level is found by bisection.
    """
    if batch <= 0:
        raise InvalidSpecError((f"the batch has {batch:g} exposures; UCB needs more than 0",), "ucb")
    shown = np.asarray(exposures, float)
    means = _means(shown, np.asarray(totals, float), unseen=None)
    horizon = np.maximum(shown.sum(-1, keepdims=True) + batch, 2.0)
    reach = 2 * scale**2 * np.log(horizon)
    low = means.max(-1, keepdims=True)
    high = low + np.sqrt(reach * means.shape[-1] / batch) + scale * 1e-9
    for _ in range(60):
        level = (low + high) / 2
        added = _added(level, means, shown, reach)
        too_many = added.sum(-1, keepdims=True) > batch
        low, high = np.where(too_many, level, low), np.where(too_many, high, level)
    added = _added(high, means, shown, reach)
    return np.asarray(added / added.sum(-1, keepdims=True))


def _added(level: Floats, means: Floats, shown: Floats, reach: Floats) -> Floats:
    gap = np.maximum(level - means, 1e-12)
    return np.asarray(np.maximum(reach / gap**2 - shown, 0.0))


def _means(exposures: Floats, totals: Floats, *, unseen: float | None) -> Floats:
    """Return mean rewards; an arm never shown gets `unseen`, or the mean of all where that is None."""
    seen = exposures > 0
    pooled = totals.sum(-1, keepdims=True) / np.maximum(exposures.sum(-1, keepdims=True), 1e-12)
    other = pooled if unseen is None else np.full_like(pooled, unseen)
    return np.asarray(np.where(seen, totals / np.where(seen, exposures, 1.0), other))


def _sums(arms: Sequence[Arm]) -> tuple[Floats, Floats]:
    if not arms:
        raise InvalidSpecError(("no arm; a bandit has at least one",), "arms")
    return np.array([arm.exposures for arm in arms], float), np.array([arm.total for arm in arms], float)


def _pooled_range(arms: Sequence[Arm]) -> float:
    exposures = sum(arm.exposures for arm in arms)
    squares = sum(arm.squares for arm in arms)
    if not exposures or not squares:
        return 1.0
    mean = sum(arm.total for arm in arms) / exposures
    return float(max(2 * max(squares / exposures - mean**2, 0.0) ** 0.5, 1e-9))
