"""The guards on error rate, and the certificates that allow promotion.

A unit is bad when it met a server error, a timeout or a reset on the variant that it was assigned to. `ErrorRatio`
compares the canary with the control beside it; `ErrorBudget` stands in where no control runs (blue-green, a first
deployment, the time at 100 %). A certificate is a guard with the question turned round: is it proven that the canary
is good enough?
"""

from dataclasses import dataclass
from math import log

from taxiway_serving.answers import Answer
from taxiway_serving.rollout.guard import Reading, Terms
from taxiway_serving.statistics.label import (
    FLAWLESS_WEIGHTS,
    HARM_RATIOS,
    SAFE_RATIOS,
    Counts,
    harmful_rates,
    label_terms,
    log_mean_exp,
    rate_terms,
    safe_rates,
)


def _added(state: Terms, terms: Terms) -> Terms:
    return tuple(old + new for old, new in zip(state, terms, strict=True))


def _reading(name: str, log_e: float, alpha: float, units: int, reason: str) -> Reading:
    """Return what the evidence says; with no units it says nothing."""
    threshold = -log(alpha)
    answer = Answer.YES if log_e >= threshold else Answer.NO if units else Answer.UNKNOWN
    return Reading(name=name, answer=answer, log_e=log_e, threshold=threshold, reason=reason)


def _rates(total: Counts) -> str:
    canary = f"{total.bad_canary} of {total.canary} canary units bad"
    return f"{canary}, {total.bad_control} of {total.control} control units"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRatio:
    """Harm: the canary's rate of bad units is above the control's. Learns only while both have traffic.

    Attributes:
        alpha: Probability, over all looks of the rollout, of calling a healthy canary harmful; in (0, 1).
    """

    alpha: float
    name: str = "error_ratio"

    def start(self) -> Terms:
        return (0.0,) * len(HARM_RATIOS)

    def update(self, state: Terms, interval: Counts, share: float) -> Terms:
        if not 0 < share < 1:
            return state
        return _added(state, label_terms(interval, share, null_ratio=1.0, ratios=HARM_RATIOS))

    def judge(self, state: Terms, total: Counts) -> Reading:
        units = min(total.canary, total.control)
        return _reading(
            self.name,
            log_mean_exp(state),
            self.alpha,
            units,
            f"{_rates(total)}; more errors than the control at alpha {self.alpha:g}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBudget:
    """Harm: the canary's rate of bad units is above the SLO's budget. Learns only where no control runs beside it.

    Beside a control it stays silent: an incident that hits both versions is not the canary's fault.

    Attributes:
        alpha: As of `ErrorRatio`.
        budget: Share of bad requests that the SLO allows, 1 - availability, in (0, 1). A unit's requests count up to
            its first bad one, so a user for whom everything fails is one failure.
    """

    alpha: float
    budget: float
    name: str = "error_budget"

    def start(self) -> Terms:
        return (0.0,) * len(HARM_RATIOS)

    def update(self, state: Terms, interval: Counts, share: float) -> Terms:
        if share < 1:
            return state
        rates = harmful_rates(self.budget)
        return _added(
            state, rate_terms(interval.bad_canary, interval.requests, limit=self.budget, rates=rates)
        )

    def judge(self, state: Terms, total: Counts) -> Reading:
        units = total.canary
        return _reading(
            self.name,
            log_mean_exp(state),
            self.alpha,
            units,
            f"{_rates(total)}; over the budget of {self.budget:.3%} at alpha {self.alpha:g}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioCertificate:
    """Safety: the canary's bad rate is proven to be below `most` times the control's.

    Attributes:
        alpha: Probability of certifying a canary that is not; in (0, 1).
        most: Ratio of bad rates that may not be reached, > 1.
    """

    alpha: float
    most: float = 2.0
    name: str = "ratio_certificate"

    def start(self) -> Terms:
        return (0.0,) * len(SAFE_RATIOS)

    def update(self, state: Terms, interval: Counts, share: float) -> Terms:
        if not 0 < share < 1:
            return state
        return _added(state, label_terms(interval, share, null_ratio=self.most, ratios=SAFE_RATIOS))

    def judge(self, state: Terms, total: Counts) -> Reading:
        units = min(total.canary, total.control)
        return _reading(
            self.name,
            log_mean_exp(state),
            self.alpha,
            units,
            f"{_rates(total)}; under {self.most:g} times the control's errors at alpha {self.alpha:g}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetCertificate:
    """Safety: the canary's bad rate is proven to be under the SLO's budget. A flawless canary passes by this one.

    Attributes:
        alpha: As of `RatioCertificate`.
        budget: As of `ErrorBudget`. About 340 flawless units prove a budget of 1 %, 3,400 one of 0.1 %.
    """

    alpha: float
    budget: float
    name: str = "budget_certificate"

    def start(self) -> Terms:
        return (0.0,) * len(FLAWLESS_WEIGHTS)

    def update(self, state: Terms, interval: Counts, share: float) -> Terms:
        rates = safe_rates(self.budget)
        return _added(state, rate_terms(interval.bad_canary, interval.fresh, limit=self.budget, rates=rates))

    def judge(self, state: Terms, total: Counts) -> Reading:
        units = total.canary
        return _reading(
            self.name,
            log_mean_exp(state, FLAWLESS_WEIGHTS),
            self.alpha,
            units,
            f"{_rates(total)}; under the budget of {self.budget:.3%} at alpha {self.alpha:g}",
        )
