"""Strategies: how traffic moves, compiled to steps.

Pure; the machine that walks the steps is `taxiway_serving.rollout`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.names import is_version
from taxiway_serving.rollout.spec import RolloutSpec, spec_from_json, strategy_of
from taxiway_serving.rollout.steps import Experiment, SetHeaderRoute, SetMirrorRoute, Step
from taxiway_serving.strategies import ab, bandit, blue_green, canary, shadow
from taxiway_serving.strategies.options import Options

Preset = Callable[[Options], tuple[Step, ...]]
"""Options in, steps out; what is wrong is left with the options."""

PRESETS: Mapping[str, Preset] = {
    "canary": canary.preset,
    "linear": canary.linear,
    "all_at_once": canary.all_at_once,
    "blue_green": blue_green.preset,
    "bandit": bandit.preset,
    "shadow": shadow.preset,
    "ab": ab.preset,
    "undo": blue_green.pointer,
}

COMPARING = ("shadow", "ab")
"""Strategies that are nothing without a live version to compare with."""


def rollout_from_json(data: Mapping[str, Any]) -> RolloutSpec:
    """Read a rollout's specification, its strategy's options included.

    Raises:
        InvalidSpecError: With every fault of both at once.
    """
    faults: list[str] = []
    spec = None
    try:
        spec = spec_from_json(data)
        plan(spec, 0)
    except InvalidSpecError as error:
        faults += error.faults
    if spec is None:
        strategy = strategy_of(data, [])
        options = {key: value for key, value in strategy.items() if key not in ("kind", "steps")}
        versions = (data.get("version"), *_listed(data.get("rivals")))
        _, more = _compiled(
            strategy.get("kind", "canary"),
            options,
            tuple(v for v in versions if is_version(v)),
            strategy.get("steps"),
        )
        faults += more
    if spec is None or faults:
        raise InvalidSpecError(tuple(faults), "rollout")
    return spec


def plan(spec: RolloutSpec, stable: int | None) -> tuple[Step, ...]:
    """Return the steps of a rollout.

    Args:
        spec: What the caller asked for; its own steps win over the preset.
        stable: The version that serves now. With none there is nothing to compare with or to fall back on, so
            every strategy of one candidate becomes a first deployment: all traffic at once under the one-sample guard.

    Raises:
        InvalidSpecError: With every fault of the strategy's options at once.
    """
    preset, faults = _compiled(spec.strategy, spec.options, spec.versions, spec.steps)
    steps = spec.steps or preset
    faults += _faults(spec, steps)
    is_comparing = spec.strategy in COMPARING or len(spec.versions) > 1
    if stable is None and (is_comparing or any(isinstance(step, SetMirrorRoute) for step in steps)):
        faults.append(f"{spec.strategy}: {spec.handle} has no live version to compare with; deploy one first")
    if faults:
        raise InvalidSpecError(tuple(faults), "rollout")
    return canary.first_deployment() if stable is None else steps


def _compiled(
    kind: Any, given: Mapping[str, Any], versions: tuple[int, ...], own_steps: Any
) -> tuple[tuple[Step, ...], list[str]]:
    """Return a strategy's steps, and what is wrong with its options."""
    if not isinstance(kind, str) or kind not in PRESETS:
        return (), []
    if own_steps:
        faults = [f"strategy.{key}: given beside steps, which say all; leave it out" for key in sorted(given)]
        return (), faults
    options = Options(kind, given, versions or (1,))
    steps = PRESETS[kind](options)
    options.refuse_rest()
    return steps, options.faults


def _faults(spec: RolloutSpec, steps: tuple[Step, ...]) -> list[str]:
    """Return what steps and rollout together have wrong."""
    faults = []
    dry = {metric.name for metric in spec.metrics if metric.dry_run}
    others = {metric.name for metric in spec.metrics if metric.kind != "feedback"}
    for step in steps:
        if isinstance(step, Experiment) and step.metric in dry:
            faults.append(f"strategy.metric: {step.metric} is a dry run, which names no winner")
        if isinstance(step, Experiment) and step.metric in others:
            faults.append(f"strategy.metric: {step.metric} is no metric of feedback; only that is compared")
        routed = set((step.values or {}).values()) if isinstance(step, SetHeaderRoute) else set()
        if strangers := sorted(routed - set(spec.versions)):
            faults.append(f"setHeaderRoute: leads to {strangers}; the candidates are {list(spec.versions)}")
    return faults


def _listed(items: Any) -> tuple[Any, ...]:
    return tuple(items) if isinstance(items, list | tuple) else ()
