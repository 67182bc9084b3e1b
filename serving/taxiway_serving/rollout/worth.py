"""The guards on what a version is worth to its users: rewards beside the control's, and a user's own limits.

A limit promises no error rate, so it takes no part of alpha: it does what it was told, at every measurement. It looks
at the candidate alone: what harms both versions alike crosses it as well.
"""

from dataclasses import dataclass

from taxiway_serving.answers import Answer
from taxiway_serving.rollout.guard import EProcess, Interval, Reading, Terms, added
from taxiway_serving.statistics.betting import FALL_RATIOS, RISE_RATIOS, bounded_terms
from taxiway_serving.statistics.label import Counts, log_mean_exp


@dataclass(frozen=True, slots=True, kw_only=True)
class Earnings(EProcess):
    """Harm: the candidate earns less than the control; of a metric that should be low, more.

    With `is_gain` it is the question turned round: the candidate is proven to be better.

    Attributes:
        metric: Name of the metric.
        direction: `up` or `down`: which way is better.
    """

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
        values = [value for value in interval.values if 0 < value[2] < 1]
        if not values:
            return state
        learned = added(state[:-1], bounded_terms(values, self._ratios))
        return (*learned, state[-1] + len(values))

    def log_e(self, state: Terms) -> float:
        return log_mean_exp(state[:-1])

    def is_proven(self, state: Terms) -> bool:
        return max(state[:-1]) >= self.threshold and self.log_e(state) >= self.threshold

    def judge(self, state: Terms, total: Counts) -> Reading:
        units = round(state[-1])
        word = "better" if self.is_gain else "worse"
        reason = f"{self.metric}: {units} rewards; {word} than the control's"
        return self.reading(self.name, state, units, reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Harm by a user's own rule: a query's value was on the wrong side of its limit too often.

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
        value = interval.measured
        return state if value is None else self.measured(state, value)

    def measured(self, state: Terms, value: float) -> Terms:
        """Return the state after one more measurement."""
        is_right = value >= self.limit if self.direction == "up" else value <= self.limit
        return (state[0] + (not is_right), state[1] + 1)

    def is_proven(self, state: Terms) -> bool:
        return state[0] > self.failure_limit

    def judge(self, state: Terms, total: Counts) -> Reading:
        failed, seen = round(state[0]), round(state[1])
        answer = Answer.YES if self.is_proven(state) else Answer.NO if seen else Answer.UNKNOWN
        wrong = "below" if self.direction == "up" else "above"
        return Reading(
            name=self.name,
            answer=answer,
            log_e=float(failed),
            threshold=self.failure_limit + 1.0,
            reason=f"{self.metric}: {failed} of {seen} values {wrong} {self.limit:g}; {self.failure_limit} are borne",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batched(Threshold):
    """Harm by a user's own rule on what Taxiway counts itself: each so many units of the candidate are a measurement.

    Attributes:
        units: How many, >= 1; what one look brings is never divided.
        low: What a reward of 0 stands for; high, one of 1. Bad units count as they are.
        is_earned: Whether the candidate's rewards are measured, by their mean; else its bad units, by their share.
    """

    units: int
    low: float = 0.0
    high: float = 1.0
    is_earned: bool = False

    def start(self) -> Terms:
        return (0.0, 0.0, 0.0, 0.0)

    def update(self, state: Terms, interval: Interval) -> Terms:
        units, total = self._news(interval)
        if not units:
            return state
        units, total = state[2] + units, state[3] + total
        if units < self.units:
            return (*state[:2], units, total)
        mean = total / units
        return (*self.measured(state[:2], self.low + mean * (self.high - self.low)), 0.0, 0.0)

    def _news(self, interval: Interval) -> tuple[float, float]:
        if not self.is_earned:
            return float(interval.counts.canary), float(interval.counts.bad_canary)
        own = [value for is_candidate, value, _ in interval.values if is_candidate]
        return float(len(own)), sum(own)
