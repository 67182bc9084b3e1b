"""Sticky users who ask for answers, and how the controller would count them. Traffic only; nothing is decided here.

Users have a place on the router's line of 10,000, for good. A few of them fail always, whatever version they meet, and
the busiest are among those: that is what makes units correlated. Counting follows `controller/tally.py`: of each metric
only a unit's first bad event counts, and a unit that was bad is at risk no longer. Of rewards each unit's first one is
a bet, at the share that its request was drawn by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulations.measured import Floats, Rng
from taxiway_serving.rollout.observation import Rewards, Value, key_of
from taxiway_serving.rollout.weighing import share_of
from taxiway_serving.routing.layout import layout
from taxiway_serving.split import TOTAL_PARTS, Split
from taxiway_serving.statistics.label import Counts

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
CLICK = "click"


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
        testers: Share of users who carry the header that leads to a candidate, where there is such a route.
    """

    users: int = 3000
    requests: int = 200
    rates: Mapping[str, float]
    frail: Mapping[str, int] = field(default_factory=dict)
    harm: Mapping[tuple[int, str], float] = field(default_factory=dict)
    is_harm_late: bool = False
    drift: float = 1.0
    click: Mapping[int, float] = field(default_factory=dict)
    testers: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a look's time has brought; see `Observation` for each."""

    counts: Mapping[str, Counts]
    assigned: Mapping[int, int]
    values: Mapping[str, tuple[Value, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Visits:
    """Who asks in a look's time.

    Attributes:
        users: Each once, in order.
        who: Of each request, the place of its user among them.
        times: How often each asks.
        versions: Whom each meets.
    """

    users: Ints
    who: Ints
    times: Ints
    versions: Ints


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
            self._frail[metric][rng.choice(users, number, replace=False)] = True
        is_frail = np.any([*self._frail.values()], axis=0)
        activity = rng.lognormal(0, 1, users) * np.where(is_frail, 5.0, 1.0)
        self._busy = np.cumsum(activity / activity.sum())
        self._click = rng.uniform(0.5, 1.5, users) * np.where(is_frail, 2.0, 1.0)
        self._tests = rng.random(users) < habits.testers
        self._seen, self._rewarded = np.zeros(users, bool), np.zeros(users, bool)
        self._bad = {metric: np.zeros(users, bool) for metric in habits.rates}
        self._met: dict[int, Bools] = {}
        self._exposures: dict[int, int] = {}
        self._clicks: dict[int, int] = {}

    def ask(
        self,
        stable: int | None,
        weights: Mapping[int, float],
        *,
        candidates: Sequence[int],
        tested: int | None = None,
    ) -> Asked:
        """Let users ask for a look's time, and return what is counted of it.

        Args:
            stable: The version that takes what the candidates do not; None gives the first candidate all.
            weights: Per cent by candidate.
            candidates: Whose units to return.
            tested: The candidate that testers are led to, if any: they count only while nobody else meets it.
        """
        rng, habits = self._rng, self._habits
        asking = np.searchsorted(self._busy, rng.random(rng.poisson(habits.requests)))
        asking = np.minimum(asking, habits.users - 1)
        if tested is not None and weights:
            asking = asking[~self._tests[asking]]
        visits = self._visits(asking, stable, weights, candidates, tested)
        values = self._reward(visits, candidates, weights, stable)
        scale = 1 + (habits.drift - 1) * min(1.0, self._look / self._looks)
        self._look += 1
        return Asked(
            counts=self._counts(visits, scale, candidates, stable),
            assigned=self._assigned(visits),
            values=values,
        )

    def _visits(
        self,
        asking: Ints,
        stable: int | None,
        weights: Mapping[int, float],
        candidates: Sequence[int],
        tested: int | None,
    ) -> _Visits:
        often = np.bincount(asking, minlength=self._habits.users)
        users = np.flatnonzero(often)
        split = Split.whole(candidates[0]) if stable is None else Split.of(stable, weights)
        ends, names = _places(split)
        versions = names[np.searchsorted(ends, self._places[users], side="right")]
        if tested is not None and not weights:
            versions = np.where(self._tests[users], tested, versions)
        return _Visits(users=users, who=np.searchsorted(users, asking), times=often[users], versions=versions)

    def _counts(
        self, visits: _Visits, scale: float, candidates: Sequence[int], stable: int | None
    ) -> dict[str, Counts]:
        """Return the units of a look by candidate and metric."""
        users, who, times, versions = visits.users, visits.who, visits.times, visits.versions
        rng, fresh, found = self._rng, self._fresh(users, versions, candidates), {}
        for metric, rate in self._habits.rates.items():
            rates = self._rates(metric, rate * scale, versions)
            fails = (rng.random(len(who)) < rates[who]) | self._frail[metric][users][who]
            is_bad = np.bincount(who, fails, len(users)) > 0
            at_risk = ~self._bad[metric][users]
            needed = times.copy()
            for place in np.flatnonzero(is_bad & at_risk):
                needed[place] = 1 + int(fails[who == place].argmax())
            control = at_risk & (versions == stable)
            for version in candidates:
                mine = at_risk & (versions == version)
                past_risk = ~at_risk & ((versions == version) | (versions == stable))
                found[key_of(version, metric)] = Counts(
                    canary=int(mine.sum()),
                    control=int(control.sum()),
                    bad_canary=int((mine & is_bad).sum()),
                    bad_control=int((control & is_bad).sum()),
                    fresh=int((mine & fresh).sum()),
                    requests=int(needed[mine].sum()),
                    spent=int((past_risk & fresh & (versions == version)).sum()),
                    past_risk=int(past_risk.sum()),
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

    def _assigned(self, visits: _Visits) -> dict[int, int]:
        """Return how many users were seen for the first time, by the version that they met."""
        new = ~self._seen[visits.users]
        self._seen[visits.users] = True
        counts = np.bincount(visits.versions[new])
        return {version: int(number) for version, number in enumerate(counts) if number}

    def _reward(
        self,
        visits: _Visits,
        candidates: Sequence[int],
        weights: Mapping[int, float],
        stable: int | None,
    ) -> dict[str, tuple[Value, ...]]:
        """Let users click, and return each one's first click as a bet of candidates against stable."""
        users, versions, times = visits.users, visits.versions, visits.times
        first: dict[int, int] = {}
        for version, rate in self._habits.click.items():
            mine = versions == version
            clicks = self._rng.binomial(times[mine], np.minimum(1.0, rate * self._click[users[mine]]))
            self._exposures[version] = self._exposures.get(version, 0) + int(times[mine].sum())
            self._clicks[version] = self._clicks.get(version, 0) + int(clicks.sum())
            new = users[mine][(clicks > 0) & ~self._rewarded[users[mine]]]
            self._rewarded[new] = True
            first[version] = new.size
        values = {}
        for version in candidates:
            share = share_of(version, weights, stable)
            if 0 < share < 1:
                own, control = first.get(version, 0), first.get(stable or 0, 0)
                values[key_of(version, CLICK)] = ((True, 1.0, share),) * own + (
                    (False, 1.0, share),
                ) * control
        return values


@lru_cache(maxsize=1024)
def _places(split: Split) -> tuple[Ints, Ints]:
    """Return where the runs of the router's line end, and whose they are."""
    runs = layout(split)
    return np.cumsum([run.parts for run in runs]), np.array([run.version for run in runs])
