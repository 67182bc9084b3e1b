"""Draws the report's figures as inline SVG and HTML: pure, and every text of a team is escaped."""

from collections.abc import Mapping
from html import escape
from math import sqrt

from taxiway.evaluation.calibration import Bin, Calibration

WIDTH, HEIGHT = 340, 270
_PAD = 52
MOST_LABELS = 20


def interval(low: float, high: float, value: float, bar: float, span: tuple[float, float]) -> str:
    """Return a line from low to high with a dot at the value and a mark at the bar.

    Args:
        low: Lower end.
        high: Upper end.
        value: What was measured.
        bar: What it is held against.
        span: Numbers at the left and at the right edge.
    """
    left, right = span

    def at(number: float) -> float:
        inside = (number - left) / (right - left) if right > left else 0.5
        return 6 + 188 * min(1.0, max(0.0, inside))

    return (
        '<svg class="interval" width="200" height="20" role="img" aria-label="interval">'
        f'<line x1="{at(low):.1f}" x2="{at(high):.1f}" y1="10" y2="10" class="range"/>'
        f'<line x1="{at(bar):.1f}" x2="{at(bar):.1f}" y1="2" y2="18" class="bar"/>'
        f'<circle cx="{at(value):.1f}" cy="10" r="4" class="dot"/></svg>'
    )


def calibration_curve(found: Calibration) -> str:
    """Return how often answers were right, against how sure the model was; on the diagonal it is calibrated."""

    def x(share: float) -> float:
        return _PAD + share * (WIDTH - _PAD - 10)

    def y(share: float) -> float:
        return HEIGHT - _PAD - share * (HEIGHT - _PAD - 10)

    most = max(each.items for each in found.bins)
    points = " ".join(f"{x(each.confidence):.1f},{y(each.accuracy):.1f}" for each in found.bins)
    dots = "".join(
        f'<circle cx="{x(each.confidence):.1f}" cy="{y(each.accuracy):.1f}" class="dot" r="{_radius(each, most):.1f}">'
        f"<title>{each.items:,} items, {each.accuracy:.3f} right</title></circle>"
        for each in found.bins
    )
    ticks = "".join(
        f'<text x="{x(tick):.0f}" y="{HEIGHT - _PAD + 16}" text-anchor="middle">{tick:g}</text>'
        f'<text x="{_PAD - 6}" y="{y(tick) + 4:.0f}" text-anchor="end">{tick:g}</text>'
        f'<line x1="{x(0)}" x2="{x(1)}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" class="grid"/>'
        for tick in (0, 0.25, 0.5, 0.75, 1)
    )
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="calibration curve">{ticks}'
        f'<line x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}" class="ideal"/>'
        f'<polyline points="{points}" class="curve"/>{dots}'
        f'<text x="{x(0.5):.0f}" y="{HEIGHT - 4}" text-anchor="middle">how sure the model was</text>'
        f'<text transform="translate(11 {y(0.5):.0f}) rotate(-90)" text-anchor="middle">how often it was right</text>'
        "</svg>"
    )


def _radius(found: Bin, most: int) -> float:
    return 3.0 + 6.0 * sqrt(found.items / most)


def confusion_matrix(labels: tuple[str, ...], pairs: Mapping[tuple[str, str], int]) -> str:
    """Return a table of truth (rows) by answer (columns), shaded by the part of the row."""
    head = "".join(f"<th>{escape(label)}</th>" for label in labels)
    rows = "".join(_row(truth, labels, pairs) for truth in labels)
    corner = '<th class="corner">truth \\ answer</th>'
    return f'<table class="matrix"><tr>{corner}{head}</tr>{rows}</table>'


def _row(truth: str, labels: tuple[str, ...], pairs: Mapping[tuple[str, str], int]) -> str:
    counts = [pairs.get((truth, answer), 0) for answer in labels]
    total = sum(counts) or 1
    cells = "".join(
        _cell(count, count / total, is_right=truth == answer)
        for count, answer in zip(counts, labels, strict=True)
    )
    return f"<tr><th>{escape(truth)}</th>{cells}</tr>"


def _cell(count: int, part: float, *, is_right: bool) -> str:
    colour = "31,122,77" if is_right else "200,60,40"
    # A wrong answer is rare: its shade grows faster, or nobody would see it.
    shade = part if is_right else min(1.0, 4 * part)
    ink = ' class="light"' if shade > 0.55 else ""
    return f'<td{ink} style="background:rgba({colour},{shade:.2f})">{count or ""}</td>'
