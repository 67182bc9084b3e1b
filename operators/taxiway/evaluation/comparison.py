"""Whether a version is worse than the champion on the same items: pure, randomness is an argument.

The difference is judged by both ends of its interval, so that "not worse" is shown and not merely not refuted: a
non-inferiority test. Two numbers alone, without predictions of both, can show that a version is worse and no more.
"""

from dataclasses import dataclass

import numpy as np

from taxiway.evaluation import intervals
from taxiway.evaluation.intervals import Interval
from taxiway.evaluation.predictions import ACCURACY, Predictions
from taxiway.evaluation.values import Answer, Bars, Direction, Finding, Measured

KIND = "champion"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much better one version is than another on the same items.

    Attributes:
        value: Mean over the items; above 0 is better, whatever the direction of the metric.
        interval: Its 95 % interval.
        items: How many items.
    """

    value: float
    interval: Interval
    items: int

    def __str__(self) -> str:
        """Return it for people."""
        ends = f"95 % interval {self.interval.low:+.4f} to {self.interval.high:+.4f}"
        return f"difference {self.value:+.4f}, {ends}, {self.items:,} items"


def untold(bars: Bars, why: str) -> Finding:
    """Return the answer where nobody can tell whether there is a champion: a version is no first one for that."""
    name = bars.compare or ""
    return Finding(kind=KIND, name=name, answer="unknown", reason=f"{name} was not compared: {why}")


def compare(ours: Measured, theirs: Measured, bars: Bars, random: np.random.Generator) -> Finding:
    """Return whether the compared metric is at most the tolerance worse than the champion's.

    Args:
        ours: The version's.
        theirs: The champion's, measured on the same data by the same evaluation.
        bars: Which metric, the tolerance, and the least number of items.
        random: Draws the resamples of a metric that is a column of the predictions.
    """
    name = bars.compare or ""
    missing = _missing(name, ours, theirs)
    if missing:
        return Finding(kind=KIND, name=name, answer="no", reason=missing)
    if ours.content and ours.content == theirs.content:
        reason = f"{name} is that of the champion: it is the same model, byte for byte"
        return Finding(kind=KIND, name=name, answer="yes", reason=reason, value=0.0, bar=-bars.tolerance)
    found = by_items(name, bars.direction, ours.predictions, theirs.predictions, random)
    if isinstance(found, str):
        return _by_point(name, ours, theirs, bars, found)
    answer = _answer(found, bars)
    return Finding(
        kind=KIND,
        name=name,
        answer=answer,
        reason=_said(name, answer, found, bars),
        value=found.value,
        bar=-bars.tolerance,
        low=found.interval.low,
        high=found.interval.high,
        items=found.items,
    )


def by_items(
    name: str,
    direction: Direction,
    ours: Predictions | None,
    theirs: Predictions | None,
    random: np.random.Generator,
) -> Difference | str:
    """Return how much better one version is than another with its interval, or why that cannot be told.

    Args:
        name: `accuracy`, or a column of numbers.
        direction: Which way it is better.
        ours: The one.
        theirs: The other, measured on the same data by the same evaluation.
        random: Draws the resamples of a metric that is a column.
    """
    found = item_differences(name, direction, ours, theirs)
    if isinstance(found, str):
        return found
    if name == ACCURACY:
        interval = intervals.paired_shares(int((found > 0).sum()), int((found < 0).sum()), len(found))
    else:
        interval = intervals.paired_mean(found.tolist(), random)
    return Difference(value=float(found.mean()), interval=interval, items=len(found))


def item_differences(
    name: str, direction: Direction, ours: Predictions | None, theirs: Predictions | None
) -> "np.ndarray | str":
    """Return how much better one version is than another at each item, or why that cannot be told.

    The items are in the order of their names, whatever order an evaluation left them in: what is held together over
    several versions is item by item the same.
    """
    if ours is None or theirs is None:
        return "the evaluation leaves no predictions"
    if dict(zip(ours.ids, ours.labels, strict=True)) != dict(zip(theirs.ids, theirs.labels, strict=True)):
        return "the predictions of the two are not of the same items"
    if name != ACCURACY and not (_is_numeric(ours, name) and _is_numeric(theirs, name)):
        return f"the predictions have no column of numbers {name}"
    differences: np.ndarray = _numbers(ours, name)[_sorted(ours)] - _numbers(theirs, name)[_sorted(theirs)]
    return differences if direction == "maximize" else -differences


def _sorted(found: Predictions) -> list[int]:
    return sorted(range(len(found.ids)), key=found.ids.__getitem__)


def _missing(name: str, ours: Measured, theirs: Measured) -> str | None:
    if name not in ours.metrics:
        return f"{name} was not measured, so it cannot be compared with the champion"
    if name not in theirs.metrics:
        return f"{name} of the champion was not measured, so it cannot be compared"
    return None


def _is_numeric(predictions: Predictions, name: str) -> bool:
    try:
        return bool(np.isfinite(_numbers(predictions, name)).all())
    except (KeyError, ValueError):
        return False


def _numbers(predictions: Predictions, name: str) -> "np.ndarray":
    if name == ACCURACY:
        return np.array(predictions.correct, dtype=float)
    return np.array([float(text) for text in predictions.columns[name]])


def _by_point(name: str, ours: Measured, theirs: Measured, bars: Bars, why: str) -> Finding:
    mine, champions = ours.metrics[name], theirs.metrics[name]
    better = mine - champions if bars.direction == "maximize" else champions - mine
    is_worse = better < -bars.tolerance
    reason = (
        f"{name} {mine:.4g} is {_side(bars)} the champion's {champions:.4g} by more than {bars.tolerance:g}"
        if is_worse
        else f"{name} {mine:.4g} against the champion's {champions:.4g} has no interval: {why}"
    )
    return Finding(
        kind=KIND,
        name=name,
        answer="no" if is_worse else "unknown",
        reason=reason,
        value=better,
        bar=-bars.tolerance,
    )


def _side(bars: Bars) -> str:
    """Return on which side of the champion's a worse number is."""
    return "below" if bars.direction == "maximize" else "above"


def _answer(found: Difference, bars: Bars) -> Answer:
    if found.items < bars.least_items:
        return "unknown"
    if found.interval.low >= -bars.tolerance:
        return "yes"
    return "no" if found.interval.high < -bars.tolerance else "unknown"


def _said(name: str, answer: Answer, found: Difference, bars: Bars) -> str:
    if found.items < bars.least_items:
        few = f"{found.items} items are too few to compare with the champion"
        return f"{name}: {few}, {bars.least_items} are needed"
    side, most = _side(bars), f"{bars.tolerance:g}"
    said = {
        "yes": f"{name} is at most {most} {side} the champion's",
        "no": f"{name} is {side} the champion's by more than {most}",
        "unknown": f"{name} may be {side} the champion's by more than {most}, the items cannot tell",
    }
    return f"{said[answer]} ({found})"
