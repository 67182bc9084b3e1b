"""Certificates that let a version on, simulated: how often a version that is not good enough gets one.

Scored by `taxiway_serving.statistics`; the traffic is made up here.
"""

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.simulations.guards import NEVER, REQUESTS, Look, crossings, traffic
from benchmarks.simulations.measured import Floats, Measured, Rng, mean, share
from taxiway_serving.statistics.betting import beyond_noise_terms, paired_terms
from taxiway_serving.statistics.label import (
    FLAWLESS_WEIGHTS,
    HARM_RATIOS,
    SAFE_RATIOS,
    label_term,
    log_means_exp,
    rate_term,
    safe_rates,
)

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


def _budget_terms(bad: Floats, budget: float, units: float = 50.0) -> Floats:
    full = np.full(bad.shape, units)
    return np.stack([rate_term(bad, full, limit=budget, rate=rate) for rate in safe_rates(budget)])


def flawless(_rng: Rng, _runs: int) -> list[Measured]:
    """A version without any error is promoted by the budget, as soon as any test could; the ratio never says so."""
    found = []
    for budget, bar in ((0.01, 360.0), (0.001, 3600.0)):
        units = next(
            count
            for count in range(1, 100_000)
            if log_means_exp(_budget_terms(np.zeros(1), budget, count), FLAWLESS_WEIGHTS)[0] >= -np.log(0.05)
        )
        name = f"flawless units to be certified, budget {budget:.1%}"
        found.append(Measured(name=name, value=units, error=0.0, runs=1, bar=bar))
    zero = np.stack([np.asarray(label_term(0.0, 0.0, 0.05, null_ratio=MOST, ratio=r)) for r in SAFE_RATIOS])
    found.append(
        Measured(
            name="log e of the ratio certificate for it", value=float(log_means_exp(zero)), error=0.0, runs=1
        )
    )
    return found


def shadow(rng: Rng, runs: int) -> list[Measured]:
    """Answers compared: a noisy model is no harm, and a version that differs is not called alike."""
    noise, most, samples, looks = 0.05, 0.01, 50, 100
    blamed, certified = np.zeros(runs, bool), np.zeros(runs, bool)
    harm, safe = np.zeros((len(HARM_RATIOS), runs)), np.zeros((len(FLAWLESS_WEIGHTS), runs))
    for _ in range(looks):
        candidate, again = _discordant(rng, runs, samples, noise, noise)
        harm += _columns(candidate, again, lambda a, b: paired_terms(a, b, HARM_RATIOS))
        blamed |= log_means_exp(harm) >= -np.log(0.05)
        candidate, again = _discordant(rng, runs, samples, noise + most, noise)
        safe += _columns(candidate, again, lambda a, b: beyond_noise_terms(a, b, samples, limit=most))
        certified |= log_means_exp(safe, FLAWLESS_WEIGHTS) >= -np.log(0.05)
    return [
        share("shadow: noisy but equal version blamed", blamed, 0.05),
        share("shadow: certified though it differs in 1 % beyond noise", certified, 0.05),
    ]


def _discordant(rng: Rng, runs: int, samples: int, candidate: float, noise: float) -> tuple[Floats, Floats]:
    """Draw, for each run, samples in which only the candidate differed, and only the second copy of stable."""
    odds = [candidate * (1 - noise), noise * (1 - candidate)]
    drawn = rng.multinomial(samples, [*odds, 1 - sum(odds)], runs)
    return drawn[:, 0].astype(float), drawn[:, 1].astype(float)


def _columns(candidate: Floats, again: Floats, terms: Callable[[int, int], tuple[float, ...]]) -> Floats:
    """Return the terms of every run, computing each pair of counts once."""
    pairs, places = np.unique(np.stack([candidate, again], 1), axis=0, return_inverse=True)
    table = np.array([terms(int(one), int(two)) for one, two in pairs])
    return table[places.reshape(-1)].T
