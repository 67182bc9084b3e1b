"""Which guards and certificates a rollout has, and what they read. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from taxiway_serving.rollout.guard import Guard, Interval, Reading
from taxiway_serving.rollout.guards import (
    Budget,
    BudgetCertificate,
    Difference,
    Earnings,
    Frozen,
    Ratio,
    RatioCertificate,
    SameCertificate,
    Threshold,
)
from taxiway_serving.rollout.metrics import Metric
from taxiway_serving.rollout.observation import ERRORS, NO_COMPARISON, Observation, key_of
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import RolloutState
from taxiway_serving.rollout.steps import Compare, Step
from taxiway_serving.statistics.label import NOTHING

CLIENT_ERRORS = "client_errors"
CERTIFICATE_ALPHA = 0.05
SLOW_BUDGET = 0.01
"""A p99 is met when one answer in a hundred is slower."""
SETTLED_S = 1.5
"""Requests under way when the weights change still follow the old ones; after so long none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """One guard on one candidate.

    Attributes:
        version: The candidate.
        metric: What it reads.
        guard: The guard.
        is_harm: Whether YES takes the candidate out; a certificate's YES lets it on.
        acts: Whether anything follows from it.
    """

    version: int
    metric: str
    guard: Guard
    is_harm: bool = True
    acts: bool = True

    @property
    def key(self) -> str:
        """Where its evidence is kept."""
        return key_of(self.version, self.guard.name)

    def reading(self, state: RolloutState) -> Reading:
        """Return what it says now."""
        total = state.totals.get(key_of(self.version, self.metric), NOTHING)
        terms = state.guards.get(self.key) or self.guard.start()
        return replace(self.guard.judge(terms, total), version=self.version, acts=self.acts)


def candidates_of(spec: RolloutSpec, state: RolloutState) -> tuple[int, ...]:
    """Return the candidates that are not out."""
    return tuple(version for version in (*spec.versions, *state.added) if version not in state.dropped)


def judges_of(spec: RolloutSpec, plan: Sequence[Step], versions: Sequence[int]) -> tuple[Judge, ...]:
    """Return every judge of these candidates. Alpha is shared out evenly among the guards that act.

    Args:
        spec: The rollout.
        plan: Its steps.
        versions: The candidates.
    """
    acting = len([judge for judge in _harms(spec, plan, 1, 0.5) if judge.acts])
    alpha = spec.alpha / max(1, acting * len(versions))
    found: list[Judge] = []
    for version in versions:
        found += _harms(spec, plan, version, alpha)
        found += _certificates(spec, plan, version)
    return tuple(found)


def _harms(spec: RolloutSpec, plan: Sequence[Step], version: int, alpha: float) -> list[Judge]:
    guards: list[tuple[str, Guard]] = [
        (ERRORS, Ratio(alpha=alpha)),
        (ERRORS, Budget(alpha=alpha, budget=1 - spec.availability)),
        (CLIENT_ERRORS, Ratio(alpha=alpha, name="client_error_ratio", what="4xx answers")),
        (CLIENT_ERRORS, Frozen(alpha=alpha, name="client_error_frozen", what="4xx answers")),
    ]
    found = [Judge(version=version, metric=metric, guard=guard) for metric, guard in guards]
    for metric in spec.metrics:
        found += [
            Judge(version=version, metric=metric.name, guard=guard, acts=not metric.dry_run)
            for guard in _guards(metric, spec, alpha)
        ]
    if any(isinstance(step, Compare) for step in plan):
        found.append(Judge(version=version, metric="difference", guard=Difference(alpha=alpha)))
    return found


def _guards(metric: Metric, spec: RolloutSpec, alpha: float) -> list[Guard]:
    ratio = f"{metric.name}_ratio"
    if metric.kind == "latency":
        frozen = Frozen(alpha=alpha, name="latency_frozen", what="slow answers", least=2 * SLOW_BUDGET)
        return [Ratio(alpha=alpha, name=ratio, what="slow answers"), frozen]
    if metric.kind == "latency_slo":
        budget = Budget(alpha=alpha, name=f"{metric.name}_budget", budget=SLOW_BUDGET)
        return [Ratio(alpha=alpha, name=ratio, what="slow answers"), budget]
    if metric.kind == "schema":
        budget = Budget(alpha=alpha, name=f"{metric.name}_budget", budget=1 - spec.availability)
        return [Ratio(alpha=alpha, name=ratio, what="answers that break the contract"), budget]
    if metric.kind == "feedback":
        return [Earnings(alpha=alpha, metric=metric.name, direction=metric.direction)]
    limit = metric.limit if metric.limit is not None else 0.0
    return [
        Threshold(
            metric=metric.name, limit=limit, direction=metric.direction, failure_limit=metric.failure_limit
        )
    ]


def _certificates(spec: RolloutSpec, plan: Sequence[Step], version: int) -> list[Judge]:
    alpha = CERTIFICATE_ALPHA / 2
    guards: list[tuple[str, Guard]] = [
        (ERRORS, RatioCertificate(alpha=alpha)),
        (ERRORS, BudgetCertificate(alpha=alpha, budget=1 - spec.availability)),
    ]
    for metric in spec.metrics:
        if metric.kind == "feedback":
            gain = Earnings(
                alpha=CERTIFICATE_ALPHA, metric=metric.name, direction=metric.direction, is_gain=True
            )
            guards.append((metric.name, gain))
    guards += [
        ("difference", SameCertificate(alpha=CERTIFICATE_ALPHA, most=step.most_different_pct / 100))
        for step in plan
        if isinstance(step, Compare)
    ]
    return [Judge(version=version, metric=metric, guard=guard, is_harm=False) for metric, guard in guards]


def interval_of(judge: Judge, state: RolloutState, seen: Observation, now_s: float) -> Interval:
    """Return what a judge learns from this look.

    Requests that were under way when the weights changed follow the old ones. Until they are through, harm is judged by
    the larger share and safety by the smaller: both err on the side of saying nothing.
    """
    key = key_of(judge.version, judge.metric)
    share = share_of(judge.version, state.weights, state.stable)
    if state.header and not state.weights and judge.version in state.header.versions.values():
        # Who comes by a header chose to: there is no control to compare with, only the SLO.
        share = 1.0
    if now_s - state.weighed_at_s < SETTLED_S and share < 1:
        before = share_of(judge.version, state.before, state.stable)
        share = max(share, before) if judge.is_harm else min(share, before)
    return Interval(
        counts=seen.counts.get(key, NOTHING),
        total=state.totals.get(key, NOTHING),
        values=seen.values.get(key, ()),
        measured=seen.measured.get(key),
        compared=seen.compared.get(judge.version, NO_COMPARISON),
        share=share,
    )


def share_of(version: int, weights: Mapping[int, float], stable: int | None) -> float:
    """Return a candidate's share of the traffic that it and the stable version have together, in [0, 1]."""
    if stable is None:
        return 1.0
    mine = weights.get(version, 0.0)
    rest = max(0.0, 100 - sum(weights.values()))
    return mine / (mine + rest) if mine else 0.0
