"""Rollouts in memory: what a look may see, and walks of the machine over series of looks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taxiway_serving.answers import Answer
from taxiway_serving.rollout.machine import Decision, advance, begin
from taxiway_serving.rollout.observation import Observation, Rewards
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import RolloutState
from taxiway_serving.rollout.steps import Step
from taxiway_serving.rollout.verbs import act
from taxiway_serving.statistics.label import Counts
from taxiway_serving.strategies import plan, rollout_from_json

STABLE, CANDIDATE = 1, 2


def asked(**body: Any) -> RolloutSpec:
    """Return a rollout of version 2, as a caller asks for it in JSON."""
    return rollout_from_json({"id": "r1", "handle": "digits", "version": CANDIDATE, "warm_s": 0, **body})


def units(canary: int = 30, control: int = 70, *, bad: int = 0, bad_control: int = 0) -> Counts:
    """Return an interval in which every unit is new and made one request."""
    return Counts(
        canary=canary,
        control=control,
        bad_canary=bad,
        bad_control=bad_control,
        fresh=canary,
        requests=canary,
    )


def seen(
    candidate: Answer = Answer.YES,
    *,
    applied: Answer = Answer.YES,
    evidence: Answer = Answer.YES,
    versions: Sequence[int] = (CANDIDATE,),
    errors: Counts | Mapping[int, Counts] | None = None,
    **more: Any,
) -> Observation:
    """Return one look.

    Args:
        candidate: Health of the candidates.
        applied: As of `Observation`.
        evidence: As of `Observation`.
        versions: The candidates.
        errors: Units by candidate, or those of version 2.
        more: Other fields of `Observation`.
    """
    by_version = {CANDIDATE: errors} if isinstance(errors, Counts) else errors or {}
    counts = {f"{version}/errors": counts for version, counts in by_version.items()}
    return Observation(
        candidates=dict.fromkeys(versions, candidate),
        applied=applied,
        evidence=evidence,
        counts={**counts, **more.pop("counts", {})},
        **more,
    )


GOOD = seen()
HEALTHY = seen(errors=units())
BROKEN = seen(errors=units(bad=15))


def earned(exposures: float, total: float, *, at_s: float = 0.0, squares: float = 0.0) -> Rewards:
    """Return what an arm has earned, with every exposure credited."""
    return Rewards(
        exposures=round(exposures), credited=exposures, total=total, squares=squares, last_at_s=at_s
    )


@dataclass
class Walk:
    """A rollout that goes from look to look."""

    spec: RolloutSpec
    stable: int | None = STABLE
    every_s: float = 1.0

    def __post_init__(self) -> None:
        self.now_s = 0.0
        self.steps: tuple[Step, ...] = plan(self.spec, self.stable)
        self.state: RolloutState = begin(stable=self.stable, now_s=0.0)
        self.decisions: list[Decision] = []

    def look(self, look: Observation, *, times: int = 1, after_s: float | None = None) -> RolloutState:
        """See the same so many times."""
        for _ in range(times):
            self.now_s += self.every_s if after_s is None else after_s
            decision = advance(self.spec, self.steps, self.state, look, self.now_s)
            self.state = decision.state
            self.decisions.append(decision)
        return self.state

    def looks(self, looks: Iterable[Observation]) -> RolloutState:
        for each in looks:
            self.look(each)
        return self.state

    def say(self, verb: str, version: int | None = None) -> RolloutState:
        self.state = act(
            self.spec, self.steps, self.state, verb, actor="ann", now_s=self.now_s, version=version
        )
        return self.state

    def until(self, step: type[Step], look: Observation = HEALTHY) -> RolloutState:
        """See the same until a step of this kind is entered."""
        for _ in range(500):
            if isinstance(self.steps[self.state.step], step) and self.state.weights is not None:
                entered = [isinstance(self.steps[d.state.step], step) for d in self.decisions]
                if entered and entered[-1]:
                    return self.state
            self.look(look)
        raise AssertionError(f"never at a {step.__name__}: {self.state}")

    @property
    def weights(self) -> list[float]:
        """The candidates' share together, each change once."""
        found = [0.0]
        for decision in self.decisions:
            if decision.state.weight_pct != found[-1]:
                found.append(decision.state.weight_pct)
        return found
