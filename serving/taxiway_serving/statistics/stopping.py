"""When a bandit has said enough: who leads, how surely, and how much might still be gained. Pure.

To stop is a decision about reward, not evidence that the arms differ: of equal arms it picks one, which costs
nothing. What may be called significant is an e-value's to say (`label.py`, `betting.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.statistics.posterior import Arm, Floats, Posterior, RewardKind, posterior
from taxiway_serving.statistics.thompson import p_best_of, p_within, value_remaining


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a bandit stands.

    Attributes:
        leader: Index of the arm with the highest posterior mean.
        p_best: Each arm's probability of being the best.
        remaining: As of `value_remaining`.
        is_decided: Whether the rule holds.
        reason: What it found, in words.
    """

    leader: int
    p_best: tuple[float, ...]
    remaining: float
    is_decided: bool
    reason: str


def standing(
    arms: Sequence[Arm], *, kind: RewardKind = "binary", control: int = 0, rule: StopRule = DEFAULT_RULE
) -> Standing:
    """Return how a bandit stands, and whether it may stop.

    Args:
        arms: At least two.
        kind: As of `thompson.weights`.
        control: Index of the arm that was live before.
        rule: What must hold.

    Raises:
        InvalidSpecError: If there are fewer than two arms.
    """
    if len(arms) < 2:
        raise InvalidSpecError((f"{len(arms)} arms; a bandit that may stop has at least 2",), "arms")
    posteriors = posterior(arms, kind)
    seen = [arm.total if kind == "binary" else arm.exposures for arm in arms]
    chances, remaining = p_best_of(posteriors), value_remaining(arms, kind=kind)
    leader = int(posteriors.means.argmax())
    fewest = min(seen[leader], seen[control])
    is_decided = bool(holds(posteriors, np.array(seen), control=control, rule=rule))
    what = "successes" if kind == "binary" else "exposures"
    return Standing(
        leader=leader,
        p_best=tuple(chances.tolist()),
        remaining=remaining,
        is_decided=is_decided,
        reason=(
            f"best with probability {chances[leader]:.3f} (needs {rule.p_best:g}), at most {remaining:.2%} left to "
            f"gain (needs {rule.remaining:.2%}), {fewest:g} {what} (needs {rule.successes:g})"
        ),
    )


def holds(
    posteriors: Posterior, seen: Floats, *, control: int = 0, rule: StopRule = DEFAULT_RULE
) -> NDArray[np.bool_]:
    """Return whether the rule holds, for many bandits at once; `seen` is successes or exposures, shape (..., K)."""
    leaders = posteriors.means.argmax(-1)[..., None]
    fewest = np.minimum(np.take_along_axis(seen, leaders, -1)[..., 0], seen[..., control])
    sure = np.take_along_axis(p_best_of(posteriors), leaders, -1)[..., 0] >= rule.p_best
    enough = sure & (fewest >= rule.successes)
    return np.asarray(
        enough & (p_within(posteriors, np.full(fewest.shape, rule.remaining)) >= REMAINING_LEVEL)
    )
