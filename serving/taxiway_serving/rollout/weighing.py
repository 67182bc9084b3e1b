"""Weights of candidates: in parts of 10,000, and which shares requests may still follow after a change. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import floor

from taxiway_serving.rollout.state import RolloutState
from taxiway_serving.split import TOTAL_PARTS

SETTLED_S = 1.5
"""Requests under way when the weights change still follow the old ones; after so long hardly one does."""


def share_of(version: int, weights: Mapping[int, float], stable: int | None) -> float:
    """Return a candidate's share of the traffic that it and the stable version have together, in [0, 1]."""
    if stable is None:
        return 1.0
    mine = weights.get(version, 0.0)
    rest = max(0.0, 100 - sum(weights.values()))
    return mine / (mine + rest) if mine else 0.0


def in_parts(shares: Sequence[float]) -> list[float]:
    """Return shares in per cent, in steps of 0.01, that add up to what the shares add up to, and to 100 at most.

    What rounding down leaves goes to the largest remainders.

    Args:
        shares: Each in [0, 1], together at most 1.
    """
    exact = [round(share * TOTAL_PARTS, 6) for share in shares]
    parts = [floor(each) for each in exact]
    left = min(TOTAL_PARTS, round(sum(exact))) - sum(parts)
    by_remainder = sorted(range(len(exact)), key=lambda place: floor(exact[place]) - exact[place])
    for place in by_remainder[: max(0, left)]:
        parts[place] += 1
    return [part * 100 / TOTAL_PARTS for part in parts]


def reweighed(state: RolloutState, weights: Mapping[int, float], now_s: float) -> RolloutState:
    """Return the state with other weights, and the shares before remembered for the requests that are under way."""
    kept = {version: pct for version, pct in weights.items() if pct > 0}
    if kept == state.weights:
        return state
    is_settled = now_s - state.weighed_at_s >= SETTLED_S
    spans = {}
    for version in {**state.weights, **kept}:
        old, new = (share_of(version, each, state.stable) for each in (state.weights, kept))
        low, high = (old, old) if is_settled else state.spans.get(version, (old, old))
        spans[version] = (min(low, old, new), max(high, old, new))
    return replace(state, weights=kept, spans=spans, weighed_at_s=now_s)
