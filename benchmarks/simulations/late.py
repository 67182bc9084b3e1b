"""Bandits whose rewards come late, simulated: what the credit for exposures is worth.

Thompson sampling and the credit are `taxiway_serving.statistics`' own; visitors and delays are made up here. Time is
counted in updates.
"""

import numpy as np

from benchmarks.simulations.measured import Floats, Measured, Rng, mean, ratio
from taxiway_serving.statistics.delays import credited
from taxiway_serving.statistics.thompson import floored, p_best

UPDATES, BATCH, WINDOW = 60, 500, 20
RATES = np.array([0.10, 0.12])


def delays(rng: Rng, runs: int) -> list[Measured]:
    """The better arm's rewards come four times later: credit by delay loses half of "no reward yet is failure"."""
    unequal, alike = (2.0, 8.0), (5.0, 5.0)
    immediate = _lost(rng, runs, unequal, is_credited=False)
    credited = _lost(rng, runs, unequal, is_credited=True)
    name = "delays of 2 and 8 updates"
    return [
        ratio(f"credited / immediate, rewards lost: {name}", credited, immediate, 0.5),
        mean(f"  rewards lost, immediate: {name}", immediate),
        mean(f"  rewards lost, credited: {name}", credited),
        mean(
            "  rewards lost, immediate: delays of 5 updates",
            _lost(rng, runs, alike, is_credited=False),
        ),
        mean("  rewards lost, credited: delays of 5 updates", _lost(rng, runs, alike, is_credited=True)),
    ]


def _lost(rng: Rng, runs: int, means: tuple[float, float], *, is_credited: bool) -> Floats:
    """Return the rewards lost. Batches are kept by age in updates; the last place holds all past the window."""
    shown, won = np.zeros((runs, 2, WINDOW)), np.zeros((runs, 2, WINDOW))
    drawn, seen = np.zeros((2, runs, 2, WINDOW, WINDOW))
    chances, places = _chances(means), np.arange(WINDOW)
    found = np.zeros(runs)
    for _ in range(UPDATES):
        known = _credited(shown, won, seen) if is_credited else (shown.sum(-1), won.sum(-1))
        weights = floored(p_best(1 + known[1], 1 + np.maximum(known[0] - known[1], 0)), 0.0)
        batch = rng.multinomial(BATCH, weights)
        found += batch @ (RATES.max() - RATES)
        hits = rng.binomial(batch, RATES)
        for kept in (shown, won):
            kept[..., -1] += kept[..., -2]
            kept[..., 1:-1] = kept[..., :-2].copy()
        for rows in (drawn, seen):
            rows[:, :, -1] += rows[:, :, -2]
            rows[:, :, 1:-1] = rows[:, :, :-2].copy()
        shown[..., 0], won[..., 0], seen[:, :, 0] = batch, 0, 0
        for arm in range(2):
            drawn[:, arm, 0] = rng.multinomial(hits[:, arm], chances[arm])[:, :-1]
        now = drawn[:, :, places, places] * (places < WINDOW - 1)
        seen[:, :, places, places] += now
        won += now
    return found


def _chances(means: tuple[float, float]) -> list[Floats]:
    """Return, for each arm, how likely a reward comes in each update of the window, and at last how likely never."""
    ends = np.arange(WINDOW + 1)
    below = [1 - np.exp(-ends / one) for one in means]
    return [np.append(np.diff(one), 1 - one[-1]) for one in below]


def _credited(shown: Floats, won: Floats, seen: Floats) -> tuple[Floats, Floats]:
    """Return credited exposures and the successes that belong to them; `seen` are rewards by age and by delay."""
    exposures, successes = np.zeros(shown.shape[:2]), won.sum(-1)
    places = np.arange(WINDOW)
    ages, delays = (each.ravel() for each in np.meshgrid(places, places, indexing="ij"))
    for run in range(len(shown)):
        counts = [rows.ravel().astype(int) for rows in seen[run]]
        credit = credited(
            {arm: zip(places, shown[run, arm], strict=True) for arm in range(2)},
            {arm: np.repeat(delays, counts[arm]).tolist() for arm in range(2)},
            window_s=WINDOW - 1,
            watched={arm: np.repeat(ages, counts[arm]).tolist() for arm in range(2)},
        )
        exposures[run] = [credit.exposures[arm] for arm in range(2)]
        if credit.mode == "mature":
            successes[run] = won[run, :, -1]
    return exposures, successes
