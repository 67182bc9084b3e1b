"""The guards on rates of bad units, and the certificates that allow promotion.

A unit is bad by its metric: it met a server error, an answer slower than a limit, a 4xx, an answer that breaks the
contract. `Ratio` compares the candidate with the control beside it; `Budget` and `Frozen` stand in where no control
runs (blue-green, a first deployment, the time at 100 %). A certificate is a guard with the question turned round: is it
proven that the candidate is good enough?
"""

from dataclasses import dataclass

from taxiway_serving.rollout.guard import EProcess, Interval, Reading, Terms, added
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
from taxiway_serving.statistics.quantiles import frozen_rate

FROZEN_UNITS = 100
"""Control units from which a frozen rate is worth comparing with."""
HIGHEST_LIMIT = 0.99


def _rates(total: Counts) -> str:
    canary = f"{total.bad_canary} of {total.canary} canary units bad"
    return f"{canary}, {total.bad_control} of {total.control} control units"


def _upper_rate(total: Counts, alpha: float) -> float:
    """Return a rate that the control's own is below, but for a chance of alpha; 1 where too little is known."""
    if total.control < FROZEN_UNITS:
        return 1.0
    return frozen_rate(total.bad_control, total.control, confidence=1 - alpha) or 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio(EProcess):
    """Harm: the candidate's rate of bad units is above the control's. Learns only while both have traffic.

    Attributes:
        what: What a bad unit met, in the plural, for the reason.
    """

    name: str = "error_ratio"
    what: str = "errors"

    def start(self) -> Terms:
        return (0.0,) * len(HARM_RATIOS)

    def update(self, state: Terms, interval: Interval) -> Terms:
        counts = interval.counts
        if not interval.is_beside or not (counts.bad_canary or counts.bad_control):
            return state
        return added(state, label_terms(counts, interval.share, null_ratio=1.0, ratios=HARM_RATIOS))

    def judge(self, state: Terms, total: Counts) -> Reading:
        units = min(total.canary, total.control)
        return self.reading(self.name, state, units, f"{_rates(total)}; more {self.what} than the control")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget(EProcess):
    """Harm: the candidate's rate of bad units is above a budget. Learns only where hardly any control runs beside it.

    Beside a control it stays silent: an incident that hits both versions is not the candidate's fault. For the same
    reason a control that was itself over the budget sets the limit: to go back to it would mend nothing.

    Attributes:
        budget: Share of bad requests that is allowed, such as 1 - availability, in (0, 1). A unit's requests count up
            to its first bad one, so a user for whom everything fails is one failure.
    """

    budget: float
    name: str = "error_budget"

    def start(self) -> Terms:
        return (0.0,) * len(HARM_RATIOS)

    def update(self, state: Terms, interval: Interval) -> Terms:
        counts = interval.counts
        if not interval.is_alone or not counts.requests:
            return state
        limit = self._limit(interval.total)
        return added(
            state, rate_terms(counts.bad_canary, counts.requests, limit=limit, rates=harmful_rates(limit))
        )

    def judge(self, state: Terms, total: Counts) -> Reading:
        reason = f"{_rates(total)}; over the budget of {self._limit(total):.3%}"
        return self.reading(self.name, state, total.canary, reason)

    def _limit(self, total: Counts) -> float:
        if total.bad_control <= self.budget * total.control or total.control < FROZEN_UNITS:
            return self.budget
        return max(self.budget, min(HIGHEST_LIMIT, _upper_rate(total, self.alpha / 2)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen(EProcess):
    """Harm: with all the traffic the candidate's rate is above what the control's was while it ran beside it.

    Half of alpha is for a control that was lucky, half for a candidate that is not.

    Attributes:
        least: Rate that is allowed at least, in (0, 1): a control without one bad unit sets no rate of zero.
    """

    name: str
    what: str
    least: float = 0.01

    @property
    def threshold(self) -> float:
        return EProcess(alpha=self.alpha / 2).threshold

    def start(self) -> Terms:
        return (0.0,) * len(HARM_RATIOS)

    def update(self, state: Terms, interval: Interval) -> Terms:
        counts, total = interval.counts, interval.total
        is_comparable = interval.is_alone and not interval.is_chosen and total.control >= FROZEN_UNITS
        if not is_comparable or not counts.canary:
            return state
        limit = min(HIGHEST_LIMIT, max(self.least, _upper_rate(total, self.alpha / 2)))
        return added(
            state, rate_terms(counts.bad_canary, counts.canary, limit=limit, rates=harmful_rates(limit))
        )

    def judge(self, state: Terms, total: Counts) -> Reading:
        units = total.canary if total.control >= FROZEN_UNITS else 0
        return self.reading(
            self.name, state, units, f"{_rates(total)}; more {self.what} than the control had"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioCertificate(EProcess):
    """Safety: the candidate's bad rate is proven to be below `most` times the control's.

    Attributes:
        most: Ratio of bad rates that may not be reached, > 1.
    """

    most: float = 2.0
    name: str = "ratio_certificate"

    def start(self) -> Terms:
        return (0.0,) * len(SAFE_RATIOS)

    def update(self, state: Terms, interval: Interval) -> Terms:
        counts = interval.counts
        if not interval.is_beside or not (counts.bad_canary or counts.bad_control):
            return state
        return added(state, label_terms(counts, interval.share, null_ratio=self.most, ratios=SAFE_RATIOS))

    def judge(self, state: Terms, total: Counts) -> Reading:
        units = min(total.canary, total.control)
        reason = f"{_rates(total)}; under {self.most:g} times the control's errors"
        return self.reading(self.name, state, units, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetCertificate(EProcess):
    """Safety: the candidate's bad rate is proven to be under the SLO's budget. A flawless one passes by this one.

    Units count, not requests: one who comes again proves nothing new, and one who fails later is taken back.

    Attributes:
        budget: As of `Budget`. About 410 flawless units prove a budget of 1 %, 4,100 one of 0.1 %.
    """

    budget: float
    name: str = "budget_certificate"

    def start(self) -> Terms:
        return (0.0,) * len(FLAWLESS_WEIGHTS)

    def update(self, state: Terms, interval: Interval) -> Terms:
        counts = interval.counts
        if interval.is_chosen or not (counts.fresh or counts.bad_canary):
            return state
        rates = safe_rates(self.budget)
        return added(state, rate_terms(counts.bad_canary, counts.fresh, limit=self.budget, rates=rates))

    def log_e(self, state: Terms) -> float:
        return log_mean_exp(state, FLAWLESS_WEIGHTS)

    def judge(self, state: Terms, total: Counts) -> Reading:
        reason = f"{_rates(total)}; under the budget of {self.budget:.3%}"
        return self.reading(self.name, state, total.canary, reason)
