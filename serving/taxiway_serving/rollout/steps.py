"""The steps of a rollout and their JSON form. Names of steps are Argo Rollouts', where it has one.

Bytes from outside become values here, and every fault is named at once. What the steps do to a rollout is in
`walk.py`; what a caller asks for as a whole, in `spec.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

from taxiway_serving.criterion import TOLERANCE, Criterion
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.feedback import How
from taxiway_serving.rollout.typed import fitting

DAY_S = 86_400.0
CRITERION = tuple(item.name for item in fields(Criterion))
LEAST_PCT = 0.01
"""The gateway divides traffic in parts of 10,000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetWeight:
    """Send this share of the traffic to the candidate; done when it was read back.

    Attributes:
        weight_pct: 0 to 100; several candidates share it evenly.
        weights: Per cent by candidate instead; {} takes `weight_pct`.
    """

    weight_pct: float = 0.0
    weights: Mapping[int, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetHeaderRoute:
    """Send requests with this header or cookie to the candidate, whatever the weights; done when it was read back.

    Attributes:
        header: Name of the header; "" (and no cookie) takes the route away.
        cookie: Name of a cookie instead.
        value: Its exact value.
        values: Value to candidate, where several have one.
    """

    header: str = ""
    cookie: str = ""
    value: str = ""
    values: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMirrorRoute:
    """Send a copy of a sample of live requests to the comparison with the candidate; done when it was read back.

    Attributes:
        sample_pct: 0 to 100; 0 takes the mirror away.
    """

    sample_pct: float


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare:
    """Hold until the mirrored answers prove that the candidate answers as the stable version does.

    Fewer than about 340 requests cannot prove a share of 1 %, even if not one answer differs: a version that differs
    in 1 % would show none of it in 340 requests three times in a hundred, and no test may be surer than that.

    Attributes:
        samples: Mirrored requests to compare, >= 1.
        most_different_pct: Share of answers that may differ beyond the stable version's own noise, in (0, 100).
        deadline_s: As of `Analysis`.
        pointer: What counts as the same answer: this one and the three below are as of `Criterion`.
        tolerance: See there.
        relative: See there.
        function: See there.
    """

    samples: int = 400
    most_different_pct: float = 1.0
    deadline_s: float = 3600.0
    pointer: str | None = None
    tolerance: float = TOLERANCE
    relative: float = TOLERANCE
    function: str | None = None

    @property
    def criterion(self) -> Criterion:
        """What counts as the same answer.

        Raises:
            InvalidSpecError: With every fault at once; a step that was read has none.
        """
        return Criterion(**{name: getattr(self, name) for name in CRITERION})


@dataclass(frozen=True, slots=True, kw_only=True)
class Explore:
    """Learn which version earns most, and send it more, until one is the winner.

    Attributes:
        reward: Metric of the feedback that is earned.
        algorithm: Rule for the weights.
        reward_kind: `binary` rewards are 0 or 1; `continuous` ones any number.
        update_s: Seconds between two changes of the weights, > 0.
        half_life_s: Age at which evidence counts half; None never forgets.
        floor: Least share of each arm, in [0, 1 / arms); None takes 1 %, and less each where there are many arms.
        max_weight_pct: Most traffic of a candidate, in (0, 100].
        epsilon: Share that `epsilon_greedy` spreads evenly, in (0, 1).
        window_s: Seconds in which a reward counts for its request.
        how: How several rewards of one request become one: the `first`, the largest (`max`), or all added up (`sum`).
        min_units: Exposures of each arm before the weights leave even shares.
        min_successes: Rewards of each arm before that.
        min_s: Seconds before a winner may be called.
        silence_s: Seconds without any reward after which the split stays as it is.
        deadline_s: As of `Analysis`.
    """

    reward: str = "reward"
    algorithm: Literal["thompson", "epsilon_greedy", "ucb"] = "thompson"
    reward_kind: Literal["binary", "continuous"] = "binary"
    update_s: float = 10.0
    half_life_s: float | None = None
    floor: float | None = None
    max_weight_pct: float = 100.0
    epsilon: float = 0.1
    window_s: float = 60.0
    how: How = "first"
    min_units: int = 100
    min_successes: int = 5
    min_s: float = 60.0
    silence_s: float = 300.0
    deadline_s: float = DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Hold the weights until every arm has enough units, then name a winner, if the metric proves one.

    Attributes:
        metric: Metric of the feedback that is compared; "" compares errors alone.
        reward_kind: As of `Explore`.
        units: Distinct units of each candidate, >= 1.
        window_s: Seconds in which a reward counts for its request.
        how: As of `Explore`.
        deadline_s: Seconds after which the experiment ends with what it has.
    """

    metric: str = ""
    reward_kind: Literal["binary", "continuous"] = "binary"
    units: int = 1000
    window_s: float = 60.0
    how: How = "first"
    deadline_s: float = DAY_S


Step = SetWeight | SetHeaderRoute | SetMirrorRoute | Pause | Bake | Analysis | Compare | Explore | Experiment

STEPS: Mapping[str, type[Step]] = {
    "setWeight": SetWeight,
    "setHeaderRoute": SetHeaderRoute,
    "setMirrorRoute": SetMirrorRoute,
    "pause": Pause,
    "bake": Bake,
    "analysis": Analysis,
    "compare": Compare,
    "explore": Explore,
    "experiment": Experiment,
}

_BARE = {"setWeight": "weight_pct", "bake": "duration_s"}
"""Steps that may be written as a bare number: `{"setWeight": 5}`."""


def name_of(step: Step) -> str:
    """Return what JSON calls a step."""
    return next(name for name, kind in STEPS.items() if isinstance(step, kind))


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
