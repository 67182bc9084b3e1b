"""The senses of a real controller, put together: each asks one source, and none waits."""

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from taxiway_serving.answers import Answer
from taxiway_serving.controller.looking import World
from taxiway_serving.controller.reverifying import Proof, Reverifier
from taxiway_serving.controller.senses import Sensed
from taxiway_serving.controller.shadowing import Shadowing
from taxiway_serving.controller.sightings import Shares, exposures_of, served_of
from taxiway_serving.evidence.queries import Queries, Query
from taxiway_serving.evidence.source import Attempt
from taxiway_serving.feedback import Attributed
from taxiway_serving.feedback import Metric as Reported
from taxiway_serving.ledger.rewards import SqlRewards
from taxiway_serving.ledger.store import Fleet, Rollout
from taxiway_serving.ledger.timeline import SqlTimeline
from taxiway_serving.rollout.judges import candidates_of
from taxiway_serving.rollout.metrics import Metric
from taxiway_serving.rollout.observation import Rewards, Value, key_of
from taxiway_serving.rollout.state import Status
from taxiway_serving.rollout.steps import Experiment, Explore
from taxiway_serving.statistics.quantiles import baseline_quantile

LATENCIES_KEPT = 2000
GUARDED = (Status.PROGRESSING, Status.PAUSED)
"""While a rollout is there, whoever judges it looks."""
EXPERIMENT_LOOK_S = 5.0
"""Seconds between two sums over an experiment's rewards."""


@dataclass(slots=True, kw_only=True)
class Sensing:
    """A `Senses` over the durable stores of rewards and timeline, and over whoever else is there.

    Attributes:
        rewards: Exposures and reported events.
        timeline: Metrics of every version over time.
        shadowing: Mirrored comparisons; None without a comparator.
        reverifier: Proves contracts again; None without a gateway.
        queries: Asks Prometheus and SQL.
    """

    rewards: SqlRewards
    timeline: SqlTimeline
    shadowing: Shadowing | None = None
    reverifier: Reverifier | None = None
    queries: Queries | None = None
    _shares: Shares = field(default_factory=Shares)
    _latencies: dict[tuple[str, int], deque[float]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=LATENCIES_KEPT))
    )
    _summed_at_s: dict[str, float] = field(default_factory=dict)

    def close(self) -> None:
        """Give files and threads back."""
        for part in (self.queries, self.reverifier, self.rewards, self.timeline):
            if part is not None:
                part.close()

    def take(self, world: World, now_s: float) -> None:
        self._shares.note(world.splits, now_s=now_s)
        self.rewards.note_splits(world.splits, now_s=now_s)
        weights = {
            handle: {version: split.weight_pct(version) for version in split.parts}
            for handle, split in world.splits.items()
            if split is not None
        }
        self.timeline.record(served_of(world.attempts), weights, now_s=now_s)
        self.rewards.record(exposures_of(world.attempts, self._shares))
        self._time(world.attempts)

    def _time(self, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            if attempt.number == 1 and attempt.via != "pin" and attempt.answered == attempt.assigned:
                self._latencies[attempt.handle, attempt.assigned].append(attempt.latency_ms)

    def sense(self, rollout: Rollout, fleet: Fleet, now_s: float) -> Sensed:
        self.rewards.follow(rollout.spec.handle, list(_reported(rollout)))
        compared, cursors = self.shadowing.read(rollout) if self.shadowing else ({}, {})
        verified, unverified = self._verified(rollout, fleet, now_s)
        return Sensed(
            values=self._values(rollout, cursors, now_s),
            measured=self._measured(rollout, now_s),
            rewards=self._rewards(rollout, now_s),
            compared=compared,
            verified=verified,
            unverified=unverified,
            baseline_ms=self._baseline_ms(rollout),
            cursors=cursors,
        )

    def follow(self, fleet: Fleet, world: World) -> None:
        running = {rollout.spec.id for rollout in fleet.running}
        if self.queries is not None:
            self.queries.keep(running)
        self._summed_at_s = {name: at_s for name, at_s in self._summed_at_s.items() if name in running}
        if self.shadowing is not None:
            self.shadowing.follow(fleet, world)

    def _values(
        self, rollout: Rollout, cursors: dict[str, str], now_s: float
    ) -> dict[str, tuple[Value, ...]]:
        """Return each unit's first reward of each metric, as bets of the candidates against stable."""
        spec, state, found = rollout.spec, rollout.state, {}
        for metric in _compared_metrics(rollout) if state.stable is not None else ():
            news = self._news(rollout, metric, cursors, now_s)
            for candidate in candidates_of(spec, state):
                values = [
                    (each.version == candidate, _scaled(metric, each.value), share)
                    for each in news
                    if each.is_first and each.version in (candidate, state.stable)
                    for share in self._pair_share(rollout, candidate, each)
                ]
                if values:
                    found[key_of(candidate, metric.name)] = tuple(values)
        return found

    def _news(
        self, rollout: Rollout, metric: Metric, cursors: dict[str, str], now_s: float
    ) -> list[Attributed]:
        """Return the values that are new, and note how far they were read.

        The first event of an exposure is its value as soon as it is there; the largest, and the sum, once its window is
        over.
        """
        handle, since_s, reported = rollout.spec.handle, rollout.state.started_at_s, _as_reported(metric)
        name = f"values/{metric.name}"
        cursor = rollout.state.cursors.get(name)
        if metric.how == "first":
            news = self.rewards.values(handle, reported, after=int(cursor or 0), since_s=since_s)
            if news:
                cursors[name] = str(news[-1].place)
            return news
        after_s = float(cursor or 0.0)
        whole = self.rewards.whole_values(handle, reported, after_s=after_s, since_s=since_s, now_s=now_s)
        if whole:
            cursors[name] = repr(whole[-1][0])
        return [each for _, each in whole]

    def _pair_share(self, rollout: Rollout, candidate: int, each: Attributed) -> list[float]:
        """Return the candidate's share of what it and stable had then; nothing where one of them had none.

        The share of the request's own version is stored with it. Of two versions that says all; of more, the splits of
        late have to be remembered, and what is older than this process says nothing.
        """
        if len((*rollout.spec.versions, *rollout.state.added)) == 1:
            share = each.share if each.version == candidate else 1 - each.share
            return [share] if 0 < share < 1 else []
        handle, stable = rollout.spec.handle, rollout.state.stable or 0
        mine = self._shares.share(handle, candidate, each.at_s)
        control = self._shares.share(handle, stable, each.at_s)
        return [mine / (mine + control)] if mine and control else []

    def _rewards(self, rollout: Rollout, now_s: float) -> dict[int, Rewards]:
        """Return what every arm has earned, when the step is about to think it over."""
        state = rollout.state
        step = rollout.plan[state.step]
        if state.status is not Status.PROGRESSING or not isinstance(step, Explore | Experiment):
            return {}
        metric = step.reward if isinstance(step, Explore) else step.metric
        if not metric or not self._is_due(rollout, step, now_s):
            return {}
        versions = [*candidates_of(rollout.spec, state), *([state.stable] if state.stable else [])]
        summary = self.rewards.summary(
            rollout.spec.handle,
            Reported(name=metric, window_s=step.window_s, how=step.how),
            versions=versions,
            since_s=state.started_at_s,
            now_s=now_s,
        )
        is_binary = step.reward_kind == "binary"
        return {
            version: Rewards(
                exposures=each.exposures,
                credited=each.credited,
                total=float(each.successes) if is_binary else each.total,
                squares=each.squares,
                pending=each.pending,
                last_at_s=each.last_at_s,
            )
            for version, each in summary.items()
        }

    def _is_due(self, rollout: Rollout, step: Explore | Experiment, now_s: float) -> bool:
        """Return whether a step wants to know the sums now: at its own updates, an experiment every few seconds."""
        state = rollout.state
        if isinstance(step, Explore):
            return now_s - max(state.updated_at_s, state.entered_at_s) >= step.update_s
        if now_s - self._summed_at_s.get(rollout.spec.id, 0.0) < EXPERIMENT_LOOK_S:
            return False
        self._summed_at_s[rollout.spec.id] = now_s
        return True

    def _measured(self, rollout: Rollout, now_s: float) -> dict[str, float]:
        """Return what the queries of a rollout say now, behind a gate too: the way back outranks every gate."""
        if self.queries is None or rollout.state.status not in GUARDED:
            return {}
        found = {}
        for metric in rollout.spec.metrics:
            if metric.kind not in ("prometheus", "sql"):
                continue
            for version in candidates_of(rollout.spec, rollout.state):
                query = Query(
                    rollout=rollout.spec.id,
                    metric=metric.name,
                    kind=metric.kind,
                    source=metric.source,
                    text=metric.query,
                    handle=rollout.spec.handle,
                    version=version,
                )
                value = self.queries.news(query, interval_s=metric.interval_s, now_s=now_s)
                if value is not None:
                    found[key_of(version, metric.name)] = value
        return found

    def _verified(
        self, rollout: Rollout, fleet: Fleet, now_s: float
    ) -> tuple[dict[int, Answer], dict[int, str]]:
        """Return whether each candidate that has traffic, and a contract, still holds it at this step, and doubts."""
        state = rollout.state
        if self.reverifier is None or not rollout.spec.reverify or state.status not in GUARDED:
            return {}, {}
        is_repeated = any(metric.kind == "schema" for metric in rollout.spec.metrics)
        found, doubts = {}, {}
        for version in state.weights:
            variant = fleet.variant(rollout.spec.handle, version)
            contract = variant.spec.get("contract") if variant else None
            if contract:
                proof = Proof(
                    rollout=rollout.spec.id,
                    step=state.step,
                    handle=rollout.spec.handle,
                    version=version,
                    contract=Path(contract),
                )
                found[version] = self.reverifier.answer(proof, now_s=now_s, is_repeated=is_repeated)
                if doubt := self.reverifier.doubt(proof):
                    doubts[version] = doubt
        return found, doubts

    def _baseline_ms(self, rollout: Rollout) -> float | None:
        """Return the stable version's own p99, from before the rollout judged it, once enough was seen."""
        is_asked = any(metric.kind == "latency" for metric in rollout.spec.metrics)
        if not is_asked or rollout.state.baseline_ms is not None or rollout.state.stable is None:
            return None
        return baseline_quantile(list(self._latencies[rollout.spec.handle, rollout.state.stable]))


def _compared_metrics(rollout: Rollout) -> Iterable[Metric]:
    """Return the metrics of feedback that versions are compared by: those of the rollout, and an experiment's own."""
    found = {metric.name: metric for metric in rollout.spec.metrics if metric.kind == "feedback"}
    for step in rollout.plan:
        if isinstance(step, Experiment) and step.metric and step.metric not in found:
            found[step.metric] = Metric(
                name=step.metric, kind="feedback", window_s=step.window_s, how=step.how
            )
    return found.values()


def _reported(rollout: Rollout) -> Iterable[Reported]:
    """Yield the metrics of feedback that a rollout counts, each once."""
    found = {
        metric.name: _as_reported(metric) for metric in rollout.spec.metrics if metric.kind == "feedback"
    }
    for step in rollout.plan:
        if isinstance(step, Explore):
            found[step.reward] = Reported(name=step.reward, window_s=step.window_s, how=step.how)
        elif isinstance(step, Experiment) and step.metric:
            found[step.metric] = Reported(name=step.metric, window_s=step.window_s, how=step.how)
    return found.values()


def _as_reported(metric: Metric) -> Reported:
    return Reported(name=metric.name, window_s=metric.window_s, how=metric.how)


def _scaled(metric: Metric, value: float) -> float:
    return min(1.0, max(0.0, (value - metric.low) / (metric.high - metric.low)))
