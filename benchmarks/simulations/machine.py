"""Whole rollouts, simulated: the real machine walks real plans, look by look, over users made up in `crowds.py`.

What holds for one e-process has to hold for all that a rollout is judged by, while the evidence itself moves the
weights: that is what is measured here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.simulations.crowds import Crowd, Habits
from benchmarks.simulations.measured import Measured, Rng, mean, share
from taxiway_serving.answers import Answer
from taxiway_serving.rollout.judges import candidates_of
from taxiway_serving.rollout.machine import advance, begin
from taxiway_serving.rollout.observation import Compared, Observation
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import PROMOTIONS, Outcome, RolloutState, Status
from taxiway_serving.strategies import plan, rollout_from_json

LOOKS = 100
ALPHA = 0.05
STABLE = 1

Asked = Callable[[Rng], dict[str, Any]]
"""A rollout as a caller asks for it, in JSON."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Rollouts of one kind.

    Attributes:
        name: For the table.
        asked: What is asked for; drawn anew for each run.
        habits: What users are like.
        stable: What was live before; None for a first deployment.
        answers: What mirrored answers show at a look; None mirrors nothing.
    """

    name: str
    asked: Asked
    habits: Habits
    stable: int | None = STABLE
    answers: Callable[[Rng], Compared] | None = None
    looks: int = LOOKS


def rollout(rng: Rng, case: Case, crowd: Crowd | None = None) -> Run:
    """Walk one rollout to its end, to its first pause, or for `case.looks` looks of a second each."""
    crowd = crowd or Crowd(rng, case.habits, looks=case.looks)
    body = {"id": "r", "handle": "simulated", "version": 2, "alpha": ALPHA, **case.asked(rng)}
    spec = rollout_from_json(body)
    steps, state = plan(spec, case.stable), begin(stable=case.stable, now_s=0.0)
    for look in range(1, case.looks + 1):
        seen = _seen(rng, case, spec, state, crowd)
        state = advance(spec, steps, state, seen, float(look)).state
        if state.status in (Status.PAUSED, Status.ENDED, Status.ROLLING_BACK):
            break
    is_out = state.outcome in (Outcome.ROLLED_BACK, Outcome.ABORTED) or bool(state.dropped)
    return Run(state=state, looks=look, is_anyone_out=is_out)


def _seen(rng: Rng, case: Case, spec: RolloutSpec, state: RolloutState, crowd: Crowd) -> Observation:
    versions = candidates_of(spec, state)
    is_mirrored = case.answers is not None and state.mirror_pct > 0
    return Observation(
        candidates=dict.fromkeys(versions, Answer.YES),
        applied=Answer.YES,
        evidence=Answer.YES,
        counts=crowd.ask(state.stable, state.weights, candidates=versions),
        rewards=crowd.rewards((STABLE, *versions)) if case.habits.click else {},
        compared={2: case.answers(rng)} if is_mirrored and case.answers else {},
    )


def runs_of(rng: Rng, runs: int, case: Case) -> list[Run]:
    """Walk so many rollouts."""
    return [rollout(rng, case) for _ in range(runs)]


METRICS = ("errors", "client_errors", "latency")
RATES = {"errors": 0.003, "client_errors": 0.02, "latency": 0.01}
FRAIL = {"errors": 10, "client_errors": 30, "latency": 10}
CLICKS = {1: 0.1, 2: 0.1, 3: 0.1, 4: 0.1}
SAME = Habits(rates=RATES, frail=FRAIL)
REWARDED = Habits(rates=RATES, frail=FRAIL, click=CLICKS)
CLIMBING = Habits(rates=RATES, frail=FRAIL, click=CLICKS, drift=3.0)
WITHIN = Habits(rates=RATES, frail={**FRAIL, "errors": 1})
"""Where no control was ever seen, healthy is who keeps the SLO: one busy user for whom all fails, not ten."""
POOR = Habits(rates={**RATES, "errors": 0.012}, frail=FRAIL)
BANDIT = {
    "kind": "bandit",
    "reward": "click",
    "update_s": 5,
    "min_units": 50,
    "min_s": 20,
    "max_weight_pct": 80,
}


def canary(_rng: Rng) -> dict[str, Any]:
    return {"metrics": ["latency"]}


def linear(_rng: Rng) -> dict[str, Any]:
    return {"strategy": {"kind": "linear", "interval_s": 10}, "metrics": ["latency"]}


def own_steps(rng: Rng) -> dict[str, Any]:
    """Return a plan that nobody would think of: random weights, waits of every kind between them."""
    steps: list[dict[str, Any]] = []
    for weight in sorted({*rng.integers(1, 100, int(rng.integers(1, 6))).tolist(), 100}):
        waits: list[dict[str, Any]] = [
            {"pause": {"duration_s": int(rng.integers(1, 30))}},
            {"analysis": {"units": int(rng.integers(1, 100))}},
            {"bake": {"duration_s": int(rng.integers(1, 30))}},
        ]
        steps += [{"setWeight": int(weight)}, waits[int(rng.integers(0, 3))]]
    return {"strategy": {"kind": "canary", "steps": steps}, "metrics": ["latency"]}


def at_once(_rng: Rng) -> dict[str, Any]:
    return {"strategy": {"kind": "all_at_once", "bake_s": 60}}


def blue_green(_rng: Rng) -> dict[str, Any]:
    return {"strategy": {"kind": "blue_green", "bake_s": 30, "units": 10}, "metrics": ["latency"]}


def bandit(_rng: Rng) -> dict[str, Any]:
    return {"strategy": BANDIT, "rivals": [3, 4], "metrics": ["latency"]}


def experiment(_rng: Rng) -> dict[str, Any]:
    return {"strategy": {"kind": "ab", "units": 500}, "rivals": [3], "metrics": ["latency"]}


def shadow(_rng: Rng) -> dict[str, Any]:
    return {"strategy": {"kind": "shadow", "samples": 200, "most_different_pct": 5}}


SPLITTING = (
    ("canary", canary),
    ("linear", linear),
    ("random plans", own_steps),
    ("all at once", at_once),
    ("blue-green", blue_green),
    ("bandit of three", bandit),
    ("A/B/C", experiment),
)


def healthy(rng: Rng, runs: int) -> list[Measured]:
    """A/A: a version no worse than the live one is taken back with probability alpha at most, whatever the plan."""
    cases = [
        Case(name=name, asked=asked, habits=REWARDED if asked is bandit else SAME)
        for name, asked in SPLITTING
    ]
    cases += [
        Case(name="canary, errors climb to three times as many", asked=canary, habits=CLIMBING),
        Case(name="random plans, errors climb likewise", asked=own_steps, habits=CLIMBING),
        Case(name="bandit of three, errors climb likewise", asked=bandit, habits=CLIMBING),
        Case(name="random plans, both over the budget", asked=own_steps, habits=POOR),
        Case(name="first deployment", asked=canary, habits=WITHIN, stable=None),
        Case(name="shadow, a noisy model", asked=shadow, habits=SAME, answers=_noisy(0.1, 0.1)),
    ]
    return [
        share(
            f"A/A rollout taken back: {case.name}",
            np.array([run.is_anyone_out for run in runs_of(rng, runs, case)]),
            ALPHA,
        )
        for case in cases
    ]


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


FLAWLESS = Habits(users=50_000, rates=dict.fromkeys(METRICS, 0.0), click={1: 0.1, 2: 0.3})
MOST_UNITS = {"canary": 2000, "linear": 6000, "blue-green": 4000, "bandit": 4000}
"""Candidate units within which a flawless version is live; most of them meet it at its last step, at 100 %."""


def flawless(rng: Rng, runs: int) -> list[Measured]:
    """A version that never fails is promoted, in every run and within so many of its units."""
    walks: dict[str, Asked] = {
        "canary": canary,
        "linear": linear,
        "blue-green": blue_green,
        "bandit": lambda _rng: {"strategy": BANDIT},
    }
    found = []
    for name, asked in walks.items():
        went = runs_of(rng, runs, Case(name=name, asked=asked, habits=FLAWLESS, looks=400))
        units = np.array([run.state.exposed for run in went], float)
        late = np.array([run.state.outcome not in PROMOTIONS for run in went]) | (units > MOST_UNITS[name])
        found.append(share(f"flawless, not live within {MOST_UNITS[name]} units: {name}", late, 0.0))
        found.append(mean(f"  units until it is live: {name}", units))
    return found


BROKEN = Habits(rates=RATES, frail=FRAIL, harm={(2, "errors"): 1.0}, click=CLICKS)
LOVED = replace(BROKEN, click={**CLICKS, 2: 0.9})


def broken(rng: Rng, runs: int) -> list[Measured]:
    """A version that fails everybody is caught in every run, alone at 100 % too, and meets few users until then."""
    cases = [Case(name=name, asked=asked, habits=BROKEN) for name, asked in SPLITTING]
    cases += [
        Case(name="bandit, and it earns most", asked=bandit, habits=LOVED),
        Case(name="first deployment", asked=canary, habits=BROKEN, stable=None),
        Case(name="all at once, and only alone", asked=at_once, habits=replace(BROKEN, is_harm_late=True)),
        Case(name="shadow", asked=shadow, habits=BROKEN, answers=_noisy(1.0, 0.1)),
    ]
    found = []
    for case in cases:
        went = runs_of(rng, runs, case)
        missed = np.array([not run.is_anyone_out for run in went])
        found.append(share(f"broken for all, missed: {case.name}", missed, 0.0))
        met = np.array([_met(run.state) for run in went], float)
        found.append(mean(f"  candidate units until it is caught: {case.name}", met))
    return found


MOST_USERS = (20, 100, 500)
CLOSING_LOOKS = 2
"""Looks in which users still come in while the door is being closed at the gateway."""


def capped(rng: Rng, runs: int) -> list[Measured]:
    """A cap on users is never passed, though the door closes only some looks after it was decided."""
    found = []
    for most in MOST_USERS:
        met, is_closed = np.zeros(runs), np.zeros(runs, bool)
        for run in range(runs):
            met[run], is_closed[run] = _exposed(rng, most)
        found.append(share(f"cap of {most} users passed", met > most, 0.0))
        found.append(mean("  users who have met the candidate", met))
        found.append(share("  runs in which the door was closed", is_closed))
    return found


def _exposed(rng: Rng, most: int) -> tuple[int, bool]:
    """Return how many users have met a candidate with a cap when its door is closed, and whether it was."""
    weights = sorted({*rng.integers(1, 30, 3).tolist()})
    steps: list[dict[str, Any]] = []
    for weight in weights:
        steps += [{"setWeight": weight}, {"pause": {"duration_s": 10}}]
    steps += [{"analysis": {"units": 10**6}}, {"setWeight": 100}]
    # Nothing that few users do proves so small a budget kept, so the cap stays.
    body = {"strategy": {"steps": steps}, "max_users": most, "availability": 0.9999}
    case = Case(name="capped", asked=lambda _rng: body, habits=FLAWLESS)
    crowd = Crowd(rng, case.habits, looks=case.looks)
    run = rollout(rng, case, crowd)
    for _ in range(CLOSING_LOOKS if run.state.is_closed else 0):
        crowd.ask(run.state.stable, run.state.weights, candidates=(2,))
    return crowd.met(2), run.state.is_closed


def _met(state: RolloutState) -> int:
    counts = state.totals.get("2/errors")
    return counts.fresh if counts else 0
