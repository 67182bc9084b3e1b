"""Whether a model is as often right as it says: pure, randomness is an argument."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from taxiway.evaluation.intervals import CONFIDENCE, DRAWS, Interval

BINS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Items whose confidence lies in one tenth.

    Attributes:
        confidence: Their mean confidence.
        right: How many answers were right.
        items: How many there are, above 0.
    """

    confidence: float
    right: int
    items: int

    @property
    def accuracy(self) -> float:
        """Part of the answers that were right."""
        return self.right / self.items


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The expected calibration error, its interval, and the bins behind it."""

    error: float
    interval: Interval
    bins: tuple[Bin, ...]


def measure(
    confidences: Sequence[float], correct: Sequence[bool], random: np.random.Generator
) -> Calibration:
    """Return the expected calibration error: the mean gap between confidence and accuracy over ten equal bins.

    The interval is a wide one: the error cannot be further from the truth than all bins' gaps together are, and how
    far those go is drawn from each bin's own number of items. The plain bootstrap would add its own bias to that of
    the error, which is never below 0.

    Args:
        confidences: Probability that the model gave its answer, for each item; at least one, each in [0, 1].
        correct: Whether that answer was right.
        random: Draws what the bins could have shown.

    Source: Naeini, Cooper and Hauskrecht (2015), AAAI, pp. 2901-2907, for the error; the triangle inequality and a
    parametric bootstrap, each bin's share smoothed by one success and one failure, for the interval.
    """
    bins = _bins(np.asarray(confidences, dtype=float), np.asarray(correct, dtype=bool))
    total = sum(each.items for each in bins)
    error = sum(each.items * abs(each.accuracy - each.confidence) for each in bins) / total
    reach = _reach(bins, random)
    interval = Interval(low=max(0.0, error - reach), high=min(1.0, error + reach))
    return Calibration(error=error, interval=interval, bins=bins)


def _bins(confidences: "np.ndarray", correct: "np.ndarray") -> tuple[Bin, ...]:
    numbers = np.minimum((confidences * BINS).astype(int), BINS - 1)
    found = []
    for number in np.unique(numbers):
        inside = numbers == number
        found.append(
            Bin(
                confidence=float(confidences[inside].mean()),
                right=int(correct[inside].sum()),
                items=int(inside.sum()),
            )
        )
    return tuple(found)


def _reach(bins: tuple[Bin, ...], random: np.random.Generator) -> float:
    items = np.array([each.items for each in bins])
    rates = (np.array([each.right for each in bins]) + 1) / (items + 2)
    drawn = random.binomial(items, rates, size=(DRAWS, len(bins))) / items
    gaps = (np.abs(drawn - rates) * items).sum(axis=1) / items.sum()
    return float(np.quantile(gaps, CONFIDENCE))
