"""E-processes on counts of bad units: evidence that stays valid at every look.

An e-process is a running product that has mean at most 1 under its null hypothesis, whatever the stopping rule; by
Ville's inequality it reaches 1/alpha with probability at most alpha. So a guard may look after every request and
still roll back a healthy version with probability at most alpha. Values are kept as natural logarithms. What a unit
is, and what is bad, the caller decides; nothing here knows of versions, clocks or Envoy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import exp, inf, log
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxiway_serving.errors import InvalidSpecError

Floats = NDArray[np.float64]
Count = TypeVar("Count", float, Floats)

HARM_RATIOS = (1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
"""Alternatives of a guard: the canary's bad rate is this many times the limit."""

SAFE_RATIOS = (0.8, 0.5, 0.2, 0.1)
"""Alternatives of a certificate: the canary's bad rate is this part of the limit."""

FLAWLESS_WEIGHTS = (0.7, 0.1, 0.1, 0.1)
FLAWLESS_PARTS = (0.01, 0.1, 0.25, 0.5)
"""Mixture of a budget certificate: most of its weight on a version that hardly ever fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Units of one interval, or of many added up.

    Attributes:
        canary: Canary units at risk, >= 0.
        control: Control units at risk, >= 0.
        bad_canary: Canary units whose first bad event falls in the interval, >= 0.
        bad_control: The same of the control.
        fresh: Canary units at risk seen for the first time in the rollout, >= 0: what a certificate counts, since the
            same healthy unit seen again proves nothing new.
        spent: Canary units seen for the first time that were bad before, on another version, >= 0: they prove nothing
            any more, and yet they have met the canary.
        past_risk: Units of both that were bad before, >= 0: no evidence, but they ask.
        requests: Requests of the canary's units at risk, each unit's up to and with its first bad one, >= 0: what a
            budget for single requests is held against.
    """

    canary: int = 0
    control: int = 0
    bad_canary: int = 0
    bad_control: int = 0
    fresh: int = 0
    requests: int = 0
    spent: int = 0
    past_risk: int = 0

    @property
    def met(self) -> int:
        """Canary units that met the canary for the first time, whatever they can still prove."""
        return self.fresh + self.spent

    @property
    def asking(self) -> int:
        """Units of both, whatever they can still prove."""
        return self.canary + self.control + self.past_risk

    def __post_init__(self) -> None:
        if self.bad_canary > self.canary or self.bad_control > self.control:
            raise InvalidSpecError(
                (f"more bad units than units in {self}; a bad unit is a unit at risk",), "counts"
            )
        if min(getattr(self, item.name) for item in fields(self)) < 0:
            raise InvalidSpecError((f"below zero in {self}; units are counted from 0",), "counts")

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            canary=self.canary + other.canary,
            control=self.control + other.control,
            bad_canary=self.bad_canary + other.bad_canary,
            bad_control=self.bad_control + other.bad_control,
            fresh=self.fresh + other.fresh,
            requests=self.requests + other.requests,
            spent=self.spent + other.spent,
            past_risk=self.past_risk + other.past_risk,
        )


NOTHING = Counts()


def log_mean_exp(log_values: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Return the logarithm of a weighted mean of exponentials, without overflow.

    Args:
        log_values: At least one value; -inf stands for zero.
        weights: Not negative, adding up to 1; None weighs all alike.
    """
    largest = max(*log_values, -1e300)
    parts = [exp(value - largest) for value in log_values]
    shares = [1 / len(parts)] * len(parts) if weights is None else weights
    whole = sum(share * part for share, part in zip(shares, parts, strict=True))
    return largest + log(whole) if whole > 0 else -inf


def log_means_exp(log_values: ArrayLike, weights: Sequence[float] | None = None) -> Floats:
    """Return the same for many e-processes at once, with the alternatives on the first axis."""
    values = np.asarray(log_values, np.float64)
    shares = np.full(len(values), 1 / len(values)) if weights is None else np.asarray(weights, np.float64)
    largest = np.maximum(values.max(0), -1e300)
    with np.errstate(divide="ignore"):
        return np.asarray(largest + np.log(np.tensordot(shares, np.exp(values - largest), 1)))


def label_terms(
    counts: Counts, share: float, *, null_ratio: float, ratios: Sequence[float]
) -> tuple[float, ...]:
    """Return one interval's log-likelihood ratio for each alternative ratio.

    Each unit is assigned by a hash, on its own. So of a unit that is bad, the null (bad rate of the canary =
    null_ratio x the control's) says with which probability it is the canary's, from the split alone: whatever the
    common rate, and however few units an interval has. Weight ramps and incidents that hit both arms do no harm.

    Args:
        counts: This interval's units; only the bad ones speak.
        share: The canary's share of the split, in (0, 1).
        null_ratio: Ratio of bad rates under the null, > 0.
        ratios: Alternatives, as multiples of null_ratio, > 0.

    Source: conditional (label) likelihood of two Poisson streams, Przyborowski and Wilenski (1940), Biometrika 31;
    used as an e-process with a uniform mixture over the alternatives.
    """
    bad = float(counts.bad_canary), float(counts.bad_control)
    return tuple(label_term(*bad, share, null_ratio=null_ratio, ratio=ratio) for ratio in ratios)


def label_term(
    bad_canary: Count, bad_control: Count, share: float, *, null_ratio: float, ratio: float
) -> Count:
    """Return the term of one alternative, for one rollout or for arrays of many."""
    under_null = share * null_ratio + 1 - share
    swing = log(under_null / (share * null_ratio * ratio + 1 - share))
    return bad_canary * log(ratio) + (bad_canary + bad_control) * swing


def rate_terms(bad: int, units: int, *, limit: float, rates: Sequence[float]) -> tuple[float, ...]:
    """Return one interval's log-likelihood ratio of each rate against a fixed limit.

    Args:
        bad: Bad units, 0 <= bad <= units.
        units: Units seen in the interval.
        limit: Rate under the null, in (0, 1).
        rates: Alternatives, each in (0, 1).

    Source: Bernoulli likelihood ratio (Wald 1945, Annals of Mathematical Statistics 16, pp. 117-186).
    """
    return tuple(rate_term(float(bad), float(units), limit=limit, rate=rate) for rate in rates)


def rate_term(bad: Count, units: Count, *, limit: float, rate: float) -> Count:
    """Return the term of one alternative, for one rollout or for arrays of many."""
    return bad * log(rate / limit) + (units - bad) * log((1 - rate) / (1 - limit))


def harmful_rates(limit: float) -> tuple[float, ...]:
    """Return alternatives above a rate limit in (0, 1): multiples of it, the large ones capped midway to 1."""
    return tuple(min(ratio * limit, (1 + limit) / 2) for ratio in HARM_RATIOS)


def safe_rates(limit: float) -> tuple[float, ...]:
    """Return alternatives below a rate limit in (0, 1), in the order of `FLAWLESS_WEIGHTS`."""
    return tuple(part * limit for part in FLAWLESS_PARTS)
