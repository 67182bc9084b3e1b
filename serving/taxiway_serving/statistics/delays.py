"""Credit for exposures whose reward may still come: an exposure counts by the part of its delays that has passed.

Without it, an arm that has just got more traffic looks worse than it is, and one with slower rewards never wins. Where
the arms' delays differ much, a part of a window says too little, and only exposures past it count (`mature`). Pure:
ages and delays come in as numbers; nothing here knows of rewards.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from taxiway_serving.errors import InvalidSpecError

Floats = NDArray[np.float64]
Mode = Literal["partial", "mature"]

SHRINKAGE = 20.0
"""Delays of all arms together that are added to an arm's own: with few of its own it follows the pooled ones."""

FEWEST_DELAYS = 10
"""Own delays of an arm below which its median says nothing."""

MOST_APART = 2.0
"""Ratio of two arms' median delays above which only mature exposures count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """What the exposures of each arm count.

    Attributes:
        exposures: Credited exposures by arm, each <= those that were made.
        mode: With "mature", count only the rewards of exposures past the window; with "partial", every reward.
    """

    exposures: Mapping[int, float]
    mode: Mode


def credited(
    exposures: Mapping[int, Iterable[tuple[float, float]]],
    delays: Mapping[int, Sequence[float]],
    *,
    window_s: float,
) -> Credit:
    """Return the credited exposures of each arm.

    Args:
        exposures: By arm, (age in seconds >= 0, how many). Ages may be rounded, to ten seconds or so.
        delays: By arm, seconds from exposure to reward, of rewards inside the window. An arm without any may be left
            out. With none at all only mature exposures count, as nobody knows yet how late rewards are.
        window_s: Age from which a missing reward is no reward, > 0.

    Raises:
        InvalidSpecError: If the window is not positive, or an age or a delay is below 0.
    """
    made = {arm: np.array([*own], float).reshape(-1, 2) for arm, own in exposures.items()}
    own = {arm: np.sort(np.asarray(delays.get(arm, ()), float)) for arm in made}
    _check(made, own, window_s)
    pooled = np.sort(np.concatenate([*own.values(), np.empty(0)]))
    mode = mode_for(delays) if pooled.size else "mature"
    found = {}
    for arm, rows in made.items():
        ages, counts = rows[:, 0], rows[:, 1]
        if mode == "mature":
            parts = (ages >= window_s).astype(float)
        else:
            parts = shrunk_cdf(_ranks(own[arm], ages), own[arm].size, _ranks(pooled, ages), pooled.size)
            parts = np.where(ages >= window_s, 1.0, parts)
        found[arm] = float((counts * parts).sum())
    return Credit(exposures=found, mode=mode)


def mode_for(delays: Mapping[int, Sequence[float]]) -> Mode:
    """Return "mature" where two arms' median delays differ more than twofold, else "partial"."""
    medians = [float(np.median(own)) if len(own) else 0.0 for own in delays.values()]
    return "mature" if are_apart(medians, [len(own) for own in delays.values()]) else "partial"


def are_apart(medians: ArrayLike, sizes: ArrayLike) -> NDArray[np.bool_]:
    """Return whether the arms' median delays differ too much, for shapes (..., K); few delays say nothing."""
    known = np.asarray(sizes) >= FEWEST_DELAYS
    values = np.asarray(medians, float)
    highest = np.where(known, values, -np.inf).max(-1, initial=-np.inf)
    lowest = np.where(known, values, np.inf).min(-1, initial=np.inf)
    return np.asarray((highest > MOST_APART * lowest) & known.any(-1))


def shrunk_cdf(own: ArrayLike, own_size: ArrayLike, pooled: ArrayLike, pooled_size: ArrayLike) -> Floats:
    """Return the share of delays passed: an arm's own, with `SHRINKAGE` delays of the pooled distribution added.

    Args:
        own: The arm's delays that are not above each age.
        own_size: All the arm's delays.
        pooled: The same of all arms.
        pooled_size: All delays, > 0.
    """
    common = np.asarray(pooled, float) / np.maximum(np.asarray(pooled_size, float), 1.0)
    size = np.asarray(own_size, float)
    return np.asarray((np.asarray(own, float) + SHRINKAGE * common) / (size + SHRINKAGE))


def _ranks(ordered: Floats, ages: Floats) -> Floats:
    return np.searchsorted(ordered, ages, side="right").astype(float)


def _check(made: Mapping[int, Floats], own: Mapping[int, Floats], window_s: float) -> None:
    faults = [] if window_s > 0 else [f"window of {window_s:g} s; choose one above 0"]
    faults += [f"arm {arm} has an exposure below zero" for arm, rows in made.items() if (rows < 0).any()]
    faults += [
        f"arm {arm} has delays outside [0, {window_s:g}] s; give those of rewards inside the window"
        for arm, seen in own.items()
        if seen.size and not 0 <= seen[0] <= seen[-1] <= window_s
    ]
    if faults:
        raise InvalidSpecError(tuple(faults), "delays")
