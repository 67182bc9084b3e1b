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
    watched: Mapping[int, Sequence[float]] | None = None,
) -> Credit:
    """Return the credited exposures of each arm.

    Args:
        exposures: By arm, (age in seconds >= 0, how many). Ages may be rounded, to ten seconds or so.
        delays: By arm, seconds from exposure to reward, of rewards inside the window. An arm without any may be left
            out. With none at all only mature exposures count, as nobody knows yet how late rewards are.
        window_s: Age from which a missing reward is no reward, > 0.
        watched: By arm, beside each delay the age of its exposure, from which long delays that are still to come are
            allowed for. None says that all are past the window: give only such delays then.

    Raises:
        InvalidSpecError: If the window is not positive, or an age or a delay cannot be.
    """
    made = {arm: np.array([*own], float).reshape(-1, 2) for arm, own in exposures.items()}
    seen = {arm: _pairs(arm, delays, watched, window_s) for arm in made}
    _check(made, seen, window_s)
    pooled = np.concatenate([*seen.values(), np.empty((0, 2))])
    laws = {arm: _law(own) for arm, own in seen.items()}
    medians = [_median(law) for law in laws.values()]
    is_mature = not len(pooled) or bool(are_apart(medians, [len(own) for own in seen.values()]))
    common = _law(pooled)
    found = {}
    for arm, rows in made.items():
        ages, counts = rows[:, 0], rows[:, 1]
        # What an arm's oldest rewarded exposure is too young to show, the other arms' delays tell.
        shown = _at(common, seen[arm][:, 1].max(initial=0.0, keepdims=True))
        own = (
            0.0 if is_mature else shrunk_cdf(_at(laws[arm], ages) * shown, len(seen[arm]), _at(common, ages))
        )
        found[arm] = float((counts * np.where(ages >= window_s, 1.0, own)).sum())
    return Credit(exposures=found, mode="mature" if is_mature else "partial")


def are_apart(medians: ArrayLike, sizes: ArrayLike) -> NDArray[np.bool_]:
    """Return whether the arms' median delays differ too much, for shapes (..., K); few delays say nothing."""
    known = np.asarray(sizes) >= FEWEST_DELAYS
    values = np.asarray(medians, float)
    highest = np.where(known, values, -np.inf).max(-1, initial=-np.inf)
    lowest = np.where(known, values, np.inf).min(-1, initial=np.inf)
    return np.asarray((highest > MOST_APART * lowest) & known.any(-1))


def shrunk_cdf(own: ArrayLike, size: ArrayLike, pooled: ArrayLike) -> Floats:
    """Return the share of delays that have passed: an arm's own, with `SHRINKAGE` pooled delays added.

    Args:
        own: The share by the arm's own delays, in [0, 1].
        size: How many those are.
        pooled: The share by all arms' delays.
    """
    count = np.asarray(size, float)
    return np.asarray((count * own + SHRINKAGE * np.asarray(pooled, float)) / (count + SHRINKAGE))


def passed(arrived: Floats, at_risk: Floats) -> Floats:
    """Return the share of delays that have passed at each place of the last axis, from late places down.

    A reward is only seen if its delay is shorter than its exposure is old. So each place asks, among the rewards that
    would have been seen there and had come by then, how many came just there.

    Args:
        arrived: Rewards with the delay of each place, ascending.
        at_risk: Rewards with that delay or a shorter one, whose exposures are at least as old as the delay.

    Source: product limit in reversed time for truncated data, Lagakos, Barraj and De Gruttola (1988), Biometrika 75.
    """
    stays = 1 - arrived / np.maximum(at_risk, 1.0)
    # One more at risk: a place where all that could be seen came just there would forget every shorter delay.
    stays = np.where(arrived >= at_risk, 1 - arrived / (at_risk + 1.0), stays)
    behind = np.cumprod(stays[..., ::-1], axis=-1)[..., ::-1]
    return np.concatenate([behind[..., 1:], np.ones_like(behind[..., :1])], axis=-1)


def _pairs(
    arm: int,
    delays: Mapping[int, Sequence[float]],
    watched: Mapping[int, Sequence[float]] | None,
    window_s: float,
) -> Floats:
    """Return an arm's (delay, age of its exposure), by delay."""
    own = np.asarray(delays.get(arm, ()), float)
    ages = np.full(own.shape, window_s) if watched is None else np.asarray(watched.get(arm, ()), float)
    if own.shape != ages.shape:
        raise InvalidSpecError(
            (f"arm {arm} has {own.size} delays and {ages.size} ages; give one beside each",), "delays"
        )
    return np.stack([own, ages], 1)[np.argsort(own)]


def _law(pairs: Floats) -> tuple[Floats, Floats]:
    """Return the places of a distribution function of delays, and its values there."""
    places, arrived = np.unique(pairs[:, 0], return_counts=True)
    shorter = np.searchsorted(pairs[:, 0], places, side="right")
    unseen = np.searchsorted(np.sort(pairs[:, 1]), places, side="left")
    return places, passed(arrived.astype(float), (shorter - unseen).astype(float))


def _at(law: tuple[Floats, Floats], ages: Floats) -> Floats:
    places, values = law
    return np.concatenate([[0.0], values])[np.searchsorted(places, ages, side="right")]


def _median(law: tuple[Floats, Floats]) -> float:
    places, values = law
    return float(places[np.searchsorted(values, 0.5)]) if places.size else 0.0


def _check(made: Mapping[int, Floats], seen: Mapping[int, Floats], window_s: float) -> None:
    faults = [] if window_s > 0 else [f"window of {window_s:g} s; choose one above 0"]
    faults += [f"arm {arm} has an exposure below zero" for arm, rows in made.items() if (rows < 0).any()]
    for arm, pairs in seen.items():
        if pairs.size and not 0 <= pairs[0, 0] <= pairs[-1, 0] <= window_s:
            faults.append(
                f"arm {arm} has delays outside [0, {window_s:g}] s; give those of rewards inside the window"
            )
        if (pairs[:, 1] < pairs[:, 0]).any():
            faults.append(f"arm {arm} has a delay longer than its exposure is old")
    if faults:
        raise InvalidSpecError(tuple(faults), "delays")
