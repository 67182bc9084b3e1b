"""When a bandit has said enough: who leads, how surely, and how much might still be gained. Pure.

To stop is a decision about reward, not evidence that the arms differ: of equal arms it picks one, which costs
nothing. What may be called significant is an e-value's to say (`label.py`, `betting.py`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taxiway_serving.statistics.posterior import Floats, Posterior
from taxiway_serving.statistics.thompson import p_best_of, p_within


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRule:
    """What must hold together before a leader wins.

    Attributes:
        p_best: Least probability that the leader is the best arm, in (0, 1).
        remaining: Highest relative gain that any other arm may still promise, at the posterior's 95 % quantile.
        successes: Least successes (continuous rewards: exposures) of the leader and of the control each.
    """

    p_best: float = 0.95
    remaining: float = 0.01
    successes: float = 40.0


REMAINING_LEVEL = 0.95

DEFAULT_RULE = StopRule()


def holds(
    posteriors: Posterior, seen: Floats, *, control: int = 0, rule: StopRule = DEFAULT_RULE
) -> NDArray[np.bool_]:
    """Return whether the rule holds, for many bandits at once.

    Args:
        posteriors: Of at least two arms each, shape (..., K).
        seen: Successes of each arm; of continuous rewards its exposures.
        control: Index of the arm that was live before.
        rule: What must hold together.
    """
    leaders = posteriors.means.argmax(-1)[..., None]
    fewest = np.minimum(np.take_along_axis(seen, leaders, -1)[..., 0], seen[..., control])
    sure = np.take_along_axis(p_best_of(posteriors), leaders, -1)[..., 0] >= rule.p_best
    enough = sure & (fewest >= rule.successes)
    return np.asarray(
        enough & (p_within(posteriors, np.full(fewest.shape, rule.remaining)) >= REMAINING_LEVEL)
    )
