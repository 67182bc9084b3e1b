"""The JSON form of steps, and what is wrong with one or with a whole plan. The steps themselves are in `steps.py`.

Bytes from outside become values here, and every fault is named at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.rollout.steps import (
    DAY_S,
    LEAST_PCT,
    STEPS,
    Analysis,
    Bake,
    Compare,
    Pause,
    SetHeaderRoute,
    SetMirrorRoute,
    SetWeight,
    Step,
    name_of,
)
from taxiway_serving.rollout.typed import fitting

_BARE = {"setWeight": "weight_pct", "bake": "duration_s"}
"""Steps that may be written as a bare number: `{"setWeight": 5}`."""


def step_to_json(step: Step) -> dict[str, Any]:
    """Return a step in the form that a DAG writes: `{"setWeight": 5}`, `{"bake": {"duration_s": 10}}`."""
    name = name_of(step)
    given = {item.name: getattr(step, item.name) for item in fields(step)}
    changed = {
        item.name: _plain(given[item.name]) for item in fields(step) if given[item.name] != item.default
    }
    if name == "setWeight" and step == SetWeight(weight_pct=given["weight_pct"]):
        return {name: given["weight_pct"]}
    return {name: changed}


def _plain(value: Any) -> Any:
    return {str(key): each for key, each in value.items()} if isinstance(value, Mapping) else value


def plan_from_json(items: Any) -> tuple[Step, ...]:
    """Read steps that `step_to_json` or a caller wrote.

    Raises:
        InvalidSpecError: With every fault at once.
    """
    if not isinstance(items, Sequence) or isinstance(items, str):
        raise InvalidSpecError((f"steps: got {items!r}; give a list such as [{{'setWeight': 5}}]",), "plan")
    steps: list[Step] = []
    faults: list[str] = []
    for number, item in enumerate(items, 1):
        try:
            steps.append(_read_step(item))
        except InvalidSpecError as fault:
            faults += [f"step {number}: {text}" for text in fault.faults]
    if faults:
        raise InvalidSpecError(tuple(faults), "plan")
    return tuple(steps)


def _read_step(item: Any) -> Step:
    if not isinstance(item, Mapping) or len(item) != 1 or next(iter(item)) not in STEPS:
        raise InvalidSpecError((f"got {item!r}; give an object with one of {', '.join(STEPS)}",), "step")
    name, value = next(iter(item.items()))
    options: Mapping[str, Any] = (
        value if isinstance(value, Mapping) else {_BARE.get(str(name), str(name)): value}
    )
    step: Step = read_step(name, options)
    return step


def read_step(name: str, options: Mapping[str, Any], *, where: str = "") -> Any:
    """Return one step from its options.

    Args:
        name: One of `STEPS`.
        options: Its fields as JSON has them.
        where: What a fault calls the place that the options come from; "" is the step's name.

    Raises:
        InvalidSpecError: With every fault at once.
    """
    kind, where = STEPS[name], where or name
    given = {key: _numbered(key, value) for key, value in options.items()}
    fit, faults = fitting(kind, given, where)
    if any(item.name not in fit for item in fields(kind) if item.default is MISSING):
        raise InvalidSpecError(tuple(faults), "step")
    step = kind(**fit)
    faults += [f"{where}.{fault}" for fault in step_faults(step)]
    if faults:
        raise InvalidSpecError(tuple(faults), "step")
    return step


def _numbered(key: str, value: Any) -> Any:
    """JSON knows only text as keys; versions are numbers."""
    if key == "weights" and isinstance(value, Mapping):
        return {int(name) if str(name).isdecimal() else name: each for name, each in value.items()}
    return value


_LIMITS: Mapping[str, tuple[float, float]] = {
    "sample_pct": (0, 100),
    "duration_s": (0, 365 * DAY_S),
    "units": (0, 1e12),
    "samples": (1, 1e9),
    "most_different_pct": (1e-3, 99),
    "update_s": (0.1, DAY_S),
    "half_life_s": (1, 365 * DAY_S),
    "floor": (0, 0.5),
    "max_weight_pct": (1e-2, 100),
    "epsilon": (1e-3, 1),
    "window_s": (0.1, 30 * DAY_S),
    "min_units": (0, 1e12),
    "min_successes": (0, 1e12),
    "min_s": (0, 365 * DAY_S),
    "silence_s": (1, 365 * DAY_S),
    "deadline_s": (1e-3, 365 * DAY_S),
}
"""Least and most of each number, both included."""


def step_faults(step: Step) -> list[str]:
    """Return what is wrong with the values of a step."""
    faults = []
    for item in fields(step):
        value, limits = getattr(step, item.name), _LIMITS.get(item.name)
        if limits and value is not None and not limits[0] <= value <= limits[1]:
            faults.append(f"{item.name}: got {value}; must lie in {limits[0]:g} to {limits[1]:g}")
    if isinstance(step, SetWeight):
        faults += _weight_faults(step)
    if isinstance(step, SetMirrorRoute) and 0 < step.sample_pct < LEAST_PCT:
        faults.append(f"sample_pct: got {step.sample_pct:g}; must be 0 or at least {LEAST_PCT:g}")
    if isinstance(step, SetHeaderRoute):
        faults += _route_faults(step)
    if isinstance(step, Compare):
        faults += _criterion_faults(step)
    return faults


def _criterion_faults(step: Compare) -> list[str]:
    try:
        step.criterion  # noqa: B018  # made for the faults alone
    except InvalidSpecError as error:
        return list(error.faults)
    return []


def _weight_faults(step: SetWeight) -> list[str]:
    given = {"weight_pct": step.weight_pct}
    given |= {f"weights.{version}": pct for version, pct in (step.weights or {}).items()}
    faults = [
        f"{name}: got {pct}; must be 0 or lie in {LEAST_PCT:g} to 100"
        for name, pct in given.items()
        if pct != 0 and not LEAST_PCT <= pct <= 100
    ]
    if step.weights is not None and step.weight_pct:
        faults.append("weight_pct: given beside weights; give one of them")
    if step.weights is not None and not sum(step.weights.values()) <= 100 + 1e-9:
        faults.append(f"weights: add up to {sum(step.weights.values()):g} %; at most 100")
    return faults


def _route_faults(step: SetHeaderRoute) -> list[str]:
    faults = []
    if step.header and step.cookie:
        faults.append("header: given beside a cookie; give one of them")
    if step.value and step.values:
        faults.append("value: given beside values; give one of them")
    if (step.header or step.cookie) and not (step.value or step.values):
        faults.append("value: missing; only requests with exactly this value are led to the candidate")
    if not (step.header or step.cookie) and (step.value or step.values):
        faults.append("header: missing; a value needs the header or the cookie that carries it")
    return faults


CALLERS_STEPS = (SetWeight, SetHeaderRoute, SetMirrorRoute, Pause, Bake, Analysis, Compare)
"""Steps that a caller may write; an exploration and an experiment are strategies of their own."""


def plan_faults(steps: Sequence[Step]) -> list[str]:
    """Return what is wrong with a caller's own plan, which must bring one candidate to all of the traffic."""
    weights = [step.weight_pct for step in steps if isinstance(step, SetWeight)]
    faults = []
    if not weights or weights[-1] != 100:
        faults.append(
            "steps: the last setWeight must be 100, or the rollout would end with two versions live"
        )
    if weights != sorted(weights):
        faults.append(f"steps: weights {weights} fall; a rollout only raises them, a rollback is automatic")
    sample_pct = 0.0
    for number, step in enumerate(steps, 1):
        sample_pct = step.sample_pct if isinstance(step, SetMirrorRoute) else sample_pct
        if isinstance(step, Compare) and not sample_pct:
            faults.append(f"step {number}: compare has nothing to compare; put a setMirrorRoute before it")
        if isinstance(step, SetWeight) and step.weights is not None:
            faults.append(f"step {number}: weights are for several candidates; give one number")
        if not isinstance(step, CALLERS_STEPS):
            faults.append(
                f"step {number}: {name_of(step)} is no step of a caller's plan; ask for the strategy"
            )
    return faults
