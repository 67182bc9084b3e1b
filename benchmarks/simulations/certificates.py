"""Certificates that let a version on, simulated: how often a version that is not good enough gets one.

Scored by `taxiway_serving.statistics`, or by the guards that a rollout has; the traffic is made up here.
"""

from collections.abc import Iterator, Mapping
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulations.guards import NEVER, REQUESTS, Look, crossings, traffic
from benchmarks.simulations.measured import Floats, Measured, Rng, mean, share
from taxiway_serving.rollout.guard import Guard, Interval
from taxiway_serving.rollout.judges import judges_of
from taxiway_serving.rollout.machine import begin
from taxiway_serving.rollout.observation import Compared
from taxiway_serving.statistics.label import (
    FLAWLESS_WEIGHTS,
    SAFE_RATIOS,
    Counts,
    log_means_exp,
    rate_term,
    safe_rates,
)
from taxiway_serving.strategies import plan, rollout_from_json

Ints = NDArray[np.int64]
MOST = 2.0


def ratio_certificate(rng: Rng, runs: int) -> list[Measured]:
    """A version with exactly twice stable's errors must not be certified as having less than twice."""
    looks, healthy, found = 200, 0.005, []
    for weight in (0.05, 0.25, 0.5):
        seen = traffic(rng, runs, [weight] * looks, [MOST * healthy] * looks, [healthy] * looks)
        first = crossings(seen, alpha=0.05, null_ratio=MOST, ratios=SAFE_RATIOS)
        name = f"false certificate: twice stable's errors, {weight:.0%} of traffic"
        found.append(share(name, first != NEVER, 0.05))
    found += [_sticky_twice(rng, runs), _equal(rng, runs)]
    return found


def _sticky_twice(rng: Rng, runs: int) -> Measured:
    """The same with sticky users of whom 1 % always fail on stable and 2 % on the version; first failures count."""
    looks, weight, users = 200, 0.05, 1000
    on_canary = rng.random((runs, users)) < weight
    fails = rng.random((runs, users)) < np.where(on_canary, 0.02, 0.01)
    first = np.where(fails, rng.geometric(0.05, (runs, users)), np.inf)

    def seen() -> Iterator[Look]:
        for number in range(1, looks + 1):
            now = first == number
            yield (now & on_canary).sum(1).astype(float), (now & ~on_canary).sum(1).astype(float), weight

    found = crossings(seen(), alpha=0.05, null_ratio=MOST, ratios=SAFE_RATIOS)
    return share("false certificate: twice stable's failing sticky users", found != NEVER, 0.05)


def _equal(rng: Rng, runs: int) -> Measured:
    looks, weight = 300, 0.25
    seen = traffic(rng, runs, [weight] * looks, [0.005] * looks, [0.005] * looks)
    first = crossings(seen, alpha=0.05, null_ratio=MOST, ratios=SAFE_RATIOS)
    return mean("requests to certify an equal version, 25 % of traffic", _requests(first, looks))


def _requests(first: Floats, looks: int) -> Floats:
    return np.where(first == NEVER, looks, first + 1) * float(REQUESTS)


def budget_certificate(rng: Rng, runs: int) -> list[Measured]:
    """A version at the budget must not be certified as being under it."""
    found = []
    for budget in (0.001, 0.01):
        state, passed = np.zeros((len(FLAWLESS_WEIGHTS), runs)), np.zeros(runs, bool)
        for _ in range(200):
            state = state + _budget_terms(rng.binomial(50, budget, runs).astype(float), budget)
            passed |= log_means_exp(state, FLAWLESS_WEIGHTS) >= -np.log(0.05)
        found.append(share(f"false certificate: bad rate at the budget of {budget:.1%}", passed, 0.05))
    return found


def _budget_terms(bad: Floats, budget: float) -> Floats:
    full = np.full(bad.shape, 50.0)
    return np.stack([rate_term(bad, full, limit=budget, rate=rate) for rate in safe_rates(budget)])


def flawless(_rng: Rng, _runs: int) -> list[Measured]:
    """A version without any error is promoted by the budget, nearly as soon as any test could; the ratio never says so.

    The two certificates of a rollout share 5 %, so each has 2.5 %: 391 units for a budget of 1 %, where 319 would do at
    5 %. No test at 2.5 % could do with fewer than 367; the bar leaves the slack of the first target, 360 of 298.
    """
    found = []
    for budget in (0.01, 0.001):
        (guard,) = _judges_of({"availability": 1 - budget}, "budget_certificate")
        units = _units_to_certify(guard, 10 if budget < MIDDLING else 1)
        least = log(guard.alpha) / log(1 - budget)
        name = f"flawless units to be certified, budget {budget:.1%}"
        found.append(Measured(name=name, value=units, error=0.0, runs=1, bar=SLACK * least))
    (ratio,) = _judges_of({}, "ratio_certificate")
    zero = ratio.update(ratio.start(), Interval(counts=Counts(canary=100, control=900, fresh=100), share=0.1))
    name = "log e of the ratio certificate for it"
    return [*found, Measured(name=name, value=ratio.log_e(zero), error=0.0, runs=1)]


SLACK = 360 / 298
MIDDLING = 0.005


def _units_to_certify(guard: Guard, step: int) -> int:
    state, units = guard.start(), 0
    while not guard.is_proven(state):
        units += step
        state = guard.update(
            state, Interval(counts=Counts(canary=step, fresh=step, requests=step), share=1.0)
        )
    return units


def _judges_of(body: Mapping[str, Any], *names: str) -> list[Any]:
    """Return guards as a rollout has them, with the alpha that they get there."""
    spec = rollout_from_json({"id": "r", "handle": "simulated", "version": 2, "alpha": 0.05, **body})
    steps, state = plan(spec, 1), begin(stable=1, now_s=0.0)
    guards = {judge.guard.name: judge.guard for judge in judges_of(spec, steps, state)}
    return [guards[name] for name in names]


def shadow(rng: Rng, runs: int) -> list[Measured]:
    """Answers compared: a noisy model is no harm, and a version that differs is not called alike."""
    noise, most, samples, looks = 0.05, 0.01, 50, 100
    harm, safe = _judges_of({"strategy": "shadow"}, "difference", "same_certificate")
    blamed, certified = np.zeros(runs, bool), np.zeros(runs, bool)
    for run in range(runs):
        alike = _discordant(rng, looks, samples, noise, noise)
        blamed[run] = _is_ever_proven(harm, samples, alike)
        differing = _discordant(rng, looks, samples, noise + most, noise)
        certified[run] = _is_ever_proven(safe, samples, differing)
    return [
        share("shadow: noisy but equal version blamed", blamed, harm.alpha),
        share("shadow: certified though it differs in 1 % beyond noise", certified, safe.alpha),
    ]


def _is_ever_proven(guard: Guard, samples: int, discordant: Ints) -> bool:
    state = guard.start()
    for candidate, again in discordant.tolist():
        seen = Compared(samples=samples, only_candidate=candidate, only_noise=again)
        state = guard.update(state, Interval(compared=seen))
        if guard.is_proven(state):
            return True
    return False


def _discordant(rng: Rng, looks: int, samples: int, candidate: float, noise: float) -> Ints:
    """Draw, for each look, samples in which only the candidate differed, and only the second copy of stable."""
    odds = [candidate * (1 - noise), noise * (1 - candidate)]
    return rng.multinomial(samples, [*odds, 1 - sum(odds)], looks)[:, :2]
