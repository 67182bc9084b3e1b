"""MABWiser's Thompson sampling on the same bandits: an implementation by others, one draw for each visitor."""

import numpy as np
from mabwiser.mab import MAB, LearningPolicy
from numpy.typing import NDArray

from benchmarks.simulations.bandits import LATE, SCENARIOS, lost, thompson
from benchmarks.simulations.measured import Floats, Measured, Rng, ratio

UPDATES = 100

Ints = NDArray[np.int64]


def mabwiser(rng: Rng, runs: int) -> list[Measured]:
    """Thompson sampling as weights loses at most 1.15 times what MABWiser's loses."""
    found = []
    for name, rates in (
        ("K2 .10/.15, 10k", SCENARIOS["K2 .10/.15, 10k"][0]),
        ("K10 .5/.4, 10k", SCENARIOS["K10 .5/.4, 100k"][0]),
    ):
        own = lost(rng, runs, rates, 10_000, thompson)
        theirs = np.array([_lost(rng, np.array(rates), 100) for _ in range(runs)])
        found.append(ratio(f"Thompson sampling / MABWiser's: {name}", own, theirs, 1.15))
    return found


def _lost(rng: Rng, rates: Floats, batch: int) -> float:
    """Play one bandit batch by batch, rewards known one update late; until then every arm is as good as the others."""
    arms = list(range(len(rates)))
    bandit = MAB(arms, LearningPolicy.ThompsonSampling(), seed=int(rng.integers(2**31)))
    learn, visitors = bandit.fit, np.zeros((batch, 1))
    waiting: list[tuple[Ints, Ints]] = []
    found = 0.0
    for update in range(UPDATES):
        if update <= LATE:
            shown = rng.integers(len(arms), size=batch)
        else:
            learn(*waiting.pop(0))
            learn = bandit.partial_fit
            shown = np.array(bandit.predict(visitors))
        waiting.append((shown, rng.binomial(1, rates[shown])))
        found += float((rates.max() - rates[shown]).sum())
    return found
