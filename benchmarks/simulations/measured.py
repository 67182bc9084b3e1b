"""One simulated figure with its standard error, and how a row of the benchmark is called. Nothing is simulated here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rng = np.random.Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One figure.

    Attributes:
        name: What was simulated.
        value: Mean over the runs.
        error: Its standard error; 0 where nothing is random.
        runs: How many.
        bar: Highest value that holds; None is a figure without a bar. 0 says never: not once in all the runs.
    """

    name: str
    value: float
    error: float
    runs: int
    bar: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the value, less two standard errors, is within the bar: noise alone breaks no bar but never."""
        if self.bar == 0:
            return self.value == 0
        return self.bar is None or self.value - 2 * self.error <= self.bar


Row = Callable[[Rng, int], Sequence[Measured]]
"""A row of the benchmark: random generator and number of runs in, figures out."""


def share(name: str, hits: NDArray[np.bool_], bar: float | None = None) -> Measured:
    """Return the share of runs in which something happened."""
    part = float(hits.mean())
    error = (part * (1 - part) / hits.size) ** 0.5
    return Measured(name=name, value=part, error=error, runs=hits.size, bar=bar)


def mean(name: str, values: Floats, bar: float | None = None) -> Measured:
    """Return the mean over runs."""
    error = float(values.std(ddof=1)) / values.size**0.5
    return Measured(name=name, value=float(values.mean()), error=error, runs=values.size, bar=bar)


def ratio(name: str, above: Floats, below: Floats, bar: float | None = None) -> Measured:
    """Return the ratio of two independent means, with the error of the delta method."""
    top, bottom = mean(name, above), mean(name, below)
    value = top.value / bottom.value
    error = abs(value) * ((top.error / top.value) ** 2 + (bottom.error / bottom.value) ** 2) ** 0.5
    return Measured(name=name, value=value, error=error, runs=min(top.runs, bottom.runs), bar=bar)
