"""Bandit: several versions at once, and more traffic for the one that earns more. Pure."""

from collections.abc import Mapping
from typing import Any

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.rollout.steps import Bake, Explore, SetWeight, Step, read_step
from taxiway_serving.strategies.options import flag


def preset(options: Mapping[str, Any], candidates: int) -> tuple[Step, ...]:
    """Return even shares, the exploration, and all traffic to its winner.

    Args:
        options: Fields of `Explore`, and `promote`: without it the winner is named and the stable version stays.
        candidates: How many versions compete with the stable one.
    """
    promotes = flag("bandit", options, "promote", default=True)
    explore: Explore = read_step("explore", {k: v for k, v in options.items() if k != "promote"})
    if explore.floor * (candidates + 1) >= 1:
        fault = (
            f"strategy.floor: got {explore.floor:g} for {candidates + 1} arms; together it must stay below 1"
        )
        raise InvalidSpecError((fault,), "rollout")
    even = min(100 * candidates / (candidates + 1), candidates * explore.max_weight_pct)
    end: tuple[Step, ...] = (SetWeight(weight_pct=100), Bake(duration_s=10)) if promotes else (SetWeight(),)
    return (SetWeight(weight_pct=round(even, 2)), explore, *end)
