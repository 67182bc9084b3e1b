"""How a benchmark ends: a table of figures beside their bars, one line of JSON, and an exit code. No measuring here."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured figure.

    Attributes:
        name: What was measured, with its unit at the end.
        value: What came out; None if what was waited for did not happen.
        bar: Highest value that holds; None is a figure without a bar.
        least: Lowest value that holds, where what is measured is how much was done; None is none.
    """

    name: str
    value: float | None
    bar: float | None = None
    least: float | None = None

    @property
    def holds(self) -> bool:
        if self.value is None:
            return self.bar is None and self.least is None
        is_below = self.bar is None or self.value <= self.bar
        return is_below and (self.least is None or self.value >= self.least)


def told(figures: Iterable[Figure]) -> Iterator[Figure]:
    """Pass figures on, and say each on stderr as it comes: what was found outlives a benchmark that breaks off."""
    for figure in figures:
        print(f"  {figure.name}: {figure.value} {_bar(figure)}".rstrip(), file=sys.stderr, flush=True)
        yield figure


def report(name: str, figures: Sequence[Figure]) -> int:
    """Print a benchmark's table and its line of JSON, and return its exit code: 1 where a bar was missed."""
    held = all(figure.holds for figure in figures)
    print(f"{name:44} {'figure':>12} {'bar':>12}")
    for figure in figures:
        value = "never" if figure.value is None else f"{figure.value:.3f}"
        print(f"  {figure.name:42} {value:>12} {_bar(figure):>12}".rstrip())
    bars = {figure.name: figure.bar for figure in figures if figure.bar is not None}
    least = {figure.name: figure.least for figure in figures if figure.least is not None}
    values = {figure.name: None if figure.value is None else round(figure.value, 4) for figure in figures}
    print(json.dumps({"name": name, "figures": values, "bars": bars, "least": least, "held": held}))
    return 0 if held else 1


def _bar(figure: Figure) -> str:
    bars = [f"{figure.bar:.3f}"] if figure.bar is not None else []
    bars += [f"from {figure.least:.3f}"] if figure.least is not None else []
    return ", ".join(bars) + ("" if figure.holds else " MISSED")
