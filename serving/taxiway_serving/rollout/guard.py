"""What a guard is: a pure judge of evidence. A certificate that allows promotion has the same form.

Here are the Protocol and its values; `guards.py` holds the guards themselves, `judges.py` says which a rollout has. No
clock, no network, no randomness.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from taxiway_serving.answers import Answer
from taxiway_serving.rollout.observation import NO_COMPARISON, Compared, Value
from taxiway_serving.statistics.label import NOTHING, Counts

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
        share: The candidate's share of what it and stable have, 0 to 1; at 1 no control runs beside it.
    """

    counts: Counts = NOTHING
    total: Counts = NOTHING
    values: tuple[Value, ...] = ()
    measured: float | None = None
    compared: Compared = NO_COMPARISON
    share: float = 0.0


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

    def judge(self, state: Terms, total: Counts) -> Reading:
        """Return the reading; `total` is for the words of the reason and for UNKNOWN, never for the verdict."""
