"""Whether a version is worse than the champion on the same items: pure, randomness is an argument.

The difference is judged by both ends of its interval, so that "not worse" is shown and not merely not refuted: a
non-inferiority test. Where there are no predictions of both, the two numbers alone are compared, which is said.
"""

import numpy as np

from taxiway.evaluation import intervals
from taxiway.evaluation.intervals import Interval
from taxiway.evaluation.predictions import Predictions
from taxiway.evaluation.values import Answer, Bars, Finding, Measured

ACCURACY = "accuracy"
KIND = "champion"
BY_POINT = "by the two numbers alone: "


def compare(ours: Measured, theirs: Measured, bars: Bars, random: np.random.Generator) -> Finding:
    """Return whether the compared metric is at most the tolerance below the champion's.

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
    if ours.model_hash and ours.model_hash == theirs.model_hash:
        reason = f"{name} is that of the champion: it is the same model, byte for byte"
        return Finding(kind=KIND, name=name, answer="yes", reason=reason, value=0.0, bar=-bars.tolerance)
    why = _why_by_point(name, ours.predictions, theirs.predictions)
    if why:
        return _by_point(name, ours, theirs, bars.tolerance, why)
    assert ours.predictions is not None  # noqa: S101 - `_why_by_point` says so, in words
    assert theirs.predictions is not None  # noqa: S101
    return _by_items(name, ours.predictions, theirs.predictions, bars, random)


def _missing(name: str, ours: Measured, theirs: Measured) -> str | None:
    if name not in ours.metrics:
        return f"{name} was not measured, so it cannot be compared with the champion"
    if name not in theirs.metrics:
        return f"{name} of the champion was not measured, so it cannot be compared"
    return None


def _why_by_point(name: str, ours: Predictions | None, theirs: Predictions | None) -> str | None:
    """Return why there is no comparison item by item, or None if there is one."""
    if ours is None or theirs is None:
        return "the evaluation leaves no predictions"
    if dict(zip(ours.ids, ours.labels, strict=True)) != dict(zip(theirs.ids, theirs.labels, strict=True)):
        return "the predictions of the two are not of the same items"
    if name != ACCURACY and not (_is_numeric(ours, name) and _is_numeric(theirs, name)):
        return f"the predictions have no column of numbers {name}"
    return None


def _is_numeric(predictions: Predictions, name: str) -> bool:
    try:
        return bool(np.isfinite(_numbers(predictions, name)).all())
    except (KeyError, ValueError):
        return False


def _numbers(predictions: Predictions, name: str) -> "np.ndarray":
    return np.array([float(text) for text in predictions.columns[name]])


def _by_point(name: str, ours: Measured, theirs: Measured, tolerance: float, why: str) -> Finding:
    mine, champions = ours.metrics[name], theirs.metrics[name]
    is_worse = mine < champions - tolerance
    reason = (
        f"{name} {mine:.4g} is below the champion's {champions:.4g} by more than {tolerance:g}"
        if is_worse
        else f"{name} {mine:.4g} against the champion's {champions:.4g}, {BY_POINT}{why}"
    )
    return Finding(
        kind=KIND,
        name=name,
        answer="no" if is_worse else "yes",
        reason=reason,
        value=mine - champions,
        bar=-tolerance,
    )


def _by_items(
    name: str, ours: Predictions, theirs: Predictions, bars: Bars, random: np.random.Generator
) -> Finding:
    difference, interval = _difference(name, ours, theirs, random)
    answer = _answer(interval, len(ours), bars)
    return Finding(
        kind=KIND,
        name=name,
        answer=answer,
        reason=_said(name, answer, difference, interval, len(ours), bars),
        value=difference,
        bar=-bars.tolerance,
        low=interval.low,
        high=interval.high,
        items=len(ours),
    )


def _difference(
    name: str, ours: Predictions, theirs: Predictions, random: np.random.Generator
) -> tuple[float, Interval]:
    place = {item: number for number, item in enumerate(theirs.ids)}
    order = [place[item] for item in ours.ids]
    if name != ACCURACY:
        differences = _numbers(ours, name) - _numbers(theirs, name)[order]
        return float(differences.mean()), intervals.paired_mean(differences.tolist(), random)
    pairs = [(mine, theirs.correct[other]) for mine, other in zip(ours.correct, order, strict=True)]
    won = sum(mine and not champions for mine, champions in pairs)
    lost = sum(champions and not mine for mine, champions in pairs)
    return (won - lost) / len(pairs), intervals.paired_shares(won, lost, len(pairs))


def _answer(interval: Interval, items: int, bars: Bars) -> Answer:
    if items < bars.least_items:
        return "unknown"
    if interval.low >= -bars.tolerance:
        return "yes"
    return "no" if interval.high < -bars.tolerance else "unknown"


def _said(name: str, answer: Answer, difference: float, interval: Interval, items: int, bars: Bars) -> str:
    ends = f"95 % interval {interval.low:+.4f} to {interval.high:+.4f}"
    measured = f"difference {difference:+.4f}, {ends}, {items:,} items"
    if items < bars.least_items:
        return (
            f"{name}: {items} items are too few to compare with the champion, {bars.least_items} are needed"
        )
    said = {
        "yes": f"{name} is at most {bars.tolerance:g} below the champion's",
        "no": f"{name} is below the champion's by more than {bars.tolerance:g}",
        "unknown": f"{name} may be below the champion's by more than {bars.tolerance:g}, the items cannot tell",
    }
    return f"{said[answer]} ({measured})"
