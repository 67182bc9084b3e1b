"""Holds what was measured against the bars: pure. Every bar gives one finding, and none is passed over in silence.

A bar over items (a slice, a class, the calibration, the champion) is judged by the interval of what was measured: an
interval beyond the bar is a yes, one short of it a no, one across it unknown. All bars must be reached, so that the
chance to pass although one is missed is that of one interval, however many bars there are (an intersection-union
test: Berger 1982, Technometrics 24, pp. 295-300).
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from taxiway.evaluation import calibration, comparison, intervals, slices
from taxiway.evaluation.predictions import Predictions
from taxiway.evaluation.slices import Count
from taxiway.evaluation.values import Answer, Bars, Check, Finding, Measured

LATENCY = "latency_p99_ms"
EVERY = "*"


def judge(
    ours: Measured,
    theirs: Measured | None,
    bars: Bars,
    *,
    unknown: str = "",
    p99_ms: float | None = None,
    random: np.random.Generator | None = None,
) -> tuple[Finding, ...]:
    """Return how each bar came out.

    Args:
        ours: What the version measured.
        theirs: What the champion measured on the same data; None for a first version, which the other bars hold.
        bars: What must be reached.
        unknown: Why nobody can tell whether there is a champion; "" where that is known.
        p99_ms: The product's bound on the answer time, held against `latency_p99_ms` where that was measured.
        random: Draws for the intervals that are simulated; None draws the same ones each time.
    """
    draws = np.random.default_rng(0) if random is None else random
    found = [_at_least(ours.metrics, name, bar) for name, bar in bars.minimum.items()]
    found += [_at_most(ours.metrics, name, bar) for name, bar in bars.maximum.items()]
    if bars.compare and theirs is not None:
        found.append(comparison.compare(ours, theirs, bars, draws))
    elif bars.compare and unknown:
        found.append(comparison.untold(bars, unknown))
    found += _slices(ours.predictions, bars)
    found += _classes(ours.predictions, bars)
    if bars.calibration_at_most is not None:
        found.append(_calibration(ours.predictions, bars.calibration_at_most, bars.least_items, draws))
    if p99_ms is not None:
        found.append(_latency(ours.metrics.get(LATENCY), p99_ms))
    found += _checks(ours.checks, bars)
    return tuple(found)


def refusals(findings: Sequence[Finding], bars: Bars) -> tuple[str, ...]:
    """Return why the gate stays closed, one reason for each bar; none means that it opens."""
    return tuple(finding.reason for finding in findings if _closes(finding, bars))


def _closes(finding: Finding, bars: Bars) -> bool:
    if finding.answer != "unknown":
        return finding.answer == "no"
    return (bars.sla_unmeasured if finding.kind == "sla" else bars.inconclusive) == "fail"


def notes(findings: Sequence[Finding], bars: Bars) -> tuple[str, ...]:
    """Return what a reader should know although it closed nothing."""
    passed = (each for each in findings if each.answer == "unknown" and not _closes(each, bars))
    return tuple(f"inconclusive, let pass: {finding.reason}" for finding in passed)


def _at_least(metrics: Mapping[str, float], name: str, bar: float) -> Finding:
    is_reached = name in metrics and metrics[name] >= bar
    return _by_number("minimum", metrics, name, bar, "reaches" if is_reached else "is below", is_reached)


def _at_most(metrics: Mapping[str, float], name: str, bar: float) -> Finding:
    is_reached = name in metrics and metrics[name] <= bar
    return _by_number("maximum", metrics, name, bar, "is within" if is_reached else "is above", is_reached)


def _by_number(
    kind: str, metrics: Mapping[str, float], name: str, bar: float, how: str, is_reached: bool
) -> Finding:
    if name not in metrics:
        reason = f"{name} was not measured, its {kind} is {bar:g}"
        return Finding(kind=kind, name=name, answer="no", reason=reason, bar=bar)
    return Finding(
        kind=kind,
        name=name,
        answer="yes" if is_reached else "no",
        reason=f"{name} {metrics[name]:.4g} {how} its {kind} {bar:g}",
        value=metrics[name],
        bar=bar,
    )


def _slices(predictions: Predictions | None, bars: Bars) -> Iterator[Finding]:
    for key, bar in bars.slice_minimum.items():
        column, is_one, value = key.partition("=")
        if predictions is None or column not in predictions.columns:
            yield _unmeasured("slice", key, bar, f"the predictions have no column {column}")
            continue
        counts = slices.by_column(predictions, column)
        if is_one and value not in counts:
            yield _unmeasured("slice", key, bar, f"no item has {key}")
            continue
        for name in [value] if is_one else counts:
            # A bar of its own outranks that of its column.
            if is_one or f"{column}={name}" not in bars.slice_minimum:
                yield _accuracy("slice", f"{column}={name}", counts[name], bar, bars.least_items)


def _classes(predictions: Predictions | None, bars: Bars) -> Iterator[Finding]:
    counts = slices.by_class(predictions) if predictions else {}
    if EVERY in bars.class_minimum and not counts:
        yield _unmeasured("class", EVERY, bars.class_minimum[EVERY], "the evaluation leaves no predictions")
    for name in dict.fromkeys([*(name for name in bars.class_minimum if name != EVERY), *counts]):
        bar = bars.class_minimum.get(name, bars.class_minimum.get(EVERY))
        if bar is not None and name in counts:
            yield _accuracy("class", name, counts[name], bar, bars.least_items)
        elif bar is not None:
            yield _unmeasured("class", name, bar, "no item has that label")


def _unmeasured(kind: str, name: str, bar: float, why: str) -> Finding:
    reason = f"accuracy of {kind} {name} was not measured, its minimum is {bar:g}: {why}"
    return Finding(kind=kind, name=name, answer="no", reason=reason, bar=bar)


def _accuracy(kind: str, name: str, count: Count, bar: float, least: int) -> Finding:
    interval = intervals.share(count.right, count.items)
    answer = _over(interval.low, interval.high, bar) if count.items >= least else "unknown"
    return Finding(
        kind=kind,
        name=name,
        answer=answer,
        reason=_accuracy_said(kind, name, count, bar, least, answer, interval),
        value=count.accuracy,
        bar=bar,
        low=interval.low,
        high=interval.high,
        items=count.items,
    )


def _accuracy_said(
    kind: str, name: str, count: Count, bar: float, least: int, answer: Answer, interval: intervals.Interval
) -> str:
    if count.items < least:
        return f"accuracy of {kind} {name}: {count.items} items are too few, {least} are needed"
    measured = f"{count.accuracy:.4g} (95 % interval {interval.low:.4g} to {interval.high:.4g}, {count.items:,} items)"
    said = {
        "yes": f"reaches its minimum {bar:g}",
        "no": f"is below its minimum {bar:g}",
        "unknown": f"may be below its minimum {bar:g}, the items cannot tell",
    }
    return f"accuracy of {kind} {name} {measured} {said[answer]}"


def _over(low: float, high: float, bar: float) -> Answer:
    if low >= bar:
        return "yes"
    return "no" if high < bar else "unknown"


def _calibration(
    predictions: Predictions | None, most: float, least: int, random: np.random.Generator
) -> Finding:
    if predictions is None or predictions.confidences is None:
        reason = f"calibration was not measured, at most {most:g} is allowed: the predictions hold no probabilities"
        return Finding(kind="calibration", name="ece", answer="no", reason=reason, bar=most)
    found = calibration.measure(predictions.confidences, predictions.correct, random)
    answer: Answer = "unknown"
    if len(predictions) >= least:
        answer = _over(-found.interval.high, -found.interval.low, -most)
    said = {"yes": "is at most", "no": "is above", "unknown": "may be above"}[answer]
    measured = f"{found.error:.4g} (95 % interval {found.interval.low:.4g} to {found.interval.high:.4g})"
    few = f"; {len(predictions)} items are too few, {least} are needed" if len(predictions) < least else ""
    return Finding(
        kind="calibration",
        name="ece",
        answer=answer,
        reason=f"calibration error {measured} {said} {most:g}{few}",
        value=found.error,
        bar=most,
        low=found.interval.low,
        high=found.interval.high,
        items=len(predictions),
    )


def _latency(value: float | None, p99_ms: float) -> Finding:
    if value is None:
        reason = f"the promised p99_ms {p99_ms:g} was not measured: metrics.json has no {LATENCY}; verify measures it"
        return Finding(kind="sla", name=LATENCY, answer="unknown", reason=reason, bar=p99_ms)
    is_within = value <= p99_ms
    said = "is within" if is_within else "is above"
    reason = f"{LATENCY} {value:.4g} of the model alone {said} the promised p99_ms {p99_ms:g}"
    answer: Answer = "yes" if is_within else "no"
    return Finding(kind="sla", name=LATENCY, answer=answer, reason=reason, value=value, bar=p99_ms)


def _checks(checks: Sequence[Check], bars: Bars) -> Iterator[Finding]:
    for check in checks:
        yield Finding(
            kind="check",
            name=check.name,
            answer="yes" if check.passed else "no",
            reason=f"check {check.name} {'passed' if check.passed else 'failed'}{_colon(check.reason)}",
            value=check.value,
        )
    answered = {check.name for check in checks}
    for name in bars.checks:
        if name not in answered and (name != EVERY or not answered):
            reason = f"check {name} failed: it left no answer"
            yield Finding(kind="check", name=name, answer="no", reason=reason)


def _colon(reason: str) -> str:
    return f": {reason}" if reason else ""
