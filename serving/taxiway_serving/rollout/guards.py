"""The guards, and the certificates that allow promotion.

A unit is bad by its metric: it met a server error, an answer slower than a limit, a 4xx, an answer that breaks the
contract. `Ratio` compares the candidate with the control beside it; `Budget` stands in where no control runs
(blue-green, a first deployment, the time at 100 %). A certificate is a guard with the question turned round: is it
proven that the candidate is good enough?
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from taxiway_serving.answers import Answer
from taxiway_serving.rollout.guard import Interval, Reading, Terms
from taxiway_serving.statistics.betting import (
    FALL_RATIOS,
    RISE_RATIOS,
    beyond_noise_terms,
    bounded_terms,
    paired_terms,
)
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


def _added(state: Terms, terms: Sequence[float]) -> Terms:
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
class Ratio:
    """Harm: the candidate's rate of bad units is above the control's. Learns only while both have traffic.

    Attributes:
        alpha: Probability, over all looks of the rollout, of calling a healthy candidate harmful; in (0, 1).
        what: What a bad unit met, in the plural, for the reason.
    """

    alpha: float
    name: str = "error_ratio"
    what: str = "errors"

    def start(self) -> Terms:
        return (0.0,) * len(HARM_RATIOS)

    def update(self, state: Terms, interval: Interval) -> Terms:
        if not 0 < interval.share < 1:
            return state
        return _added(state, label_terms(interval.counts, interval.share, null_ratio=1.0, ratios=HARM_RATIOS))

    def judge(self, state: Terms, total: Counts) -> Reading:
        units = min(total.canary, total.control)
        reason = f"{_rates(total)}; more {self.what} than the control at alpha {self.alpha:g}"
        return _reading(self.name, log_mean_exp(state), self.alpha, units, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Harm: the candidate's rate of bad units is above a budget. Learns only where no control runs beside it.

    Beside a control it stays silent: an incident that hits both versions is not the candidate's fault.

    Attributes:
        alpha: As of `Ratio`.
        budget: Share of bad requests that is allowed, such as 1 - availability, in (0, 1). A unit's requests count up
            to its first bad one, so a user for whom everything fails is one failure.
    """

    alpha: float
    budget: float
    name: str = "error_budget"

    def start(self) -> Terms:
        return (0.0,) * len(HARM_RATIOS)

    def update(self, state: Terms, interval: Interval) -> Terms:
        if interval.share < 1:
            return state
        rates, counts = harmful_rates(self.budget), interval.counts
        return _added(state, rate_terms(counts.bad_canary, counts.requests, limit=self.budget, rates=rates))

    def judge(self, state: Terms, total: Counts) -> Reading:
        reason = f"{_rates(total)}; over the budget of {self.budget:.3%} at alpha {self.alpha:g}"
        return _reading(self.name, log_mean_exp(state), self.alpha, total.canary, reason)


FROZEN_UNITS = 100
"""Control units from which a frozen rate is worth comparing with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """Harm: at 100 % the candidate's rate is above what the control's was while it ran beside it.

    Attributes:
        alpha: As of `Ratio`.
        least: Rate that is allowed at least, in (0, 1): a control without one bad unit sets no rate of zero.
    """

    alpha: float
    name: str
    what: str
    least: float = 0.01

    def start(self) -> Terms:
        return (0.0,) * len(HARM_RATIOS)

    def update(self, state: Terms, interval: Interval) -> Terms:
        if interval.share < 1 or interval.total.control < FROZEN_UNITS:
            return state
        limit = self._limit(interval.total)
        counts = interval.counts
        return _added(
            state, rate_terms(counts.bad_canary, counts.canary, limit=limit, rates=harmful_rates(limit))
        )

    def judge(self, state: Terms, total: Counts) -> Reading:
        units = total.canary if total.control >= FROZEN_UNITS else 0
        reason = f"{_rates(total)}; more {self.what} than the control had, at alpha {self.alpha:g}"
        return _reading(self.name, log_mean_exp(state), self.alpha, units, reason)

    def _limit(self, total: Counts) -> float:
        known = frozen_rate(total.bad_control, total.control)
        return 0.99 if known is None else min(0.99, max(self.least, known))


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioCertificate:
    """Safety: the candidate's bad rate is proven to be below `most` times the control's.

    Attributes:
        alpha: Probability of certifying a candidate that is not; in (0, 1).
        most: Ratio of bad rates that may not be reached, > 1.
    """

    alpha: float
    most: float = 2.0
    name: str = "ratio_certificate"

    def start(self) -> Terms:
        return (0.0,) * len(SAFE_RATIOS)

    def update(self, state: Terms, interval: Interval) -> Terms:
        if not 0 < interval.share < 1:
            return state
        return _added(
            state, label_terms(interval.counts, interval.share, null_ratio=self.most, ratios=SAFE_RATIOS)
        )

    def judge(self, state: Terms, total: Counts) -> Reading:
        units = min(total.canary, total.control)
        reason = f"{_rates(total)}; under {self.most:g} times the control's errors at alpha {self.alpha:g}"
        return _reading(self.name, log_mean_exp(state), self.alpha, units, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetCertificate:
    """Safety: the candidate's bad rate is proven to be under the SLO's budget. A flawless one passes by this one.

    Attributes:
        alpha: As of `RatioCertificate`.
        budget: As of `Budget`. About 340 flawless units prove a budget of 1 %, 3,400 one of 0.1 %.
    """

    alpha: float
    budget: float
    name: str = "budget_certificate"

    def start(self) -> Terms:
        return (0.0,) * len(FLAWLESS_WEIGHTS)

    def update(self, state: Terms, interval: Interval) -> Terms:
        rates, counts = safe_rates(self.budget), interval.counts
        return _added(state, rate_terms(counts.bad_canary, counts.fresh, limit=self.budget, rates=rates))

    def judge(self, state: Terms, total: Counts) -> Reading:
        log_e = log_mean_exp(state, FLAWLESS_WEIGHTS)
        reason = f"{_rates(total)}; under the budget of {self.budget:.3%} at alpha {self.alpha:g}"
        return _reading(self.name, log_e, self.alpha, total.canary, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Earnings:
    """Harm: the candidate earns less than the control; of a metric that should be low, more.

    With `is_gain` it is the question turned round: the candidate is proven to be better.

    Attributes:
        alpha: As of `Ratio`.
        metric: Name of the metric.
        direction: `up` or `down`: which way is better.
    """

    alpha: float
    metric: str
    direction: str = "up"
    is_gain: bool = False

    @property
    def name(self) -> str:
        return f"{self.metric}_{'gain' if self.is_gain else 'drop'}"

    @property
    def _ratios(self) -> tuple[float, ...]:
        return FALL_RATIOS if (self.direction == "up") is not self.is_gain else RISE_RATIOS

    def start(self) -> Terms:
        return (0.0,) * (len(self._ratios) + 1)

    def update(self, state: Terms, interval: Interval) -> Terms:
        if not interval.values:
            return state
        learned = _added(state[:-1], bounded_terms(interval.values, self._ratios))
        return (*learned, state[-1] + len(interval.values))

    def judge(self, state: Terms, total: Counts) -> Reading:
        units = round(state[-1])
        word = "better" if self.is_gain else "worse"
        reason = f"{self.metric}: {units} rewards; {word} than the control's at alpha {self.alpha:g}"
        return _reading(self.name, log_mean_exp(state[:-1]), self.alpha, units, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Harm by a user's own rule: a query's value was on the wrong side of its limit too often.

    It promises no error rate: it does what it was told, at every measurement.

    Attributes:
        metric: Name of the metric.
        limit: Value that may not be crossed.
        direction: `up` if values below the limit are wrong, `down` if values above are.
        failure_limit: Wrong measurements that are borne, >= 0.
    """

    metric: str
    limit: float
    direction: str
    failure_limit: int

    @property
    def name(self) -> str:
        return f"{self.metric}_limit"

    def start(self) -> Terms:
        return (0.0, 0.0)

    def update(self, state: Terms, interval: Interval) -> Terms:
        if interval.measured is None:
            return state
        is_wrong = (
            interval.measured < self.limit if self.direction == "up" else interval.measured > self.limit
        )
        return (state[0] + is_wrong, state[1] + 1)

    def judge(self, state: Terms, total: Counts) -> Reading:
        failed, seen = round(state[0]), round(state[1])
        answer = Answer.YES if failed > self.failure_limit else Answer.NO if seen else Answer.UNKNOWN
        wrong = "below" if self.direction == "up" else "above"
        return Reading(
            name=self.name,
            answer=answer,
            log_e=float(failed),
            threshold=self.failure_limit + 1.0,
            reason=f"{self.metric}: {failed} of {seen} values {wrong} {self.limit:g}; {self.failure_limit} are borne",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Harm: mirrored answers of the candidate differ more often than the stable version's own noise.

    A mirrored request that the candidate did not answer differs.

    Attributes:
        alpha: As of `Ratio`.
    """

    alpha: float
    name: str = "difference"

    def start(self) -> Terms:
        return (0.0,) * (len(HARM_RATIOS) + 1)

    def update(self, state: Terms, interval: Interval) -> Terms:
        seen = interval.compared
        if not seen.samples:
            return state
        terms = paired_terms(seen.only_candidate, seen.only_noise, HARM_RATIOS)
        return (*_added(state[:-1], terms), state[-1] + seen.samples)

    def judge(self, state: Terms, total: Counts) -> Reading:
        units = round(state[-1])
        reason = f"{units} mirrored requests; answers differ beyond noise at alpha {self.alpha:g}"
        return _reading(self.name, log_mean_exp(state[:-1]), self.alpha, units, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class SameCertificate:
    """Safety: the candidate's answers are proven to differ beyond noise in less than a share of the requests.

    Attributes:
        alpha: As of `RatioCertificate`.
        most: Share of the requests, in (0, 1).
    """

    alpha: float
    most: float
    name: str = "same_certificate"

    def start(self) -> Terms:
        return (0.0,) * (len(FLAWLESS_WEIGHTS) + 1)

    def update(self, state: Terms, interval: Interval) -> Terms:
        seen = interval.compared
        if not seen.samples:
            return state
        terms = beyond_noise_terms(
            seen.only_candidate, seen.only_noise, seen.samples, limit=self.most
        )
        return (*_added(state[:-1], terms), state[-1] + seen.samples)

    def judge(self, state: Terms, total: Counts) -> Reading:
        units = round(state[-1])
        log_e = log_mean_exp(state[:-1], FLAWLESS_WEIGHTS)
        reason = f"{units} mirrored requests; under {self.most:.3%} differ at alpha {self.alpha:g}"
        return _reading(self.name, log_e, self.alpha, units, reason)
