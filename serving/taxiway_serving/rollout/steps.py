"""A rollout's specification, and the plan of steps that it compiles to. Names of steps are Argo Rollouts'.

Bytes from outside become values here, and every fault is named at once. What the steps do to a rollout is in
`machine.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.names import check_handle, check_version

STRATEGIES = ("canary", "blue_green", "undo")


@dataclass(frozen=True, slots=True, kw_only=True)
class SetWeight:
    """Send this share of the traffic to the candidate; done when it was read back.

    Attributes:
        weight_pct: 0 to 100.
    """

    weight_pct: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Wait, guarded.

    Attributes:
        duration_s: Seconds; None waits until someone resumes or promotes.
    """

    duration_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bake:
    """Let the candidate work, guarded, before the rollout is called done.

    Attributes:
        duration_s: Seconds, >= 0.
    """

    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """Hold until there is enough evidence.

    Attributes:
        units: Distinct candidate units to see during this step, >= 0.
        certify: Hold also until a certificate proves the candidate good enough to promote.
        deadline_s: Seconds after which too little evidence pauses the rollout as inconclusive.
    """

    units: int = 0
    certify: bool = False
    deadline_s: float = 3600.0


Step = SetWeight | Pause | Bake | Analysis

STEP_FIELDS: Mapping[str, tuple[type[Step], tuple[str, ...]]] = {
    "setWeight": (SetWeight, ("weight_pct",)),
    "pause": (Pause, ("duration_s",)),
    "bake": (Bake, ("duration_s",)),
    "analysis": (Analysis, ("units", "certify", "deadline_s")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSpec:
    """What a caller asks for: bring this version to all of a handle's traffic, by this strategy.

    Attributes:
        id: The caller's name of the rollout; asking twice with one id is asking once.
        handle: Endpoint.
        version: The candidate.
        strategy: One of `STRATEGIES`.
        steps: The caller's own steps; empty takes the strategy's preset.
        availability: The SLO, in (0, 1); 1 - availability is the error budget.
        alpha: Probability of rolling back a healthy version, over the whole rollout; in (0, 1).
        shield: Repeat a candidate's server error once on the stable version. False for calls that must not run twice.
        warm_s: Seconds that the version left behind stays running, for an undo that loads nothing.
        actor: Who asks, for the ledger.
    """

    id: str
    handle: str
    version: int
    strategy: str = "canary"
    steps: tuple[Step, ...] = ()
    availability: float = 0.99
    alpha: float = 0.01
    shield: bool = True
    warm_s: float = 600.0
    actor: str = "unknown"
    faults: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        faults = self.faults + tuple(_spec_faults(self))
        if faults:
            raise InvalidSpecError(faults, "rollout")

    def to_json(self) -> dict[str, Any]:
        """Return the specification as plain JSON values; `spec_from_json` is the way back."""
        return {
            "id": self.id,
            "handle": self.handle,
            "version": self.version,
            "strategy": {"kind": self.strategy, "steps": [step_to_json(step) for step in self.steps]},
            "availability": self.availability,
            "alpha": self.alpha,
            "shield": self.shield,
            "warm_s": self.warm_s,
            "actor": self.actor,
        }


def step_to_json(step: Step) -> dict[str, Any]:
    """Return a step in the form that a DAG writes: `{"setWeight": 5}`, `{"bake": {"duration_s": 10}}`."""
    name = next(name for name, (kind, _) in STEP_FIELDS.items() if isinstance(step, kind))
    if isinstance(step, SetWeight):
        return {name: step.weight_pct}
    return {name: {key: getattr(step, key) for key in STEP_FIELDS[name][1] if getattr(step, key) is not None}}


def spec_from_json(data: Mapping[str, Any]) -> RolloutSpec:
    """Read a rollout's specification.

    Raises:
        InvalidSpecError: With every fault at once.
    """
    strategy = data.get("strategy") or {}
    if isinstance(strategy, str):
        strategy = {"kind": strategy}
    if not isinstance(strategy, Mapping):
        raise InvalidSpecError(
            (f"strategy: got {strategy!r}; give a name or an object with kind and steps",), "rollout"
        )
    steps, faults = _read_steps(strategy.get("steps") or ())
    known = {"id", "handle", "version", "strategy", "availability", "alpha", "shield", "warm_s", "actor"}
    faults += [f"{key}: unknown; known are {', '.join(sorted(known))}" for key in sorted(set(data) - known)]
    unknown = sorted(set(strategy) - {"kind", "steps"})
    faults += [f"strategy.{key}: unknown; known are kind and steps" for key in unknown]
    options = {key: data[key] for key in known - {"strategy"} if data.get(key) is not None}
    missing = [key for key in ("id", "handle", "version") if key not in options]
    if missing:
        raise InvalidSpecError((*faults, *(f"{key}: missing" for key in missing)), "rollout")
    kind = strategy.get("kind", "canary")
    return RolloutSpec(strategy=kind, steps=tuple(steps), faults=tuple(faults), **options)


def plan_from_json(items: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    """Read steps that `step_to_json` wrote.

    Raises:
        InvalidSpecError: With every fault at once.
    """
    steps, faults = _read_steps(items)
    if faults:
        raise InvalidSpecError(tuple(faults), "plan")
    return tuple(steps)


def _read_steps(items: Any) -> tuple[list[Step], list[str]]:
    if not isinstance(items, Sequence) or isinstance(items, str):
        return [], [f"steps: got {items!r}; give a list such as [{{'setWeight': 5}}]"]
    steps: list[Step] = []
    faults: list[str] = []
    for number, item in enumerate(items, 1):
        try:
            steps.append(_read_step(item))
        except InvalidSpecError as fault:
            faults += [f"step {number}: {text}" for text in fault.faults]
    return steps, faults


def _read_step(item: Any) -> Step:
    if not isinstance(item, Mapping) or len(item) != 1 or next(iter(item)) not in STEP_FIELDS:
        raise InvalidSpecError(
            (f"got {item!r}; give an object with one of {', '.join(STEP_FIELDS)}",), "step"
        )
    name, value = next(iter(item.items()))
    kind, keys = STEP_FIELDS[name]
    options = value if isinstance(value, Mapping) else {keys[0]: value}
    unknown = sorted(set(options) - set(keys))
    if unknown:
        raise InvalidSpecError((f"{name} has no {', '.join(unknown)}; it takes {', '.join(keys)}",), "step")
    wrong = [key for key, got in options.items() if not _is_of_kind(name, key, got)]
    if wrong:
        what = f"{name}: {', '.join(wrong)} must be a number (certify: true or false), got {value!r}"
        raise InvalidSpecError((what,), "step")
    try:
        return kind(**options)
    except TypeError as error:
        raise InvalidSpecError((f"{name}: {error}",), "step") from error


def _is_of_kind(step: str, key: str, value: Any) -> bool:
    if key == "certify":
        return isinstance(value, bool)
    if value is None:
        return step == "pause"
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _spec_faults(spec: RolloutSpec) -> list[str]:
    faults = [*_name_faults(spec)]
    if spec.strategy not in STRATEGIES:
        faults.append(f"strategy: got {spec.strategy!r}; known are {', '.join(STRATEGIES)}")
    for name in ("availability", "alpha"):
        value: object = getattr(spec, name)
        if not isinstance(value, int | float) or not 0 < value < 1:
            faults.append(f"{name}: got {value!r}; must lie between 0 and 1, both excluded")
    warm_s: object = spec.warm_s
    if not isinstance(warm_s, int | float) or warm_s < 0:
        faults.append(f"warm_s: got {warm_s!r}; must be seconds, at least 0")
    return faults + plan_faults(spec.steps)


def _name_faults(spec: RolloutSpec) -> list[str]:
    faults: list[str] = []
    for check in (lambda: check_handle(spec.handle), lambda: check_version(spec.version)):
        try:
            check()
        except InvalidSpecError as error:
            faults.extend(error.faults)
    name: object = spec.id
    if not isinstance(name, str) or not 0 < len(name) <= 250:
        faults.append(f"id: got {name!r}; must be text of 1 to 250 characters")
    return faults


def plan_faults(steps: Sequence[Step]) -> list[str]:
    """Return what is wrong with a caller's steps; an empty list of steps (take the preset) has no fault."""
    faults = [
        f"step {number}: {fault}" for number, step in enumerate(steps, 1) for fault in _step_faults(step)
    ]
    weights = [step.weight_pct for step in steps if isinstance(step, SetWeight)]
    if steps and (not weights or weights[-1] != 100):
        faults.append(
            "steps: the last setWeight must be 100, or the rollout would end with two versions live"
        )
    if weights != sorted(weights):
        faults.append(f"steps: weights {weights} fall; a rollout only raises them, a rollback is automatic")
    return faults


def _step_faults(step: Step) -> list[str]:
    if isinstance(step, SetWeight) and not 0 <= step.weight_pct <= 100:
        return [f"setWeight: got {step.weight_pct}; must lie in 0 to 100"]
    if isinstance(step, Pause | Bake) and step.duration_s is not None and step.duration_s < 0:
        return [f"duration_s: got {step.duration_s}; must be at least 0"]
    if isinstance(step, Analysis) and (step.units < 0 or step.deadline_s <= 0):
        return [f"analysis: got units {step.units}, deadline_s {step.deadline_s}; units >= 0, deadline_s > 0"]
    return []
