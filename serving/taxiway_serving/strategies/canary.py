"""Canary and its presets: a small share first, more as the evidence grows. Pure."""

from collections.abc import Mapping
from math import ceil
from typing import Any

from taxiway_serving.rollout.steps import Analysis, Bake, Pause, SetWeight, Step
from taxiway_serving.strategies.options import number, refuse_unknown


def preset(options: Mapping[str, Any]) -> tuple[Step, ...]:
    """Return 5 %, 25 %, 100 %: a look at few users, then proof, then a bake under the one-sample guard."""
    refuse_unknown("canary", options, ())
    return (
        SetWeight(weight_pct=5),
        Analysis(units=40),
        SetWeight(weight_pct=25),
        Analysis(units=100, certify=True),
        SetWeight(weight_pct=100),
        Bake(duration_s=10),
    )


def linear(options: Mapping[str, Any]) -> tuple[Step, ...]:
    """Return equal steps, each held for a while; proof before the last one."""
    refuse_unknown("linear", options, ("step_pct", "interval_s"))
    step_pct = number("linear", options, "step_pct", 10.0, 1, 100)
    interval_s = number("linear", options, "interval_s", 60.0, 0, 86_400)
    weights = [min(100.0, step_pct * place) for place in range(1, ceil(100 / step_pct) + 1)]
    steps: list[Step] = []
    for weight in weights[:-1]:
        steps += [SetWeight(weight_pct=weight), Pause(duration_s=interval_s)]
    if steps:
        steps.append(Analysis(units=100, certify=True))
    return (*steps, SetWeight(weight_pct=100), Bake(duration_s=10))


def all_at_once(options: Mapping[str, Any]) -> tuple[Step, ...]:
    """Return all traffic at once, then a bake under the one-sample guard."""
    refuse_unknown("all_at_once", options, ("bake_s",))
    bake_s = number("all_at_once", options, "bake_s", 10.0, 0, 86_400)
    return (SetWeight(weight_pct=100), Bake(duration_s=bake_s))


def first_deployment() -> tuple[Step, ...]:
    """Return all traffic at once: with no older version there is no share to leave behind."""
    return (SetWeight(weight_pct=100), Bake(duration_s=2))
