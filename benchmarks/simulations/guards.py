"""Guards on rates, simulated: false rollbacks of healthy versions, and how soon harm is found.

Every look is scored by `taxiway_serving.statistics.label`, for all runs at once. The traffic is made up here.
"""

from collections.abc import Iterator, Sequence
from math import log

import numpy as np
from scipy import special

from benchmarks.simulations.measured import Floats, Measured, Rng, mean, share
from taxiway_serving.statistics.label import (
    HARM_RATIOS,
    harmful_rates,
    label_term,
    log_means_exp,
    rate_term,
)
from taxiway_serving.statistics.quantiles import baseline_quantile, frozen_rate

REQUESTS = 1000
NEVER = -1

Look = tuple[Floats, Floats, float]
"""New bad units of the canary and of the control in each run, and the canary's share."""


def crossings(
    looks: Iterator[Look],
    *,
    alpha: float,
    null_ratio: float = 1.0,
    ratios: Sequence[float] = HARM_RATIOS,
) -> Floats:
    """Return the look, from 0, at which each run's evidence first reaches 1 / alpha; NEVER if it does not."""
    state = np.zeros(())
    found: Floats | None = None
    for number, (canary, control, weight) in enumerate(looks):
        found = np.full(canary.shape, float(NEVER)) if found is None else found
        terms = [label_term(canary, control, weight, null_ratio=null_ratio, ratio=ratio) for ratio in ratios]
        state = np.add(state, np.stack(terms))
        is_new = (found == NEVER) & (log_means_exp(state) >= -log(alpha))
        found[is_new] = number
    return np.empty(0) if found is None else found


def traffic(
    rng: Rng, runs: int, weights: Sequence[float], canary: Sequence[float], control: Sequence[float]
) -> Iterator[Look]:
    """Yield looks at requests that each are a unit of their own, with the rates of each look."""
    for weight, bad_canary, bad_control in zip(weights, canary, control, strict=True):
        units = rng.binomial(REQUESTS, weight, runs)
        yield (
            rng.binomial(units, bad_canary).astype(float),
            rng.binomial(REQUESTS - units, bad_control).astype(float),
            weight,
        )


def steady_aa(rng: Rng, runs: int) -> list[Measured]:
    """A/A: both versions fail alike, whatever the rate, the split and the number of looks."""
    found = []
    for looks in (200, 2000):
        for weight in (0.01, 0.05, 0.25, 0.5):
            for rate in (0.001, 0.005, 0.012):
                seen = traffic(rng, runs, [weight] * looks, [rate] * looks, [rate] * looks)
                first = crossings(seen, alpha=0.05)
                name = f"A/A, {looks} looks, {weight:.0%} of traffic, {rate:.1%} bad"
                found.append(share(f"false rollback: {name}", first != NEVER, 0.05))
    return found


def strict_aa(rng: Rng, runs: int) -> list[Measured]:
    """A/A at the level for unattended rollouts."""
    found = []
    for rate in (0.001, 0.005, 0.012):
        for weight in (0.01, 0.05, 0.5):
            first = crossings(traffic(rng, runs, [weight] * 200, [rate] * 200, [rate] * 200), alpha=0.01)
            name = f"false rollback at alpha .01: A/A, {weight:.0%} of traffic, {rate:.1%} bad"
            found.append(share(name, first != NEVER, 0.01))
    return found


def moving_aa(rng: Rng, runs: int) -> list[Measured]:
    """A/A while split and common rate move, together or apart: no mixture of times may look like harm."""
    looks = 200
    ramp = np.linspace(0.05, 0.5, looks)
    climb = np.linspace(0.004, 0.012, looks)
    incident = np.where((np.arange(looks) >= 80) & (np.arange(looks) < 90), 0.2, 0.005)
    waves = 0.005 * (1 + 0.8 * np.sin(np.arange(looks) / 8))
    steady = np.full(looks, 0.05)
    cases = {
        "ramp 5 to 50 % while errors climb .4 to 1.2 %": (ramp, climb),
        "ramp 50 to 5 % while errors climb .4 to 1.2 %": (ramp[::-1], climb),
        "incident of 10 looks on both versions": (steady, incident),
        "error rate in waves": (steady, waves),
    }
    return [
        share(
            f"false rollback: {name}",
            crossings(traffic(rng, runs, *(list(part) for part in (weights, rates, rates))), alpha=0.05)
            != NEVER,
            0.05,
        )
        for name, (weights, rates) in cases.items()
    ]


def sticky_aa(rng: Rng, runs: int) -> list[Measured]:
    """A/A with sticky users: ten of them always fail, 5 % of users are on the canary, only first failures count."""
    looks, weight, users, broken = 200, 0.05, 1000, 10
    first_failure = rng.geometric(0.0005, (runs, users)).astype(float)
    first_failure[:, :broken] = rng.geometric(0.2, (runs, broken))
    on_canary = rng.random((runs, users)) < weight

    def firsts() -> Iterator[Look]:
        for number in range(1, looks + 1):
            now = first_failure == number
            yield (now & on_canary).sum(1).astype(float), (now & ~on_canary).sum(1).astype(float), weight

    def repeats() -> Iterator[Look]:
        for _ in range(looks):
            asking = rng.random((runs, broken)) < 0.2
            mine = on_canary[:, :broken]
            yield (asking & mine).sum(1).astype(float), (asking & ~mine).sum(1).astype(float), weight

    return [
        share(
            "false rollback: ten permanently failing sticky users, first failures",
            crossings(firsts(), alpha=0.05) != NEVER,
            0.05,
        ),
        share("  the same, were every failure counted", crossings(repeats(), alpha=0.05) != NEVER),
    ]


def burst_aa(rng: Rng, runs: int) -> list[Measured]:
    """A/A with bursts: a failing user retries ten times; the burst is one unit, in its first look."""
    looks, weight = 200, 0.05

    def bursts(size: int) -> Iterator[Look]:
        for _ in range(looks):
            canary = rng.binomial(REQUESTS, weight * 0.001, runs).astype(float)
            control = rng.binomial(REQUESTS, (1 - weight) * 0.001, runs).astype(float)
            yield size * canary, size * control, weight

    return [
        share(
            "false rollback: bursts of 10 failures, each one unit",
            crossings(bursts(1), alpha=0.05) != NEVER,
            0.05,
        ),
        share("  the same, were every failure counted", crossings(bursts(10), alpha=0.05) != NEVER),
    ]


def detection(rng: Rng, runs: int) -> list[Measured]:
    """Harm: found in nearly every run, and in at most twice the units that any test needs, plus one look."""
    healthy, found = 0.005, []
    for alpha, looks in ((0.05, 200), (0.01, 300)):
        for weight in (0.05, 0.25, 0.5):
            for bad in (0.01, 0.02, 0.05, 0.2):
                seen = traffic(rng, runs, [weight] * looks, [bad] * looks, [healthy] * looks)
                first = crossings(seen, alpha=alpha)
                name = f"{bad:.0%} bad, {weight:.0%} of traffic, alpha {alpha:g}"
                found.append(share(f"harm missed: {name}", first == NEVER, 0.01))
                units = np.where(first == NEVER, looks, first + 1) * REQUESTS * weight
                bar = 2 * bound_units(bad, healthy, weight, alpha) + REQUESTS * weight
                found.append(mean(f"canary units to find: {name}", units, bar))
    return found


def bound_units(bad: float, healthy: float, weight: float, alpha: float) -> float:
    """Return the canary units that any valid test needs on average, the baseline's rate being unknown."""
    common = weight * bad + (1 - weight) * healthy
    return -log(alpha) / (_kl(bad, common) + (1 - weight) / weight * _kl(healthy, common))


def _kl(p: float, q: float) -> float:
    return p * log(p / q) + (1 - p) * log((1 - p) / (1 - q))


def outage(rng: Rng, runs: int) -> list[Measured]:
    """An outage is caught at the first look of 50 canary units."""
    return [
        share(
            f"outage missed at the first look of 50 units: {bad:.0%} bad",
            crossings(traffic(rng, runs, [0.05], [bad], [0.005]), alpha=0.05) != 0,
            0.01,
        )
        for bad in (0.2, 0.5, 1.0)
    ]


def alone(rng: Rng, runs: int) -> list[Measured]:
    """Without a control: held against the SLO's budget at 100 %, with 50 units a look."""
    found = []
    for limit in (0.001, 0.01):
        found.append(
            share(
                f"false rollback at 100 %: bad rate at the budget of {limit:.1%}",
                _over(rng, runs, limit, limit) != NEVER,
                0.05,
            )
        )
        for bad in (0.2, 1.0):
            first = _over(rng, runs, bad, limit, looks=1)
            found.append(
                share(
                    f"outage at 100 % missed at the first look: {bad:.0%} bad, budget {limit:.1%}",
                    first != 0,
                    0.01,
                )
            )
    return found


def frozen(rng: Rng, runs: int) -> list[Measured]:
    """Without a control: held against what stable's rate was, from 3,000 of its units, at the same true rate."""
    rate, units, confidence = 0.005, 3000, 0.975
    seen = rng.binomial(units, rate, runs)
    limits = {bad: frozen_rate(int(bad), units, confidence=confidence) for bad in np.unique(seen)}
    first = np.full(runs, float(NEVER))
    for bad, limit in limits.items():
        own = seen == bad
        first[own] = _over(rng, int(own.sum()), rate, limit or 0.5, alpha=0.025)
    return [share("false rollback at 100 %: stable's own frozen rate", first != NEVER, 0.05)]


def _over(rng: Rng, runs: int, rate: float, limit: float, *, looks: int = 200, alpha: float = 0.05) -> Floats:
    """Return when a rate of bad units is called above a limit, with 50 units a look."""
    state, found = np.zeros((len(HARM_RATIOS), runs)), np.full(runs, float(NEVER))
    for number in range(looks):
        bad = rng.binomial(50, rate, runs).astype(float)
        units = np.full(runs, 50.0)
        state = state + np.stack(
            [rate_term(bad, units, limit=limit, rate=other) for other in harmful_rates(limit)]
        )
        found[(found == NEVER) & (log_means_exp(state) >= -log(alpha))] = number
    return found


def latency(rng: Rng, runs: int) -> list[Measured]:
    """Answers slower than the baseline's own 99 % quantile, frozen from 2,000 of its answers before the rollout."""
    looks, weight, found = 200, 0.05, []
    past = rng.lognormal(3, 0.4, (runs, 2000))
    limits = np.array([baseline_quantile(row.tolist()) or np.inf for row in past])
    normal = _exceeds(limits)
    cases = {
        "false rollback: latency, both alike": (normal, normal, 0.05),
        "false rollback: latency, both slow down alike": (
            _exceeds(limits / 1.3),
            _exceeds(limits / 1.3),
            0.05,
        ),
    }
    for name, (canary, control, bar) in cases.items():
        first = crossings(_slow(rng, looks, weight, canary, control), alpha=0.05)
        found.append(share(name, first != NEVER, bar))
    first = crossings(
        _slow(rng, looks, weight, 0.97 * normal + 0.03 * _exceeds(limits / 3), normal), alpha=0.05
    )
    found.append(share("harm missed: 3 % of answers three times slower", first == NEVER, 0.01))
    return found


def _exceeds(limits: Floats) -> Floats:
    """Return how often a lognormal latency (log mean 3, log deviation 0.4) lies above each limit."""
    return np.asarray(special.ndtr(-(np.log(limits) - 3) / 0.4))


def _slow(rng: Rng, looks: int, weight: float, canary: Floats, control: Floats) -> Iterator[Look]:
    for _ in range(looks):
        units = rng.binomial(REQUESTS, weight, canary.size)
        yield (
            rng.binomial(units, canary).astype(float),
            rng.binomial(REQUESTS - units, control).astype(float),
            weight,
        )
