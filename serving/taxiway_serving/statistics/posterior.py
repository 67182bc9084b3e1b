"""What is known of a bandit's arms: sums of rewards, and the posteriors of their means. Nothing is decided here.

The arms are on the last axis; leading axes stand for many bandits at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

from taxiway_serving.errors import InvalidSpecError

RewardKind = Literal["binary", "continuous"]
Floats = NDArray[np.float64]

LARGE = 10.0
"""Parameters from which a Beta distribution is approximated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What was seen of one arm: sums, so that intervals add up and age.

    Attributes:
        exposures: Exposures whose reward would have come by now, >= 0; a fraction where `delays.py` credits a part.
        total: Sum of the rewards; of a binary reward the number of successes.
        squares: Sum of the squared rewards; only continuous rewards need it.
    """

    exposures: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        """Mean reward; 0 without exposures."""
        return self.total / self.exposures if self.exposures else 0.0

    def discounted(self, factor: float) -> "Arm":
        """Return the arm with its evidence shrunk by a factor in [0, 1], such as 0.5 ** (passed_s / half_life_s)."""
        return Arm(
            exposures=factor * self.exposures, total=factor * self.total, squares=factor * self.squares
        )

    def __add__(self, other: "Arm") -> "Arm":
        return Arm(
            exposures=self.exposures + other.exposures,
            total=self.total + other.total,
            squares=self.squares + other.squares,
        )


class Posterior(Protocol):
    """Posteriors of the arms' means, independent of each other. Pure."""

    @property
    def means(self) -> Floats:
        """Posterior means, shape (..., K)."""

    def cdf(self, x: Floats) -> Floats:
        """Return P(mean <= x) of each arm; x of a shape that broadcasts with (..., K, points)."""

    def quantile(self, levels: Floats) -> Floats:
        """Return each arm's quantiles, shape (..., K, points), at levels in (0, 1) that broadcast."""

    def places(self, levels: Floats) -> Floats:
        """Return about the same at less cost, for grids."""

    def unit_of_gain(self, leader: Floats, mean: Floats) -> Floats:
        """Return what a relative gain of 1 is, beside values (..., points) and the posterior mean of the leader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beta:
    """Posteriors of success rates, from a uniform prior: alpha = 1 + successes, beta = 1 + failures, both > 0."""

    alpha: Floats
    beta: Floats

    @property
    def means(self) -> Floats:
        return self.alpha / (self.alpha + self.beta)

    def cdf(self, x: Floats) -> Floats:
        return beta_cdf(self.alpha[..., None], self.beta[..., None], np.clip(x, 0, 1))

    def quantile(self, levels: Floats) -> Floats:
        return np.asarray(special.betaincinv(self.alpha[..., None], self.beta[..., None], levels))

    def places(self, levels: Floats) -> Floats:
        """Take the log odds as normal; their mean and variance are exact."""
        centre = special.psi(self.alpha) - special.psi(self.beta)
        spread = np.sqrt(special.polygamma(1, self.alpha) + special.polygamma(1, self.beta))
        return np.asarray(special.expit(centre[..., None] + spread[..., None] * special.ndtri(levels)))

    def unit_of_gain(self, leader: Floats, mean: Floats) -> Floats:
        return leader


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """Posteriors of means with unknown variance: location + scale x Student's t with `degrees` of freedom."""

    location: Floats
    scale: Floats
    degrees: Floats

    @property
    def means(self) -> Floats:
        return self.location

    def cdf(self, x: Floats) -> Floats:
        return np.asarray(
            special.stdtr(self.degrees[..., None], (x - self.location[..., None]) / self.scale[..., None])
        )

    def quantile(self, levels: Floats) -> Floats:
        t = np.asarray(special.stdtrit(self.degrees[..., None], levels))
        return np.asarray(self.location[..., None] + self.scale[..., None] * t)

    def places(self, levels: Floats) -> Floats:
        return self.quantile(levels)

    def unit_of_gain(self, leader: Floats, mean: Floats) -> Floats:
        return np.broadcast_to(np.abs(mean)[..., None], leader.shape)


def beta_cdf(alpha: Floats, beta: Floats, x: Floats) -> Floats:
    """Return the Beta distribution function; within 1e-4 where both parameters are `LARGE`, else exact.

    The approximation costs a tenth of the exact function, whose price grows with the counts.

    Args:
        alpha: Above 0, of a shape that broadcasts with the others.
        beta: Above 0.
        x: In [0, 1].

    Source: Peizer and Pratt (1968), Journal of the American Statistical Association 63, pp. 1416-1456.
    """
    is_large = np.minimum(alpha, beta) >= LARGE
    if not is_large.any():
        return np.asarray(special.betainc(alpha, beta, x))
    p = np.clip(x, 1e-12, 1 - 1e-12)
    q, size = 1 - p, alpha + beta - 1
    off = alpha - 1 / 3 - (size + 1 / 3) * p
    off = off + 0.02 * (q / alpha - p / beta + (q - 0.5) / (size + 1))
    skew = 1 + q * _skewness((alpha - 0.5) / (size * p)) + p * _skewness((beta - 0.5) / (size * q))
    found = np.asarray(special.ndtr(-off * np.sqrt(skew / ((size + 1 / 6) * p * q))))
    return np.asarray(special.betainc(alpha, beta, x, out=found, where=~is_large))


def _skewness(z: Floats) -> Floats:
    """Return (1 - z^2 + 2 z log z) / (1 - z)^2, by its series near 1."""
    rest = 1 - z
    is_near = np.abs(rest) < 1e-3
    series = rest * (1 / 3 + rest * (1 / 6 + rest / 10))
    apart = np.where(is_near, 1.0, rest)
    return np.where(is_near, series, (1 - z * z + 2 * z * np.log(z)) / apart**2)


def beta_posterior(exposures: Floats, successes: Floats) -> Beta:
    """Return posteriors of success rates; exposures credited below the successes count as those."""
    return Beta(alpha=1.0 + successes, beta=1.0 + np.maximum(exposures - successes, 0.0))


def student_posterior(exposures: Floats, totals: Floats, squares: Floats) -> Student:
    """Return posteriors of continuous rewards' means, from a normal-inverse-gamma prior worth one exposure.

    The prior has the mean and the variance of all arms together, so that no scale has to be given. Winsorise heavy
    tails first: one reward in a thousand that is a thousand times the others would decide alone.

    Source: conjugate update of the normal-inverse-gamma distribution; its marginal of the mean is Student's t.
    """
    seen = np.maximum(exposures.sum(-1, keepdims=True), 1.0)
    prior_mean = totals.sum(-1, keepdims=True) / seen
    prior_variance = np.maximum(squares.sum(-1, keepdims=True) / seen - prior_mean**2, 0.0)
    scale_floor = 1e-12 * (1.0 + prior_mean**2)
    own = totals / np.maximum(exposures, 1e-12)
    within = np.maximum(squares - exposures * own**2, 0.0)
    count = 1.0 + exposures
    location = (prior_mean + totals) / count
    shape = 1.0 + exposures / 2
    rate = (
        prior_variance
        + scale_floor
        + within / 2
        + exposures * np.where(exposures > 0, own - prior_mean, 0.0) ** 2 / (2 * count)
    )
    return Student(location=location, scale=np.sqrt(rate / (shape * count)), degrees=2 * shape)


def posterior(arms: Sequence[Arm], kind: RewardKind) -> Posterior:
    """Return the posteriors of a bandit's arms.

    Raises:
        InvalidSpecError: If there is no arm, a sum is negative where it cannot be.
    """
    faults = [] if arms else ["no arm; a bandit has at least one"]
    faults += [f"{arm} has sums below zero" for arm in arms if min(arm.exposures, arm.squares) < 0]
    if kind == "binary":
        faults += [f"{arm} has successes below zero" for arm in arms if arm.total < 0]
    if faults:
        raise InvalidSpecError(tuple(faults), "arms")
    exposures = np.array([arm.exposures for arm in arms], float)
    totals = np.array([arm.total for arm in arms], float)
    if kind == "binary":
        return beta_posterior(exposures, totals)
    return student_posterior(exposures, totals, np.array([arm.squares for arm in arms], float))


def interval(arm: Arm, kind: RewardKind = "binary", *, level: float = 0.95) -> tuple[float, float] | None:
    """Return an arm's central credible interval of its mean, for a report; None before its first exposure."""
    if not arm.exposures:
        return None
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    low, high = posterior([arm], kind).quantile(tails)[0].tolist()
    return low, high
