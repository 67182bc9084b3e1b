"""What a guard is: a pure judge of evidence. A certificate that allows promotion has the same form.

Here are the Protocol, its values, and what every e-process shares; the guards themselves are in `guards.py`, `worth.py`
and `likeness.py`, and `judges.py` says which a rollout has. No clock, no network, no randomness.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any, Protocol

from taxiway_serving.answers import Answer
from taxiway_serving.rollout.observation import NO_COMPARISON, Compared, Value
from taxiway_serving.statistics.label import NOTHING, Counts, log_mean_exp

ALONE = 0.95
"""From this share on the control is too small to compare with: of a hundred who fail, five would be its own."""

Terms = tuple[float, ...]
"""A guard's state: one accumulated log-likelihood ratio for each of its alternatives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """What a guard learns from at one look.

    Attributes:
        counts: Units of its metric.
        total: Units of its metric since the rollout began, this look's included.
        values: Rewards of its metric.
        measured: A new measurement of its query; None if there is none.
        compared: Mirrored answers.
        share: The candidate's share of what it and stable have, 0 to 1; from `ALONE` on no control worth the name
            runs beside it.
        is_chosen: Whether the units chose the candidate themselves, by a header or a cookie: then they can be held
            against a promise only, never against other units.
    """

    counts: Counts = NOTHING
    total: Counts = NOTHING
    values: tuple[Value, ...] = ()
    measured: float | None = None
    compared: Compared = NO_COMPARISON
    share: float = 0.0
    is_chosen: bool = False

    @property
    def is_beside(self) -> bool:
        """Whether a control runs beside the candidate."""
        return 0 < self.share < 1

    @property
    def is_alone(self) -> bool:
        """Whether the candidate has hardly less than all the traffic that it and stable have."""
        return self.share >= ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a guard says now.

    Attributes:
        name: The guard's name, e.g. `error_ratio`.
        version: The candidate that it is about; 0 for the rollout as a whole.
        answer: YES it is proven (harm for a guard, safety for a certificate), NO it is not proven so far,
            UNKNOWN there is no evidence at all.
        log_e: Natural logarithm of the e-value.
        threshold: log_e at which the answer becomes YES.
        reason: The same in words.
        acts: Whether anything follows from it; a dry run only says it.
    """

    name: str
    answer: Answer
    log_e: float
    threshold: float
    reason: str
    version: int = 0
    acts: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the reading as plain JSON values, for the ledger."""
        return {
            "guard": self.name,
            "version": self.version,
            "answer": self.answer.name.lower(),
            "log_e": round(self.log_e, 4),
            "threshold": round(self.threshold, 4),
            "reason": self.reason,
            "acts": self.acts,
        }


class Guard(Protocol):
    """Judges one kind of evidence. Pure, without state of its own: the state is handed in and returned."""

    @property
    def name(self) -> str:
        """Part of the key of its state in the rollout's state; unique among a candidate's guards."""

    def start(self) -> Terms:
        """Return the state before any evidence."""

    def update(self, state: Terms, interval: Interval) -> Terms:
        """Return the state after one more interval; intervals with nothing to learn change nothing."""

    def is_proven(self, state: Terms) -> bool:
        """Return whether the reading's answer is YES. It is asked at every look, so it puts nothing in words."""

    def judge(self, state: Terms, total: Counts) -> Reading:
        """Return the reading; `total` is for the words of the reason and for UNKNOWN, never for the verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EProcess:
    """What guards and certificates by e-process have in common: proven where the mixture reaches 1 / alpha.

    Attributes:
        alpha: Probability, over all looks of the rollout, of an answer that is wrong; in (0, 1).
    """

    alpha: float

    @property
    def threshold(self) -> float:
        """Logarithm of the evidence that proves."""
        return -log(self.alpha)

    def log_e(self, state: Terms) -> float:
        """Return the logarithm of the evidence."""
        return log_mean_exp(state)

    def is_proven(self, state: Terms) -> bool:
        # A weighted mean is at most its largest part: most looks need no more than that.
        return max(state) >= self.threshold and self.log_e(state) >= self.threshold

    def reading(self, name: str, state: Terms, units: int, reason: str) -> Reading:
        """Return what the evidence says; with no units it says nothing."""
        log_e = self.log_e(state)
        answer = Answer.YES if self.is_proven(state) else Answer.NO if units else Answer.UNKNOWN
        told = f"{reason} at alpha {self.alpha:.2g}"
        return Reading(name=name, answer=answer, log_e=log_e, threshold=self.threshold, reason=told)


def added(state: Terms, terms: Sequence[float]) -> Terms:
    """Return the state after an interval's terms."""
    return tuple(old + new for old, new in zip(state, terms, strict=True))
