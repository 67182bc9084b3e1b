"""Strategies: how traffic moves, compiled to steps.

Pure; the machine that walks the steps is `taxiway_serving.rollout`.
"""

from taxiway_serving.rollout.steps import RolloutSpec, Step
from taxiway_serving.strategies import blue_green, canary

PRESETS = {"canary": canary.preset, "blue_green": blue_green.preset, "undo": blue_green.pointer}


def plan(spec: RolloutSpec, stable: int | None) -> tuple[Step, ...]:
    """Return the steps of a rollout.

    Args:
        spec: What the caller asked for; its own steps win over the preset.
        stable: The version that serves now. With none there is nothing to compare with or to fall back on, so
            every strategy becomes a first deployment: all traffic at once under the one-sample guard.
    """
    if stable is None:
        return canary.first_deployment()
    return spec.steps or PRESETS[spec.strategy]()
