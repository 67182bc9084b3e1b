"""What a guard is: a pure judge of evidence. A certificate that allows promotion has the same form.

Here are the Protocol and its values; `guards.py` holds the guards themselves. No clock, no network, no
randomness.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from taxiway_serving.answers import Answer
from taxiway_serving.statistics.label import Counts

Terms = tuple[float, ...]
"""A guard's state: one accumulated log-likelihood ratio for each of its alternatives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a guard says now.

    Attributes:
        name: The guard's name, e.g. `error_ratio`.
        answer: YES it is proven (harm for a guard, safety for a certificate), NO it is not proven so far,
            UNKNOWN there is no evidence at all.
        log_e: Natural logarithm of the e-value.
        threshold: log_e at which the answer becomes YES.
        reason: The same in words.
    """

    name: str
    answer: Answer
    log_e: float
    threshold: float
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the reading as plain JSON values, for the ledger."""
        return {
            "guard": self.name,
            "answer": self.answer.name.lower(),
            "log_e": round(self.log_e, 4),
            "threshold": round(self.threshold, 4),
            "reason": self.reason,
        }


class Guard(Protocol):
    """Judges one kind of evidence. Pure, without state of its own: the state is handed in and returned."""

    @property
    def name(self) -> str:
        """Key of its state in the rollout's state; unique among a rollout's guards."""

    def start(self) -> Terms:
        """Return the state before any evidence."""

    def update(self, state: Terms, interval: Counts, share: float) -> Terms:
        """Return the state after one more interval; intervals with nothing to learn change nothing.

        Args:
            state: As the last interval left it.
            interval: What was counted.
            share: The candidate's share of the traffic meanwhile, 0 to 1; at 1 no control runs beside it.
        """

    def judge(self, state: Terms, total: Counts) -> Reading:
        """Return the reading; `total` is for the words of the reason and for UNKNOWN, never for the verdict."""
