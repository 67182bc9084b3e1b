"""What a caller asks of a rollout as a whole. Bytes from outside become values here, with every fault at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, TypeVar

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.names import check_handle, check_version
from taxiway_serving.rollout.metrics import Metric, metric_from_json
from taxiway_serving.rollout.plans import plan_faults, plan_from_json, step_to_json
from taxiway_serving.rollout.steps import Step
from taxiway_serving.rollout.typed import is_number

T = TypeVar("T")

STRATEGIES = ("canary", "linear", "all_at_once", "blue_green", "bandit", "shadow", "ab", "undo")
SEVERAL = ("bandit", "ab")
"""Strategies that may bring several candidates."""
OWN_STEPS = ("canary", "blue_green")
GRADUAL = ("canary", "linear")
"""Strategies that let users in little by little, so that a cap on them means something."""
ON_FAILURE = ("abort", "pause")
ON_RUNNING = ("reject", "supersede", "queue")
MOST_CANDIDATES = 20
MOST_USERS = 1000
YEAR_S = 365 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rollouts of several handles that are promoted together or not at all.

    Attributes:
        name: The group's name.
        handles: Every handle of it, this rollout's among them.
    """

    name: str
    handles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSpec:
    """What a caller asks for: bring this version to all of a handle's traffic, by this strategy.

    Attributes:
        id: The caller's name of the rollout; asking twice with one id is asking once.
        handle: Endpoint.
        version: The candidate.
        rivals: Further candidates of a bandit or an A/B/n experiment.
        strategy: One of `STRATEGIES`.
        options: Options of the strategy, as JSON; the strategy reads them when it compiles its plan.
        steps: The caller's own steps; empty takes the strategy's preset.
        availability: The SLO, in (0, 1); 1 - availability is the error budget.
        latency_ms: The SLO's p99 in milliseconds, for the metric `latency_slo`; None where there is none.
        alpha: Probability of rolling back a healthy version, over the whole rollout; in (0, 1).
        metrics: What is counted beside errors.
        shield: Repeat a candidate's server error once on the stable version. False for calls that must not run twice.
        warm_s: Seconds that the version left behind stays running, for an undo that loads nothing.
        max_users: Most distinct users who may meet the candidate before it is proven; None sets no cap.
        on_failure: `abort` takes the traffic back at once; `pause` stops and waits for a person.
        on_running: What becomes of this rollout while another runs on the handle.
        deadline_s: Seconds after which a rollout that is not over pauses as inconclusive, once; None waits for ever.
        reverify: Prove the contract again at every step, where the candidate has one.
        group: Rollouts to be promoted together with; None stands alone.
        actor: Who asks, for the ledger.
    """

    id: str
    handle: str
    version: int
    rivals: tuple[int, ...] = ()
    strategy: str = "canary"
    options: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    availability: float = 0.99
    latency_ms: float | None = None
    alpha: float = 0.01
    metrics: tuple[Metric, ...] = ()
    shield: bool = True
    warm_s: float = 600.0
    max_users: int | None = None
    on_failure: str = "abort"
    on_running: str = "reject"
    deadline_s: float | None = None
    reverify: bool = True
    group: Group | None = None
    actor: str = "unknown"
    faults: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        faults = self.faults + tuple(_spec_faults(self))
        if faults:
            raise InvalidSpecError(faults, "rollout")

    @property
    def versions(self) -> tuple[int, ...]:
        """Every candidate, the first one first."""
        return (self.version, *self.rivals)

    def to_json(self) -> dict[str, Any]:
        """Return the specification as plain JSON values; `spec_from_json` is the way back."""
        plain = {name: getattr(self, name) for name in _PLAIN}
        strategy = {
            "kind": self.strategy,
            **self.options,
            "steps": [step_to_json(step) for step in self.steps],
        }
        group = {"name": self.group.name, "handles": list(self.group.handles)} if self.group else None
        return {
            **plain,
            "rivals": list(self.rivals),
            "strategy": strategy,
            "metrics": [metric.to_json() for metric in self.metrics],
            "group": group,
        }


_READ_APART = ("rivals", "strategy", "options", "steps", "metrics", "group", "faults")
_PLAIN = tuple(item.name for item in fields(RolloutSpec) if item.name not in _READ_APART)
KEYS = (*_PLAIN, "rivals", "strategy", "metrics", "group")
"""What a caller may write."""


def spec_from_json(data: Mapping[str, Any]) -> RolloutSpec:
    """Read a rollout's specification; `strategies.rollout_from_json` names the faults of its options as well.

    Raises:
        InvalidSpecError: With every fault at once.
    """
    faults = [f"{key}: unknown; known are {', '.join(sorted(KEYS))}" for key in sorted(set(data) - set(KEYS))]
    strategy = strategy_of(data, faults)
    given = {key: data[key] for key in _PLAIN if data.get(key) is not None}
    missing = [key for key in ("id", "handle", "version") if key not in given]
    faults += [f"{key}: missing" for key in missing]
    given |= {key: stand_in for key, stand_in in _STAND_INS.items() if key in missing}
    no_steps: tuple[Step, ...] = ()
    steps = _collected(faults, lambda: plan_from_json(strategy.get("steps") or ()), no_steps)
    metrics = _metrics(data.get("metrics") or (), faults)
    group = _collected(faults, lambda: _group(data.get("group")), None)
    return RolloutSpec(
        **given,
        rivals=_rivals(data.get("rivals") or (), faults),
        strategy=strategy.get("kind", "canary"),
        options={key: value for key, value in strategy.items() if key not in ("kind", "steps")},
        steps=steps,
        metrics=metrics,
        group=group,
        faults=tuple(faults),
    )


_STAND_INS: Mapping[str, Any] = {"id": "?", "handle": "unknown", "version": 1}
"""What stands in for what is missing, so that the faults of all the rest are named as well."""


def strategy_of(data: Mapping[str, Any], faults: list[str]) -> Mapping[str, Any]:
    """Return the strategy that a caller wrote, as an object; what is no strategy is a fault and an empty one."""
    strategy = data.get("strategy") or {}
    strategy = {"kind": strategy} if isinstance(strategy, str) else strategy
    if isinstance(strategy, Mapping):
        return strategy
    faults.append(f"strategy: got {strategy!r}; give a name or an object with kind and its options")
    return {}


def _collected(faults: list[str], read: Callable[[], T], otherwise: T, *, where: str = "") -> T:
    try:
        return read()
    except InvalidSpecError as error:
        faults.extend(where + fault for fault in error.faults)
        return otherwise


def _metrics(items: Any, faults: list[str]) -> tuple[Metric, ...]:
    if not isinstance(items, Sequence) or isinstance(items, str):
        faults.append(f"metrics: got {items!r}; give a list of names or objects")
        return ()
    read = [_collected(faults, partial(metric_from_json, item), None) for item in items]
    return tuple(metric for metric in read if metric is not None)


def _rivals(items: Any, faults: list[str]) -> tuple[int, ...]:
    if not isinstance(items, Sequence) or isinstance(items, str):
        faults.append(f"rivals: got {items!r}; give a list of versions")
        return ()
    return tuple(items)


def _group(item: Any) -> Group | None:
    if item is None:
        return None
    handles = item.get("handles") if isinstance(item, Mapping) else None
    is_list = isinstance(handles, Sequence) and not isinstance(handles, str)
    if not is_list or set(item) != {"name", "handles"} or not isinstance(item["name"], str):
        raise InvalidSpecError((f"group: got {item!r}; give an object with name and handles",), "rollout")
    return Group(name=item["name"], handles=tuple(handles or ()))


def _spec_faults(spec: RolloutSpec) -> list[str]:
    faults = [*_name_faults(spec), *_number_faults(spec), *_choice_faults(spec), *_group_faults(spec)]
    if spec.rivals and spec.strategy not in SEVERAL:
        faults.append(f"rivals: {spec.strategy} brings one version; {' and '.join(SEVERAL)} bring several")
    if spec.steps and spec.strategy not in OWN_STEPS:
        own = " and ".join(OWN_STEPS)
        faults.append(f"steps: {spec.strategy} has steps of its own; {own} take a caller's")
    elif spec.steps:
        faults += plan_faults(spec.steps)
    if spec.max_users is not None and spec.strategy not in GRADUAL:
        gradual = " and ".join(GRADUAL)
        faults.append(
            f"max_users: {spec.strategy} cannot keep to a cap; {gradual} let users in little by little"
        )
    if len({metric.name for metric in spec.metrics}) < len(spec.metrics):
        faults.append("metrics: a name is there twice")
    if spec.latency_ms is None and any(metric.kind == "latency_slo" for metric in spec.metrics):
        faults.append("latency_ms: missing; latency_slo needs the SLO's p99 in milliseconds")
    return faults


def _name_faults(spec: RolloutSpec) -> list[str]:
    faults: list[str] = []
    _collected(faults, lambda: check_handle(spec.handle), None, where="handle: ")
    for version in spec.versions:
        _collected(faults, partial(check_version, version), None, where="version: ")
    if len({repr(version) for version in spec.versions}) < len(spec.versions):
        faults.append(f"rivals: got {list(spec.versions)}; each version once")
    if len(spec.versions) > MOST_CANDIDATES:
        faults.append(f"rivals: got {len(spec.versions)} candidates; at most {MOST_CANDIDATES}")
    names: dict[str, object] = {"id": spec.id, "actor": spec.actor}
    faults += [
        f"{key}: got {name!r}; must be text of 1 to 250 characters"
        for key, name in names.items()
        if not isinstance(name, str) or not 0 < len(name) <= 250
    ]
    return faults


def _number_faults(spec: RolloutSpec) -> list[str]:
    faults = []
    for name in ("availability", "alpha"):
        value = getattr(spec, name)
        if not is_number(value) or not 0 < value < 1:
            faults.append(f"{name}: got {value!r}; must lie between 0 and 1, both excluded")
    if not is_number(spec.warm_s) or not 0 <= spec.warm_s <= YEAR_S:
        faults.append(f"warm_s: got {spec.warm_s!r}; must be seconds, at least 0 and at most a year")
    for name, unit in (("latency_ms", "milliseconds"), ("deadline_s", "seconds")):
        value = getattr(spec, name)
        if value is not None and (not is_number(value) or value <= 0):
            faults.append(f"{name}: got {value!r}; must be {unit} above 0")
    most: object = spec.max_users
    if most is not None and (
        not isinstance(most, int) or isinstance(most, bool) or not 1 <= most <= MOST_USERS
    ):
        faults.append(f"max_users: got {most!r}; must be a whole number from 1 to {MOST_USERS}")
    return faults


def _choice_faults(spec: RolloutSpec) -> list[str]:
    choices = {"strategy": STRATEGIES, "on_failure": ON_FAILURE, "on_running": ON_RUNNING}
    faults = []
    for name, known in choices.items():
        value = getattr(spec, name)
        if value not in known:
            faults.append(f"{name}: got {value!r}; known are {', '.join(known)}")
    for name in ("shield", "reverify"):
        value = getattr(spec, name)
        if not isinstance(value, bool):
            faults.append(f"{name}: got {value!r}; must be true or false")
    return faults


def _group_faults(spec: RolloutSpec) -> list[str]:
    if spec.group is None:
        return []
    faults: list[str] = []
    for handle in spec.group.handles:
        _collected(faults, partial(check_handle, handle), None, where="group.handles: ")
    handles = [str(handle) for handle in spec.group.handles]
    if not 0 < len(spec.group.name) <= 250:
        faults.append(f"group.name: got {spec.group.name!r}; must be text of 1 to 250 characters")
    if spec.handle not in handles or len(set(handles)) < len(handles):
        faults.append(f"group.handles: got {', '.join(handles)}; name each once, {spec.handle} among them")
    return faults
