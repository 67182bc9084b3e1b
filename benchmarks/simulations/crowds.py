"""Sticky users who ask for answers, and how the controller would count them. Traffic only; nothing is decided here.

Users have a place on the router's line of 10,000, for good. A few of them fail always, whatever version they meet, and
the busiest are among those: that is what makes units correlated. Counting follows `controller/tally.py`: of each metric
only a unit's first bad event counts, and a unit that was bad is at risk no longer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulations.measured import Floats, Rng
from taxiway_serving.rollout.observation import Rewards, key_of
from taxiway_serving.routing.layout import layout
from taxiway_serving.split import TOTAL_PARTS, Split
from taxiway_serving.statistics.label import Counts

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What users are like, and what versions do to them.

    Attributes:
        users: How many there are.
        requests: Requests of a look, on average.
        rates: Probability that a request is bad, by metric, on every version that `harm` does not name.
        frail: How many users always fail, by metric; they ask five times as often as others.
        harm: Probability that a request on a version is bad by a metric, by both.
        is_harm_late: Whether harm only begins where no stable version runs beside the candidate.
        drift: What rates are multiplied by at the end of a run, rising evenly; common to all versions.
        click: Probability of a reward, by version; users differ by half of it, and frail ones click twice as often.
    """

    users: int = 1000
    requests: int = 100
    rates: Mapping[str, float]
    frail: Mapping[str, int] = field(default_factory=dict)
    harm: Mapping[tuple[int, str], float] = field(default_factory=dict)
    is_harm_late: bool = False
    drift: float = 1.0
    click: Mapping[int, float] = field(default_factory=dict)


class Crowd:
    """The users of one run, and what became of them so far."""

    def __init__(self, rng: Rng, habits: Habits, *, looks: int) -> None:
        """Draw users.

        Args:
            rng: Random numbers.
            habits: What they are like.
            looks: After how many looks the drift is complete.
        """
        self._rng, self._habits, self._looks, self._look = rng, habits, looks, 0
        users = habits.users
        self._places = rng.integers(0, TOTAL_PARTS, users)
        self._frail = {metric: np.zeros(users, bool) for metric in habits.rates}
        for metric, number in habits.frail.items():
            self._frail[metric][rng.permutation(users)[:number]] = True
        is_frail = np.any([*self._frail.values()], axis=0)
        activity = rng.lognormal(0, 1, users) * np.where(is_frail, 5.0, 1.0)
        self._busy = np.cumsum(activity / activity.sum())
        self._click = rng.uniform(0.5, 1.5, users) * np.where(is_frail, 2.0, 1.0)
        self._bad = {metric: np.zeros(users, bool) for metric in habits.rates}
        self._met: dict[int, Bools] = {}
        self._exposures: dict[int, int] = {}
        self._clicks: dict[int, int] = {}

    def ask(
        self, stable: int | None, weights: Mapping[int, float], *, candidates: Sequence[int]
    ) -> dict[str, Counts]:
        """Let users ask for a look's time, and return the interval's units by candidate and metric.

        Args:
            stable: The version that takes what the candidates do not; None gives the first candidate all.
            weights: Per cent by candidate.
            candidates: Whose units to return.
        """
        rng, habits = self._rng, self._habits
        asking = np.searchsorted(self._busy, rng.random(rng.poisson(habits.requests)))
        users, who, times = np.unique(
            np.minimum(asking, habits.users - 1), return_inverse=True, return_counts=True
        )
        split = Split.whole(candidates[0]) if stable is None else Split.of(stable, weights)
        ends, names = _places(split)
        versions = names[np.searchsorted(ends, self._places[users], side="right")]
        self._reward(users, versions, times)
        scale = 1 + (habits.drift - 1) * min(1.0, self._look / self._looks)
        self._look += 1
        fresh = self._fresh(users, versions, candidates)
        found = {}
        for metric, rate in habits.rates.items():
            rates = self._rates(metric, rate * scale, versions)
            fails = (rng.random(len(asking)) < rates[who]) | self._frail[metric][users][who]
            is_bad = np.bincount(who, fails, len(users)) > 0
            at_risk = ~self._bad[metric][users]
            needed = times.copy()
            for place in np.flatnonzero(is_bad & at_risk):
                needed[place] = 1 + int(fails[who == place].argmax())
            control = at_risk & (versions == stable)
            for version in candidates:
                mine = at_risk & (versions == version)
                found[key_of(version, metric)] = Counts(
                    canary=int(mine.sum()),
                    control=int(control.sum()),
                    bad_canary=int((mine & is_bad).sum()),
                    bad_control=int((control & is_bad).sum()),
                    fresh=int((mine & fresh).sum()),
                    requests=int(needed[mine].sum()),
                )
            self._bad[metric][users[is_bad]] = True
        return found

    def met(self, version: int) -> int:
        """Return how many users have met a version."""
        return int(self._met[version].sum()) if version in self._met else 0

    def rewards(self, versions: Sequence[int]) -> dict[int, Rewards]:
        """Return what each version has earned so far; no reward is late here."""
        return {
            version: Rewards(
                exposures=self._exposures.get(version, 0),
                credited=float(self._exposures.get(version, 0)),
                total=float(self._clicks.get(version, 0)),
                last_at_s=float(self._look),
            )
            for version in versions
        }

    def _rates(self, metric: str, rate: float, versions: Ints) -> Floats:
        rates: Floats = np.full(len(versions), rate)
        if self._habits.is_harm_late and len(np.unique(versions)) > 1:
            return rates
        for (version, harmed), harm in self._habits.harm.items():
            if harmed == metric:
                rates[versions == version] = harm
        return rates

    def _fresh(self, users: Ints, versions: Ints, candidates: Sequence[int]) -> Bools:
        """Return which users meet the candidate that they are assigned to for the first time."""
        fresh = np.zeros(len(users), bool)
        for version in candidates:
            met = self._met.setdefault(version, np.zeros(self._habits.users, bool))
            mine = versions == version
            fresh |= mine & ~met[users]
            met[users[mine]] = True
        return fresh

    def _reward(self, users: Ints, versions: Ints, times: Ints) -> None:
        for version, rate in self._habits.click.items():
            mine = versions == version
            clicks = self._rng.binomial(times[mine], np.minimum(1.0, rate * self._click[users[mine]]))
            self._exposures[version] = self._exposures.get(version, 0) + int(times[mine].sum())
            self._clicks[version] = self._clicks.get(version, 0) + int(clicks.sum())


@lru_cache(maxsize=1024)
def _places(split: Split) -> tuple[Ints, Ints]:
    """Return where the runs of the router's line end, and whose they are."""
    runs = layout(split)
    return np.cumsum([run.parts for run in runs]), np.array([run.version for run in runs])
