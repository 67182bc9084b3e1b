"""Whole rollouts, simulated: the real machine walks real plans, look by look, over users made up in `crowds.py`.

What holds for one e-process has to hold for all that a rollout is judged by, while the evidence itself moves the
weights: that is what is measured here. A rollout is walked to its end, or to its first pause; the cases are in
`plans.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.simulations import plans
from benchmarks.simulations.crowds import Crowd, Habits
from benchmarks.simulations.measured import Measured, Rng, mean, share
from benchmarks.simulations.plans import BROKEN, CLICKS, EARNING, FLAWLESS, HOPELESS, POOR, SAME, Asked
from taxiway_serving.answers import Answer
from taxiway_serving.rollout.judges import candidates_of
from taxiway_serving.rollout.machine import advance, begin
from taxiway_serving.rollout.mismatch import ALPHA as MISMATCH_ALPHA
from taxiway_serving.rollout.mismatch import SAMPLE_RATIO
from taxiway_serving.rollout.observation import Compared, Observation, key_of
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import PROMOTIONS, Outcome, RolloutState, Status
from taxiway_serving.rollout.weighing import SETTLED_S
from taxiway_serving.strategies import plan, rollout_from_json

LOOKS = 600
"""A rollout that has not ended by then is left as it stands."""
EXPLORING_LOOKS = 40
"""For a bandit of equal arms, and where nothing can be proven: they have no end to come to."""
ALPHA = 0.05
STABLE = 1


@dataclass(slots=True, kw_only=True)
class Run:
    """How one rollout went.

    Attributes:
        state: Its last one.
        looks: How many looks it took.
        is_anyone_out: Whether the evidence took a candidate out, or the whole rollout back.
    """

    state: RolloutState
    looks: int
    is_anyone_out: bool

    @property
    def has_ended(self) -> bool:
        return self.state.status is Status.ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Rollouts of one kind.

    Attributes:
        name: For the table.
        asked: What is asked for; drawn anew for each run.
        habits: What users are like.
        stable: What was live before; None for a first deployment.
        answers: What mirrored answers show at a look; None mirrors nothing.
        looks: After so many at most it is left as it stands.
        until_out: Whether it is over as soon as any candidate is out.
    """

    name: str
    asked: Asked
    habits: Habits
    stable: int | None = STABLE
    answers: Callable[[Rng], Compared] | None = None
    looks: int = LOOKS
    until_out: bool = False


def rollout(rng: Rng, case: Case, crowd: Crowd | None = None) -> Run:
    """Walk one rollout to its end, to its first pause, or for `case.looks` looks of a second each."""
    crowd = crowd or Crowd(rng, case.habits, looks=case.looks)
    body = {"id": "r", "handle": "simulated", "version": 2, "alpha": ALPHA, **case.asked(rng)}
    spec = rollout_from_json(body)
    steps, state = plan(spec, case.stable), begin(stable=case.stable, now_s=0.0)
    for look in range(1, case.looks + 1):
        seen = _seen(rng, case, spec, state, crowd, float(look))
        state = advance(spec, steps, state, seen, float(look)).state
        is_over = state.status in (Status.PAUSED, Status.ENDED, Status.ROLLING_BACK)
        if is_over or (case.until_out and state.dropped):
            break
    is_out = state.outcome in (Outcome.ROLLED_BACK, Outcome.ABORTED) or bool(state.dropped)
    return Run(state=state, looks=look, is_anyone_out=is_out)


def _seen(
    rng: Rng, case: Case, spec: RolloutSpec, state: RolloutState, crowd: Crowd, now_s: float
) -> Observation:
    versions = candidates_of(spec, state)
    tested = next(iter(state.header.versions.values())) if state.header else None
    asked = crowd.ask(state.stable, state.weights, candidates=versions, tested=tested)
    named = {metric.name for metric in spec.metrics}
    queries = [metric for metric in spec.metrics if metric.kind == "prometheus"]
    is_settled = now_s - state.weighed_at_s >= SETTLED_S
    is_mirrored = case.answers is not None and state.mirror_pct > 0
    return Observation(
        candidates=dict.fromkeys(versions, Answer.YES),
        applied=Answer.YES,
        evidence=Answer.YES,
        counts=asked.counts,
        assigned=asked.assigned if is_settled and tested is None else {},
        values={key: each for key, each in asked.values.items() if key.rpartition("/")[2] in named and each},
        measured={key_of(version, each.name): rng.random() for each in queries for version in versions},
        rewards=crowd.rewards((STABLE, *versions)) if case.habits.click else {},
        compared={2: case.answers(rng)} if is_mirrored and case.answers else {},
    )


def runs_of(rng: Rng, runs: int, case: Case) -> list[Run]:
    """Walk so many rollouts."""
    return [rollout(rng, case) for _ in range(runs)]


EXPERIMENTS = (plans.bandit, plans.experiment, plans.chosen)
SPLITTING: tuple[tuple[str, Asked, int], ...] = (
    ("canary", plans.canary, LOOKS),
    ("linear", plans.linear, LOOKS),
    ("random plans", plans.own_steps, LOOKS),
    ("all at once", plans.at_once, LOOKS),
    ("blue-green with preview", plans.blue_green, LOOKS),
    ("bandit of three", plans.bandit, EXPLORING_LOOKS),
    ("A/B/C", plans.experiment, LOOKS),
    ("A/B by header", plans.chosen, LOOKS),
)


def healthy(rng: Rng, runs: int) -> list[Measured]:
    """A/A: a version no worse than the live one is taken back with probability alpha at most, whatever the plan."""
    cases = [_case(name, asked, looks) for name, asked, looks in SPLITTING if asked not in EXPERIMENTS]
    cases += [
        replace(_case("canary, errors climb to three times as many", plans.canary), habits=plans.CLIMBING),
        replace(_case("random plans, errors climb likewise", plans.own_steps), habits=plans.CLIMBING),
        Case(name="first deployment", asked=plans.at_once, habits=SAME, stable=None),
    ]
    return _alike(rng, runs, cases, "one candidate")


def healthy_experiments(rng: Rng, runs: int) -> list[Measured]:
    """The same of experiments and of comparisons, and where both versions fail more than they may."""
    cases = [_case(name, asked, looks) for name, asked, looks in SPLITTING if asked in EXPERIMENTS]
    climbing = _case("bandit of three, errors climb likewise", plans.bandit, EXPLORING_LOOKS)
    poor = _case("random plans, both over the budget", plans.over_budget, EXPLORING_LOOKS)
    cases += [
        replace(climbing, habits=plans.CLIMBING),
        replace(poor, habits=POOR),
        replace(_case("shadow, a noisy model", plans.shadow), answers=_noisy(0.1, 0.1)),
    ]
    return _alike(rng, runs, cases, "experiments")


def _alike(rng: Rng, runs: int, cases: Sequence[Case], what: str) -> list[Measured]:
    found, uneven = [], list[bool]()
    for case in cases:
        went = runs_of(rng, runs, case)
        uneven += [SAMPLE_RATIO in run.state.failed for run in went]
        out = np.array([run.is_anyone_out for run in went])
        found.append(share(f"A/A rollout taken back: {case.name}", out, ALPHA))
        found.append(share(f"  ended by itself: {case.name}", np.array([run.has_ended for run in went])))
    name = f"A/A rollout paused, the split looks broken: {what}"
    return [*found, share(name, np.array(uneven), MISMATCH_ALPHA)]


def _case(name: str, asked: Asked, looks: int = LOOKS) -> Case:
    habits = EARNING if asked in _EARNED else SAME
    return Case(name=name, asked=asked, habits=habits, looks=looks, answers=_noisy(0.05, 0.05))


_EARNED = (plans.canary, plans.own_steps, plans.over_budget, plans.bandit, plans.experiment)


def _noisy(candidate: float, noise: float) -> Callable[[Rng], Compared]:
    """Return mirrored answers that differ with these probabilities, each on its own."""

    def answers(rng: Rng) -> Compared:
        samples = int(rng.poisson(10))
        differs, disagrees = rng.random(samples) < candidate, rng.random(samples) < noise
        return Compared(
            samples=samples,
            only_candidate=int((differs & ~disagrees).sum()),
            only_noise=int((disagrees & ~differs).sum()),
        )

    return answers


MOST_UNITS = {"canary": 2000, "linear": 6000, "blue-green": 4000, "bandit": 4000}
"""Candidate units within which a flawless version is live; most of them meet it at its last step, at 100 %."""


def flawless(rng: Rng, runs: int) -> list[Measured]:
    """A version that never fails is promoted, in every run and within so many of its units.

    The check of the split knows nothing of failures: it pauses for a person at its own rate, which has its own bar.
    """
    walks: dict[str, Asked] = {
        "canary": lambda _rng: {"metrics": ["latency"]},
        "linear": lambda _rng: {"strategy": {"kind": "linear", "interval_s": 3}, "metrics": ["latency"]},
        "blue-green": lambda _rng: {"strategy": {"kind": "blue_green", "bake_s": 10, "units": 10}},
        "bandit": lambda _rng: {"strategy": plans.BANDIT},
    }
    found, uneven = [], list[bool]()
    for name, asked in walks.items():
        went = runs_of(rng, runs, Case(name=name, asked=asked, habits=FLAWLESS, looks=400))
        paused = np.array([SAMPLE_RATIO in run.state.failed for run in went])
        uneven += paused.tolist()
        units = np.array([run.state.exposed for run in went], float)
        late = np.array([run.state.outcome not in PROMOTIONS for run in went]) | (units > MOST_UNITS[name])
        what = f"flawless, not live within {MOST_UNITS[name]} units: {name}"
        found.append(share(what, late & ~paused, 0.0))
        found.append(mean(f"  units until it is live: {name}", units))
    paused_rate = share("flawless, paused: the split looks broken", np.array(uneven), MISMATCH_ALPHA)
    return [*found, paused_rate]


LOVED = replace(BROKEN, click={**CLICKS, 2: 0.9})


def broken(rng: Rng, runs: int) -> list[Measured]:
    """A version that fails everybody is caught in every run, alone at 100 % too, and meets few users until then."""
    cases = [replace(_case(name, asked, looks), habits=BROKEN) for name, asked, looks in SPLITTING]
    late = replace(BROKEN, is_harm_late=True)
    cases += [
        Case(name="bandit, and it earns most", asked=plans.bandit, habits=LOVED, looks=EXPLORING_LOOKS),
        Case(name="first deployment", asked=plans.canary, habits=BROKEN, stable=None),
        Case(name="all at once, and only alone", asked=plans.at_once, habits=late),
        Case(name="shadow", asked=plans.shadow, habits=BROKEN, answers=_noisy(1.0, 0.1)),
    ]
    found = []
    for case in cases:
        went = runs_of(rng, runs, replace(case, until_out=True))
        missed = np.array([not run.is_anyone_out for run in went])
        found.append(share(f"broken for all, missed: {case.name}", missed, 0.0))
        met = np.array([run.state.exposed for run in went], float)
        found.append(mean(f"  candidate units until it is caught: {case.name}", met))
    return found


MOST_USERS = (20, 100, 500)
CLOSING_LOOKS = 2
"""Looks in which users still come in while the door is being closed at the gateway."""
CROWDS = {
    "nobody fails": replace(FLAWLESS, users=6_000),
    "one in a hundred always fails": replace(SAME, users=6_000, frail=dict.fromkeys(plans.METRICS, 60)),
    "both fail more than they may": replace(POOR, users=6_000),
    "both fail everybody": HOPELESS,
}


def capped(rng: Rng, runs: int) -> list[Measured]:
    """A cap on users is never passed, though the door closes only some looks after it was decided, whoever fails.

    A version that a certificate has proven meanwhile needs no cap any more: such runs are not counted as passed.
    """
    found = []
    for name, habits in CROWDS.items():
        for most in MOST_USERS:
            met, ends = np.zeros(runs), list[RolloutState]()
            for run in range(runs):
                met[run], end = _exposed(rng, most, habits)
                ends.append(end)
            is_proven = np.array([end.is_open for end in ends])
            is_closed = np.array([end.is_closed for end in ends])
            found.append(share(f"cap of {most} users passed: {name}", (met > most) & ~is_proven, 0.0))
            found.append(mean(f"  users who have met the candidate, of {most}: {name}", met))
            found.append(share(f"  runs in which the door was closed, of {most}: {name}", is_closed))
            found.append(share(f"  runs in which it was proven before, of {most}: {name}", is_proven))
    return found


def _exposed(rng: Rng, most: int, habits: Habits) -> tuple[int, RolloutState]:
    """Return how many users have met a candidate with a cap when its door is closed, and how the rollout stands."""
    weights = sorted({*rng.integers(1, 30, 3).tolist()})
    steps: list[dict[str, Any]] = []
    for weight in weights:
        steps += [{"setWeight": weight}, {"pause": {"duration_s": 10}}]
    steps += [{"analysis": {"units": 10**6}}, {"setWeight": 100}]
    # Nothing that few users do proves so small a budget kept, so the cap stays.
    body = {"strategy": {"steps": steps}, "max_users": most, "availability": 0.9999}
    case = Case(name="capped", asked=lambda _rng: body, habits=habits, looks=100)
    crowd = Crowd(rng, case.habits, looks=case.looks)
    run = rollout(rng, case, crowd)
    for _ in range(CLOSING_LOOKS if run.state.is_closed else 0):
        crowd.ask(run.state.stable, run.state.weights, candidates=(2,))
    return crowd.met(2), run.state
