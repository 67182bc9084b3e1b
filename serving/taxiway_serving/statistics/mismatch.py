"""Sample-ratio mismatch: do units arrive at the arms in the shares that the split promises? An e-process for any K.

A split that is not kept (a cache that pins clients, units lost for one arm only, a router that lags) makes every
comparison of the arms worthless, so it pauses a rollout. Pure; reads the counts of `label.py`'s callers.
"""

from collections.abc import Sequence
from math import log

from taxiway_serving.errors import InvalidSpecError

TILTS = (0.5, 0.8, 0.9, 0.95, 1.05, 1.1, 1.25, 2.0)
"""Alternatives: one arm gets this many times its odds."""


def mismatch_terms(units: Sequence[int], shares: Sequence[float]) -> tuple[float, ...]:
    """Return one interval's log-likelihood ratios; they add up over intervals, and `log_mean_exp` is the evidence.

    Each unit is assigned by a hash, on its own, so it goes to arm k with probability share_k. Count a unit once, when
    it is first seen, under the shares of that moment: a sticky user seen again is no new draw. The shares may
    change between intervals in any way that does not look ahead; an arm with share 0 or 1 says nothing meanwhile.

    Args:
        units: New units of each arm, >= 0.
        shares: Each arm's share, in the same order, adding up to 1. Keep the arms' places over the whole rollout.

    Returns:
        len(TILTS) terms for each arm, arm by arm: the state of a guard is their sum, and starts as zeros.

    Raises:
        InvalidSpecError: If the lengths differ, a count is negative, or the shares are no split.

    Source: mixture of label likelihoods; as Lindon and Malek (2022), "Anytime-Valid Inference for Multinomial Count
    Data", whose Dirichlet mixture needs fixed shares.
    """
    _check(units, shares)
    drawn = sum(count for count, share in zip(units, shares, strict=True) if share > 0)
    return tuple(
        count * log(tilt) - drawn * log(share * tilt + 1 - share) if 0 < share < 1 else 0.0
        for count, share in zip(units, shares, strict=True)
        for tilt in TILTS
    )


def _check(units: Sequence[int], shares: Sequence[float]) -> None:
    faults = []
    if len(units) != len(shares) or not len(units):
        faults.append(f"{len(units)} counts for {len(shares)} shares; give one of each for every arm")
    if any(count < 0 for count in units):
        faults.append(f"units {tuple(units)} below zero; units are counted from 0")
    if any(not 0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-3:
        faults.append(f"shares {tuple(shares)} are no split; each in [0, 1], together 1")
    if faults:
        raise InvalidSpecError(tuple(faults), "mismatch")
