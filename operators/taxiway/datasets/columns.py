"""What a column holds, in few numbers, and how far two columns are apart. Nothing is read or written here.

Numbers are kept as 21 quantiles, columns of few values as counts: enough to tell whether a distribution moved.
Names and free text, of which there are many, are only counted.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

QUANTILES, MOST_VALUES, LONGEST_VALUE, BINS = 21, 20, 80, 10


def describe(values: "NDArray[Any]", *, missing: int) -> dict[str, Any]:
    """Return what a column holds.

    Args:
        values: Those that are there; NaN counts as missing.
        missing: How many are not.
    """
    import numpy as np

    if values.dtype.kind == "f":
        missing, values = missing + int(np.isnan(values).sum()), values[~np.isnan(values)]
    said: dict[str, Any] = {"count": len(values) + missing, "missing": missing}
    if not len(values):
        return said
    distinct, counts = np.unique(
        values.astype(str) if values.dtype.kind == "O" else values, return_counts=True
    )
    if values.dtype.kind in "iuf":
        said |= _numbers(values.astype("float64"))
    said["distinct"] = len(distinct)
    if len(distinct) <= MOST_VALUES:
        said["values"] = {
            str(value)[:LONGEST_VALUE]: int(count) for value, count in zip(distinct, counts, strict=True)
        }
    return said


def _numbers(values: "NDArray[np.float64]") -> dict[str, Any]:
    import numpy as np

    finite = values[np.isfinite(values)]
    if not len(finite):
        return {}
    quantiles = np.quantile(finite, np.linspace(0.0, 1.0, QUANTILES))
    said = {"min": finite.min(), "max": finite.max(), "mean": finite.mean(), "std": finite.std()}
    return {name: _short(value) for name, value in said.items()} | {
        "quantiles": [_short(each) for each in quantiles]
    }


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def stability_index(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> tuple[float, float] | None:
    """Return how far a column moved, and how far it would seem to by chance alone; None where nobody counted values.

    The population stability index: the sum of `(q - p) ln(q / p)` over bins, with p and q the shares before and after.
    Numbers are binned by the deciles of before, words by value. If nothing moved it is about `(1/n + 1/m)` times a
    chi-squared variable of `bins - 1` degrees of freedom; the second number is what one column in a thousand exceeds.

    Args:
        before: What `describe` said of the column, file by file.
        after: The same of the other version.

    Returns:
        The index and the noise, both >= 0; None for free text, nested values and whatever was hidden.

    Source: Yurdakul (2018), Statistical Properties of Population Stability Index, chapter 3.
    """
    shares = _shares(before, after)
    if shares is None:
        return None
    p, q = shares
    n, m = _present(before), _present(after)
    filled = [(a, b) for a, b in zip(p, q, strict=True) if a or b]
    if len(filled) < 2 or not n or not m:
        return 0.0, 0.0
    floor = 0.5 / max(n, m)
    index = sum((b - a) * math.log(max(b, floor) / max(a, floor)) for a, b in filled)
    return float(index), _chi_squared_quantile(len(filled) - 1) * (1 / n + 1 / m)


def _chi_squared_quantile(freedom: int, z: float = 3.09) -> float:
    """Return the quantile of a chi-squared variable, by default that of 99.9 %.

    Source: Wilson and Hilferty (1931), The Distribution of Chi-Square, PNAS 17, pp. 684-688.
    """
    return float(freedom * (1 - 2 / (9 * freedom) + z * math.sqrt(2 / (9 * freedom))) ** 3)


def missing_share(column: Sequence[Mapping[str, Any]]) -> float:
    """Return which share of a column's values is missing, 0 to 1."""
    total = sum(part["count"] for part in column)
    return sum(part["missing"] for part in column) / total if total else 0.0


def _present(column: Sequence[Mapping[str, Any]]) -> int:
    return sum(part["count"] - part["missing"] for part in column)


def _shares(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> tuple[list[float], list[float]] | None:
    both = [part for part in (*before, *after) if part["count"] > part["missing"]]
    if all("values" in part for part in both):
        words = sorted({word for part in both for word in part["values"]})
        return _counts(before, words), _counts(after, words)
    if all("quantiles" in part for part in both):
        return _binned(before, after)
    return None


def _counts(column: Sequence[Mapping[str, Any]], words: Sequence[str]) -> list[float]:
    """Return the share of each word, and of all others together."""
    total = max(1, _present(column))
    shares = [sum(part.get("values", {}).get(word, 0) for part in column) / total for word in words]
    return [*shares, max(0.0, 1 - sum(shares))]


def _binned(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> tuple[list[float], list[float]]:
    import numpy as np

    points = np.unique(np.concatenate([part["quantiles"] for part in before if "quantiles" in part]))
    wanted = np.linspace(0.0, 1.0, BINS + 1)[1:-1]
    edges = np.unique(np.interp(wanted, _cumulative(before, points), points))
    ends = [np.concatenate(([0.0], _cumulative(column, edges), [1.0])) for column in (before, after)]
    shares = [[float(share) for share in np.diff(each)] for each in ends]
    return shares[0], shares[1]


def _cumulative(column: Sequence[Mapping[str, Any]], at: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Return which share of a column, over all of its files, is at most each of some values."""
    import numpy as np

    total = np.zeros(len(at))
    for part in column:
        if "quantiles" in part:
            # Of several quantiles of one value the last says how much lies up to it.
            points, place = np.unique(np.asarray(part["quantiles"])[::-1], return_index=True)
            shares = (QUANTILES - 1 - place) / (QUANTILES - 1)
            total += (part["count"] - part["missing"]) * np.interp(at, points, shares, left=0.0)
    return total / max(1, _present(column))
