"""Counts right answers by slice, by class and in pairs: pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from taxiway.evaluation.predictions import Predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Right answers among items."""

    right: int
    items: int

    @property
    def accuracy(self) -> float:
        """Part of the items that was answered right; there is at least one."""
        return self.right / self.items


def by_column(predictions: Predictions, column: str) -> Mapping[str, Count]:
    """Return the count of each value of a column, sorted by value."""
    return _counted(predictions.columns[column], predictions.correct)


def by_class(predictions: Predictions) -> Mapping[str, Count]:
    """Return the count of each true label, sorted by label; its accuracy is the label's recall."""
    return _counted(predictions.labels, predictions.correct)


def confusion(predictions: Predictions) -> tuple[tuple[str, ...], Mapping[tuple[str, str], int]]:
    """Return every label, sorted, and how often each truth got each answer."""
    pairs = Counter(zip(predictions.labels, predictions.predictions, strict=True))
    return tuple(sorted({*predictions.labels, *predictions.predictions}, key=natural)), pairs


def natural(text: str) -> tuple[int, float, str]:
    """Return a key that sorts numbers by value, before texts."""
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)


def _counted(names: Iterable[str], correct: Iterable[bool]) -> Mapping[str, Count]:
    items: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for name, is_right in zip(names, correct, strict=True):
        items[name] += 1
        right[name] += is_right
    return {name: Count(right=right[name], items=items[name]) for name in sorted(items, key=natural)}
