"""Bandits with success rates, simulated batch by batch: lost rewards beside yardsticks, and wrong winners.

The weights are `taxiway_serving.statistics`' own; the visitors are made up here. Rewards are known one update late.
"""

from collections.abc import Callable
from functools import partial
from math import log

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from benchmarks.simulations.measured import Floats, Measured, Rng, mean, ratio, share
from taxiway_serving.statistics.baselines import greedy_shares, ucb_shares
from taxiway_serving.statistics.posterior import beta_posterior
from taxiway_serving.statistics.stopping import DEFAULT_RULE, holds
from taxiway_serving.statistics.thompson import floored, p_best

LATE = 1
"""Updates that rewards come late."""

Weigh = Callable[[Floats, Floats], Floats]
"""Weights from exposures and successes, both (runs, arms)."""

SCENARIOS: dict[str, tuple[tuple[float, ...], int]] = {
    "K2 .10/.15, 10k": ((0.10, 0.15), 10_000),
    "K2 .10/.11, 100k": ((0.10, 0.11), 100_000),
    "K5 .05/.06, 100k": ((0.05,) * 4 + (0.06,), 100_000),
    "K10 .5/.4, 100k": ((0.5,) + (0.4,) * 9, 100_000),
    "K10 .10/.08, 100k": ((0.10,) + (0.08,) * 9, 100_000),
    "K10 .10/.08, 10k": ((0.10,) + (0.08,) * 9, 10_000),
    "K2 .10/.15, 1M": ((0.10, 0.15), 1_000_000),
    "K10 .5/.48, 1M": ((0.5,) + (0.48,) * 9, 1_000_000),
}


def thompson(exposures: Floats, successes: Floats) -> Floats:
    """Return the weights of Thompson sampling without a floor."""
    return floored(p_best(1 + successes, 1 + exposures - successes), 0.0)


def lost(
    rng: Rng,
    runs: int,
    rates: ArrayLike,
    visitors: int,
    weigh: Weigh,
    *,
    updates: int = 100,
    aged: float = 1.0,
) -> Floats:
    """Return the expected rewards lost in each run; rates are (arms,) or (updates, arms)."""
    by_update = np.broadcast_to(np.asarray(rates, float), (updates, np.shape(rates)[-1]))
    shape = (runs, by_update.shape[1])
    known = [np.zeros(shape), np.zeros(shape)]
    waiting: list[tuple[Floats, Floats]] = []
    found = np.zeros(runs)
    for now in by_update:
        if len(waiting) > LATE:
            new = waiting.pop(0)
            known = [aged * old + more for old, more in zip(known, new, strict=True)]
        shown = rng.multinomial(visitors // updates, weigh(*known)).astype(float)
        waiting.append((shown, rng.binomial(shown.astype(int), now).astype(float)))
        found += shown @ (now.max() - now)
    return found


def yardstick(rates: tuple[float, ...], visitors: int, updates: int = 100) -> float:
    """Return the Lai-Robbins term plus what the batches cost that pass before the first reward is known."""
    best = max(rates)
    gaps = [best - rate for rate in rates]
    learned = sum(gap / _kl(rate, best) for gap, rate in zip(gaps, rates, strict=True) if gap > 0)
    return learned * log(visitors) + (1 + LATE) * visitors / updates * sum(gaps) / len(gaps)


def _kl(p: float, q: float) -> float:
    return p * log(p / q) + (1 - p) * log((1 - p) / (1 - q))


def regret(rng: Rng, runs: int) -> list[Measured]:
    """Thompson sampling loses at most 1.1 times the yardstick, in every scenario."""
    return [
        mean(
            f"rewards lost by Thompson sampling: {name}",
            lost(rng, runs, rates, visitors, thompson),
            1.1 * yardstick(rates, visitors),
        )
        for name, (rates, visitors) in SCENARIOS.items()
    ]


def rivals(rng: Rng, runs: int) -> list[Measured]:
    """Thompson sampling beside UCB1 and epsilon-greedy, on the same visitors' rates."""
    found = []
    for name, (rates, visitors) in {
        "K2 .10/.15, 10k": SCENARIOS["K2 .10/.15, 10k"],
        "K10 .5/.4, 10k": (SCENARIOS["K10 .5/.4, 100k"][0], 10_000),
    }.items():
        own = lost(rng, runs, rates, visitors, thompson)
        batch = visitors / 100
        ucb = lost(rng, runs, rates, visitors, partial(ucb_shares, batch=batch))
        greedy = lost(rng, runs, rates, visitors, partial(greedy_shares, epsilon=0.1))
        found.append(ratio(f"Thompson sampling / UCB1: {name}", own, ucb, 0.5))
        found.append(ratio(f"  Thompson sampling / epsilon-greedy .1: {name}", own, greedy))
        found.append(mean(f"  rewards lost by Thompson sampling: {name}", own))
    return found


def forgetting(rng: Rng, runs: int) -> list[Measured]:
    """Discounting by .99 an update recovers from a swap, and costs little where nothing changes."""
    updates, visitors = 200, 100_000
    swap = np.array([[0.10, 0.12]] * 100 + [[0.12, 0.10]] * 100)
    found = []
    for name, rates, bar in (("swap .10/.12", swap, 0.6), ("stationary .10/.12", swap[:1], 2.0)):
        plain = lost(rng, runs, rates, visitors, thompson, updates=updates)
        aged = lost(rng, runs, rates, visitors, thompson, updates=updates, aged=0.99)
        found.append(ratio(f"discounted / plain Thompson sampling: {name}", aged, plain, bar))
    return found


def stopping(rng: Rng, runs: int) -> list[Measured]:
    """The stop rule at close rates, looked at 200 times: how often it picks the worse arm."""
    updates, visitors = 200, 100_000
    rates = np.array([0.10, 0.11])
    exposures, successes = np.zeros((runs, 2)), np.zeros((runs, 2))
    going, wrong, stopped_at = np.ones(runs, bool), np.zeros(runs, bool), np.full(runs, float(updates))
    for update in range(updates):
        places = np.flatnonzero(going)
        seen = exposures[places], successes[places]
        weights = floored(p_best(1 + seen[1], 1 + seen[0] - seen[1]), 0.01)
        shown = rng.multinomial(visitors // updates, weights)
        exposures[places] += shown
        successes[places] += rng.binomial(shown, rates)
        posteriors = beta_posterior(exposures[places], successes[places])
        is_over = holds(posteriors, successes[places], control=0, rule=DEFAULT_RULE)
        wrong[places] = is_over & (posteriors.means.argmax(-1) == 0)
        stopped_at[places[is_over]] = update + 1
        going[places] = ~is_over
        if not going.any():
            break
    return [
        share("stop rule picks the worse arm of .10/.11", wrong, 0.07),
        share("  not decided after 100,000 visitors", going),
        mean("  updates until it stops, of 200", stopped_at),
    ]


def renewal(rng: Rng, runs: int) -> list[Measured]:
    """Chapelle and Li (2011), table 1: ten arms of which one is replaced every 1,000 steps or so, feedback every 100.

    Their figure for Thompson sampling over a million steps is 11,550. Each replacement is a bandit of its own, so a
    run here is what lies between two of them: `runs` replacements at least, 20,000 for 2,000 runs.
    """
    bandits, updates, every = 20, max(500, runs * 5), 100
    rates = rng.beta(4, 4, (bandits, 10))
    wins, losses = np.ones_like(rates), np.ones_like(rates)
    found = np.zeros(bandits)
    for _ in range(updates):
        found += _until_feedback(rng, every, rates, wins, losses)
    scaled = found * 1_000_000 / (updates * every)
    off = mean("", np.abs(scaled.mean() / 11_550 - 1) + (scaled - scaled.mean()) / 11_550)
    name = "lost rewards' distance from Chapelle and Li's 11,550, relative"
    figure = Measured(name=name, value=off.value, error=off.error, runs=bandits * updates // 10, bar=0.15)
    return [figure, mean("  rewards lost by Thompson sampling in a million steps", scaled)]


def _until_feedback(rng: Rng, every: int, rates: Floats, wins: Floats, losses: Floats) -> Floats:
    """Play one batch of each bandit, in place. A replaced arm starts from its own prior, and the weights at once."""
    left = np.full(len(rates), every)
    shown, won, lost_now = np.zeros_like(rates), np.zeros_like(rates), np.zeros(len(rates))
    while (left > 0).any():
        until = np.minimum(rng.geometric(1e-3, len(rates)), left)
        is_replaced = until < left
        weights = np.zeros_like(rates)
        weights[left > 0] = p_best(wins[left > 0], losses[left > 0])
        now = rng.multinomial(until, np.where(left[:, None] > 0, weights, 1 / rates.shape[1]))
        hits = rng.binomial(now, rates)
        lost_now += until * rates.max(1) - (now * rates).sum(1)
        shown, won = shown + now, won + hits
        for bandit in np.flatnonzero(is_replaced):
            arm = rng.integers(rates.shape[1])
            rates[bandit, arm] = rng.beta(4, 4)
            wins[bandit, arm] = losses[bandit, arm] = 1.0
            shown[bandit, arm] = won[bandit, arm] = 0.0
        left = left - until
    wins += won
    losses += shown - won
    return lost_now


def accuracy(rng: Rng, runs: int) -> list[Measured]:
    """P(best) against a fine integral of the densities, over random arms; and the same input again."""
    worst, differs = 0.0, 0.0
    for _ in range(runs):
        arms = int(rng.integers(2, 11))
        exposures = np.floor(np.exp(rng.uniform(0, 12, arms)))
        common = np.exp(rng.uniform(log(0.002), log(0.6)))
        successes = rng.binomial(
            exposures.astype(int), np.clip(common * np.exp(rng.normal(0, 0.2, arms)), 0, 0.95)
        )
        alphas = np.asarray(1 + successes, np.float64)
        betas = np.asarray(1 + exposures - successes, np.float64)
        found = p_best(alphas, betas)
        worst = max(worst, float(np.abs(found - _integrated(alphas, betas)).max()))
        differs = max(differs, float(np.abs(found - p_best(alphas.copy(), betas.copy())).max()))
    return [
        Measured(name="P(best): largest error", value=worst, error=0.0, runs=runs, bar=0.005),
        Measured(
            name="P(best): largest change on the same input", value=differs, error=0.0, runs=runs, bar=0.0
        ),
    ]


def _integrated(alphas: Floats, betas: Floats) -> Floats:
    """Integrate on the log odds' scale, with 2,000 nodes around each arm; distribution functions by summing up."""
    centre = special.psi(alphas) - special.psi(betas)
    spread = np.sqrt(special.polygamma(1, alphas) + special.polygamma(1, betas))
    x = np.sort((centre + spread * np.linspace(-14, 14, 2000)[:, None]).ravel())
    logs = alphas[:, None] * special.log_expit(x) + betas[:, None] * special.log_expit(-x)
    density = np.exp(logs - special.betaln(alphas, betas)[:, None])
    step = np.diff(x)
    below = np.cumsum((density[:, 1:] + density[:, :-1]) / 2 * step, axis=1)
    below = np.concatenate([np.zeros((len(alphas), 1)), below], axis=1)
    found = np.empty(len(alphas))
    for arm in range(len(alphas)):
        height = density[arm] * np.delete(below, arm, axis=0).prod(0)
        found[arm] = ((height[1:] + height[:-1]) / 2 * step).sum()
    return found
