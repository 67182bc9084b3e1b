"""The page of one evaluation: self-contained HTML of what was measured and judged. Pure; nothing is decided here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape

import numpy as np

from taxiway.evaluation import calibration, comparison, figures, gate, intervals, slices
from taxiway.evaluation.predictions import Predictions
from taxiway.evaluation.slices import Count
from taxiway.evaluation.values import Bars, Evaluation, Finding, Measured

_ANSWERS = {"yes": "reached", "no": "missed", "unknown": "inconclusive"}
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1d2733;max-width:1000px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}
table{border-collapse:collapse}th,td{padding:.25rem .6rem;text-align:left;vertical-align:middle}
.rows th{color:#5b6775;font-weight:600;border-bottom:2px solid #d5dde5}.rows td{border-bottom:1px solid #e6ebf0}
.number,.matrix td,.matrix th{text-align:right;font-variant-numeric:tabular-nums}
.matrix td{min-width:2.2rem;border:1px solid #fff}.light{color:#fff}.corner{font-size:.75rem;color:#5b6775}
.verdict{padding:1rem;border-radius:8px;margin:1rem 0;color:#fff}.passed{background:#1f7a4d}.failed{background:#a8321f}
.pill{padding:.05rem .5rem;border-radius:1rem;font-size:.8rem;white-space:nowrap}
.yes{background:#d9f0e3;color:#135c38}.no{background:#f9dcd6;color:#8c2413}.unknown{background:#fdf0cf;color:#7a5600}
svg.interval{vertical-align:middle}
.about{color:#5b6775}
svg text{font-size:11px;fill:#5b6775}.grid{stroke:#e6ebf0}
.ideal{stroke:#9aa7b4;stroke-dasharray:4}
.range{stroke:#31688e;stroke-width:3}.bar{stroke:#a8321f;stroke-width:2}.dot{fill:#1f4e79}
.curve{fill:none;stroke:#1f4e79;stroke-width:2}.beside{display:flex;flex-wrap:wrap;gap:2rem}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a report is about, beside the evaluation itself.

    Attributes:
        dataset: Tag of the data.
        bars: What was asked for.
        sla: What the product promises: p99_ms, availability, rate_rps.
    """

    dataset: str
    bars: Bars
    sla: Mapping[str, float]


def page(found: Evaluation, subject: Subject, ours: Measured, theirs: Measured | None) -> str:
    """Return the report of an evaluation as one HTML file."""
    title = escape(f"{found.handle}/{found.version}")
    parts = [
        f'<h1>{title}</h1><p class="about">measured on {escape(subject.dataset)}; {escape(_rival(found))}</p>',
        _verdict(found),
        _bars(found.findings),
        _promise(subject.sla, found.findings),
        _metrics(ours, theirs),
        _items(ours.predictions, subject.bars),
    ]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _rival(found: Evaluation) -> str:
    if found.champion:
        return f"champion {found.handle}/{found.champion}"
    is_untold = any(finding.kind == comparison.KIND for finding in found.findings)
    return "nobody could tell whether there is a champion" if is_untold else "no champion to compare with"


def _verdict(found: Evaluation) -> str:
    if found.passed:
        said, kind = f"Passed: all {len(found.findings)} bars are reached.", "passed"
        if not found.findings:
            said = "Passed: no bar is set."
        elif any(finding.answer == "unknown" for finding in found.findings):
            said = (
                "Passed: no bar is missed, and what is inconclusive was let pass by the project's own rule."
            )
    else:
        said, kind = f"Did not pass: {len(found.reasons)} reason(s).", "failed"
    lines = "".join(f"<li>{escape(text)}</li>" for text in (*found.reasons, *found.notes))
    return f'<div class="verdict {kind}"><strong>{said}</strong><ul>{lines}</ul></div>'


def _bars(findings: Iterable[Finding]) -> str:
    rows = [
        (
            f'<span class="pill {finding.answer}">{_ANSWERS[finding.answer]}</span>',
            escape(finding.kind),
            escape(finding.name),
            _number(finding.value),
            _number(finding.bar),
            _interval(finding),
            "" if finding.items is None else f"{finding.items:,}",
            escape(finding.reason) if finding.low is None else "",
        )
        for finding in findings
    ]
    names = ("", "bar", "of", "measured", "bar at", "95 % interval", "items", "")
    return _section("Bars", _table(names, rows) if rows else "<p>No bar is set.</p>")


def _promise(sla: Mapping[str, float], findings: Iterable[Finding]) -> str:
    is_held = any(finding.kind == "sla" and finding.value is not None for finding in findings)
    here = (
        f"its answer time was held against what the evaluation measured ({gate.LATENCY}), one request at a time"
        if is_held
        else f"nothing of it was measured here (the evaluation gives no {gate.LATENCY})"
    )
    promise = (
        f"p99 {sla['p99_ms']:g} ms, availability {sla['availability']:g}, {sla['rate_rps']:g} requests/s"
    )
    later = "The deployed version must keep all of it under load in verify, before it gets any traffic."
    return _section("The product's requirement", f"<p>Promised: {promise}; {here}. {later}</p>")


def _metrics(ours: Measured, theirs: Measured | None) -> str:
    champions = theirs.metrics if theirs else {}
    rows = [
        (
            escape(name),
            _number(value),
            _number(champions.get(name)),
            _number(value - champions[name], sign="+") if name in champions else "",
        )
        for name, value in ours.metrics.items()
    ]
    return _section("Metrics", _table(("metric", "this version", "champion", "difference"), rows))


def _items(predictions: Predictions | None, bars: Bars) -> str:
    if predictions is None:
        said = (
            "The evaluation leaves no predictions, so there are neither classes nor slices nor a calibration."
        )
        return _section("Items", f"<p>{said}</p>")
    columns = dict.fromkeys([*bars.slices, *(key.partition("=")[0] for key in bars.slice_minimum)])
    parts = [_calibration(predictions), _confusion(predictions)]
    parts += [
        _counts(f"Slices by {name}", slices.by_column(predictions, name))
        for name in columns
        if name in predictions.columns
    ]
    return "".join(parts)


def _calibration(predictions: Predictions) -> str:
    if predictions.confidences is None:
        return ""
    found = calibration.measure(predictions.confidences, predictions.correct, np.random.default_rng(0))
    said = (
        f"Expected calibration error {found.error:.4f}, 95 % interval {found.interval.low:.4f} to "
        f"{found.interval.high:.4f}, over {len(predictions):,} items."
    )
    return _section("Calibration", f"{figures.calibration_curve(found)}<p>{said}</p>")


def _confusion(predictions: Predictions) -> str:
    labels, pairs = slices.confusion(predictions)
    if len(labels) > figures.MOST_LABELS:
        said = f"There are {len(labels):,} labels; a matrix is drawn for at most {figures.MOST_LABELS}."
        return _section("Confusion", f"<p>{said}</p>")
    counts = _counts("Classes", slices.by_class(predictions))
    return _section("Confusion", figures.confusion_matrix(labels, pairs)) + counts


def _counts(title: str, counts: Mapping[str, Count]) -> str:
    rows = []
    for name, count in counts.items():
        found = intervals.share(count.right, count.items)
        drawn = figures.interval(found.low, found.high, count.accuracy, count.accuracy, (0.0, 1.0))
        rows.append(
            (
                escape(name),
                _number(count.accuracy),
                f"{drawn} {_ends(found.low, found.high)}",
                f"{count.items:,}",
            )
        )
    return _section(title, _table(("", "accuracy", "95 % interval", "items"), rows))


def _interval(finding: Finding) -> str:
    if finding.low is None or finding.high is None or finding.value is None or finding.bar is None:
        return ""
    ends = (finding.low, finding.high, finding.bar, finding.value)
    margin = 0.1 * (max(ends) - min(ends)) or 0.1
    span = (min(ends) - margin, max(ends) + margin)
    drawn = figures.interval(finding.low, finding.high, finding.value, finding.bar, span)
    return f"{drawn} {_ends(finding.low, finding.high)}"


def _ends(low: float, high: float) -> str:
    return f'<span class="about">{low:.3f} to {high:.3f}</span>'


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f'<span class="number">{value:{sign}.4g}</span>'


def _table(names: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="rows"><tr>{head}</tr>{body}</table>'


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>{content}"
