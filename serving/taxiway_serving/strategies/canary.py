"""Canary and its presets: a small share first, more as the evidence grows. Pure."""

from math import ceil

from taxiway_serving.rollout.steps import DAY_S, Analysis, Bake, Pause, SetWeight, Step
from taxiway_serving.strategies.options import Options

BAKE_S = 10.0


def preset(_options: Options) -> tuple[Step, ...]:
    """Return 5 %, 25 %, 100 %: a look at few users, then proof, then a bake under the one-sample guard."""
    return (
        SetWeight(weight_pct=5),
        Analysis(units=40),
        SetWeight(weight_pct=25),
        Analysis(units=100, certify=True),
        SetWeight(weight_pct=100),
        Bake(duration_s=BAKE_S),
    )


def linear(options: Options) -> tuple[Step, ...]:
    """Return equal steps, each held for a while; proof before the last one."""
    step_pct = options.number("step_pct", 10.0, 1, 100)
    interval_s = options.number("interval_s", 60.0, 0, DAY_S)
    weights = [min(100.0, round(step_pct * place, 2)) for place in range(1, ceil(100 / step_pct) + 1)]
    steps: list[Step] = []
    for weight in weights[:-1]:
        steps += [SetWeight(weight_pct=weight), Pause(duration_s=interval_s)]
    if steps:
        steps.append(Analysis(units=100, certify=True))
    return (*steps, SetWeight(weight_pct=100), Bake(duration_s=BAKE_S))


def all_at_once(options: Options) -> tuple[Step, ...]:
    """Return all traffic at once, then a bake under the one-sample guard."""
    bake_s = options.number("bake_s", BAKE_S, 0, DAY_S)
    return (SetWeight(weight_pct=100), Bake(duration_s=bake_s))


def first_deployment() -> tuple[Step, ...]:
    """Return all traffic at once: with no older version there is no share to leave behind."""
    return (SetWeight(weight_pct=100), Bake(duration_s=2))
