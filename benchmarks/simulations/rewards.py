"""Business metrics, the split itself, and what a log can foretell: simulated healthy, and with what must be found.

Scored by `taxiway_serving.statistics`; the events are made up here.
"""

from dataclasses import replace

import numpy as np

from benchmarks.simulations.measured import Floats, Measured, Rng, mean, share
from taxiway_serving.answers import Answer
from taxiway_serving.rollout.machine import begin
from taxiway_serving.rollout.mismatch import ALPHA as MISMATCH_ALPHA
from taxiway_serving.rollout.mismatch import SAMPLE_RATIO, is_unequal, mismatch_update
from taxiway_serving.rollout.observation import Observation
from taxiway_serving.statistics.betting import FALL_RATIOS, bounded_factors
from taxiway_serving.statistics.counterfactual import lower_bound
from taxiway_serving.statistics.label import log_means_exp
from taxiway_serving.statistics.quantiles import baseline_quantile
from taxiway_serving.strategies import rollout_from_json

CONVERSION = 0.03


def revenue(rng: Rng, runs: int) -> list[Measured]:
    """Revenue: 3 % of units buy, at prices with a heavy tail, capped at the baseline's own 99.9 %; 5 % on the canary.

    A unit without revenue has the factor 1, so only the buyers are drawn.
    """
    cap = baseline_quantile(rng.lognormal(0, 1, 20_000).tolist(), 0.999) or 1.0
    healthy = _fallen(rng, runs, cap, buyers=6000, kept=1.0)
    halved = _fallen(rng, runs, cap, buyers=12_000, kept=0.5)
    return [
        share("false rollback: revenue, 200,000 requests, 200 looks", healthy >= 0, 0.05),
        share("harm missed: revenue halved, 400,000 requests", halved < 0, 0.01),
        mean("  canary units to find it", np.where(halved < 0, 400, halved + 1) * 50.0),
    ]


def _fallen(rng: Rng, runs: int, cap: float, *, buyers: int, kept: float) -> Floats:
    """Return the look, of 1,000 requests each, at which each run's revenue is called fallen; -1 if never."""
    weight, per_look = 0.05, 30
    found = np.full(runs, -1.0)
    for start in range(0, runs, 100):
        shape = (min(100, runs - start), buyers)
        is_canary = rng.random(shape) < weight * kept / (weight * kept + 1 - weight)
        values = np.minimum(rng.lognormal(0, 1, shape), cap) / cap
        log_e = [
            bounded_factors(is_canary, values, weight, ratio).cumsum(1)[:, per_look - 1 :: per_look]
            for ratio in FALL_RATIOS
        ]
        crossed = log_means_exp(np.stack(log_e)) >= -np.log(0.05)
        found[start : start + shape[0]] = np.where(crossed.any(1), crossed.argmax(1), -1)
    return found


def sample_ratio(rng: Rng, runs: int) -> list[Measured]:
    """The split: kept by three arms whose shares move at every look, and broken by 10 % of one arm's units lost.

    At the level at which a rollout pauses by it.
    """
    return [
        share("false pause: split kept by 3 arms, shares moving", _broken(rng, runs, 1.0), MISMATCH_ALPHA),
        share("broken split missed: a tenth of one arm lost", ~_broken(rng, runs, 0.9), 0.01),
    ]


def _broken(rng: Rng, runs: int, kept: float) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    body = {"id": "r", "handle": "simulated", "version": 2, "rivals": [3], "strategy": "bandit"}
    spec, before = rollout_from_json(body), begin(stable=1, now_s=0.0)
    found = np.zeros(runs, bool)
    weights = [{2: 5 + 0.1 * look, 3: 5 + 0.3 * look} for look in range(100)]
    units = [
        rng.multinomial(1000, odds / odds.sum(), runs)
        for each in weights
        for odds in [np.array([100 - sum(each.values()), each[2], kept * each[3]])]
    ]
    for run in range(runs):
        state = before
        for look, each in enumerate(weights):
            assigned = dict(zip((1, 2, 3), units[look][run].tolist(), strict=True))
            seen = Observation(candidates={}, applied=Answer.YES, evidence=Answer.YES, assigned=assigned)
            state = replace(state, weights=each)
            state = replace(state, guards={SAMPLE_RATIO: mismatch_update(spec, state, seen)})
            if is_unequal(state):
                found[run] = True
                break
    return found


def foretold(rng: Rng, runs: int) -> list[Measured]:
    """What a version would do at 100 %: intervals miss no more often than they say, at any of ten looks.

    The split moves with the reward over the day, so that plain means are wrong, and answers to what was seen.
    """
    decisions, looks, alpha = 5000, 10, 0.05
    when = np.arange(decisions) / decisions
    rates = 0.1 + 0.05 * np.sin(4 * np.pi * when)
    missed, plain = np.zeros(runs, bool), np.zeros(runs)
    for start in range(0, runs, 250):
        own = slice(start, min(start + 250, runs))
        chances, rewards = _logged(rng, own.stop - start, when, rates)
        for end in range(decisions // looks, decisions + 1, decisions // looks):
            truth = rates[:end].mean()
            low = lower_bound(chances[:, :end], rewards[:, :end], 0.05, alpha / 2)
            high = 1 - lower_bound(chances[:, :end], 1 - rewards[:, :end], 0.05, alpha / 2)
            missed[own] |= (truth < low) | (truth > high)
        drawn = chances > 0
        plain[own] = (drawn * rewards).sum(1) / drawn.sum(1)
    return [
        share("counterfactual: interval missed the truth at one of 10 looks", missed, alpha),
        mean("  bias of the plain mean, relative", plain / rates.mean() - 1),
    ]


def _logged(rng: Rng, runs: int, when: Floats, rates: Floats) -> tuple[Floats, Floats]:
    """Draw logs: the share follows the day, and leans to the version while it has just been rewarded."""
    luck = rng.random((runs, when.size))
    rewards = (rng.random((runs, when.size)) < rates).astype(float)
    chances = np.zeros((runs, when.size))
    lean = np.zeros(runs)
    for step, at in enumerate(when):
        weight = np.clip(0.2 + 0.1 * np.sin(4 * np.pi * at) + lean, 0.05, 0.5)
        drawn = luck[:, step] < weight
        chances[:, step] = np.where(drawn, 1 / weight, 0.0)
        lean = 0.9 * lean + 0.1 * drawn * (rewards[:, step] - 0.05)
    return chances, rewards
