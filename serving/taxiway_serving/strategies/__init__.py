"""Strategies: how traffic moves, compiled to steps.

Pure; the machine that walks the steps is `taxiway_serving.rollout`.
"""

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.steps import SetMirrorRoute, Step
from taxiway_serving.strategies import ab, bandit, blue_green, canary, shadow

PRESETS = {
    "canary": canary.preset,
    "linear": canary.linear,
    "all_at_once": canary.all_at_once,
    "blue_green": blue_green.preset,
    "shadow": shadow.preset,
    "undo": blue_green.pointer,
}


def plan(spec: RolloutSpec, stable: int | None) -> tuple[Step, ...]:
    """Return the steps of a rollout.

    Args:
        spec: What the caller asked for; its own steps win over the preset.
        stable: The version that serves now. With none there is nothing to compare with or to fall back on, so
            every strategy becomes a first deployment: all traffic at once under the one-sample guard.

    Raises:
        InvalidSpecError: If the strategy's options have faults.
    """
    if spec.strategy == "bandit":
        steps = bandit.preset(spec.options, len(spec.versions))
    elif spec.strategy == "ab":
        steps = ab.preset(spec.options, spec.versions)
    else:
        steps = PRESETS[spec.strategy](spec.options if not spec.steps else {})
    if stable is None:
        if any(isinstance(step, SetMirrorRoute) for step in steps) or spec.strategy == "ab":
            fault = f"{spec.strategy}: {spec.handle} has no live version to compare with; deploy one first"
            raise InvalidSpecError((fault,), "rollout")
        return canary.first_deployment()
    return spec.steps or steps
