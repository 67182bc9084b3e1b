"""Bandit: several versions at once, and more traffic for the one that earns more. Pure."""

from taxiway_serving.rollout.steps import Bake, Explore, SetWeight, Step
from taxiway_serving.statistics.thompson import default_floor
from taxiway_serving.strategies.canary import BAKE_S
from taxiway_serving.strategies.options import Options


def preset(options: Options) -> tuple[Step, ...]:
    """Return even shares, the exploration, and all traffic to its winner.

    Options are the fields of `Explore`, and `promote`: without it the winner is named and the stable version stays.
    """
    promotes = options.flag("promote", default=True)
    explore: Explore = options.step("explore", Explore())
    candidates = len(options.versions)
    floor = default_floor(candidates + 1) if explore.floor is None else explore.floor
    if floor * (candidates + 1) > 1:
        options.faults.append(f"strategy.floor: got {floor:g} for {candidates + 1} arms; together at most 1")
    if explore.max_weight_pct < 100 * floor:
        options.faults.append(
            f"strategy.max_weight_pct: got {explore.max_weight_pct:g}, below the floor of {floor:.2%}"
        )
    options.metric("reward", explore.reward)
    even_pct = min(100 * candidates / (candidates + 1), candidates * explore.max_weight_pct)
    end: tuple[Step, ...] = (SetWeight(),)
    if promotes:
        end = (SetWeight(weight_pct=100), Bake(duration_s=BAKE_S))
    return (SetWeight(weight_pct=round(even_pct, 2)), explore, *end)
