"""The steps of a rollout, as values. Names of steps are Argo Rollouts', where it has one.

What a caller writes becomes steps in `plans.py`. What they do to a rollout is in `walk.py`; what a caller asks for as
a whole, in `spec.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from taxiway_serving.criterion import TOLERANCE, Criterion
from taxiway_serving.feedback import How

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


def name_of(step: Step) -> str:
    """Return what JSON calls a step."""
    return next(name for name, kind in STEPS.items() if isinstance(step, kind))
