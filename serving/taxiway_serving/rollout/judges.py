"""Which guards and certificates a rollout has, and how alpha is shared out among them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from taxiway_serving.rollout.guard import ALONE, Guard, Interval, Reading
from taxiway_serving.rollout.guards import Budget, BudgetCertificate, Frozen, Ratio, RatioCertificate
from taxiway_serving.rollout.likeness import Difference, SameCertificate
from taxiway_serving.rollout.metrics import ALWAYS, QUERIES, Metric
from taxiway_serving.rollout.observation import ERRORS, NO_COMPARISON, Observation, key_of
from taxiway_serving.rollout.spec import SEVERAL, RolloutSpec
from taxiway_serving.rollout.state import RolloutState
from taxiway_serving.rollout.steps import Compare, Experiment, Explore, SetHeaderRoute, SetWeight, Step
from taxiway_serving.rollout.weighing import SETTLED_S, share_of
from taxiway_serving.rollout.worth import Batched, Earnings, Threshold
from taxiway_serving.statistics.label import NOTHING

__all__ = ("CLIENT_ERRORS", "SETTLED_S", "Judge", "candidates_of", "interval_of", "judges_of")

CLIENT_ERRORS = "client_errors"
CERTIFICATE_ALPHA = 0.05
SLOW_BUDGET = 0.01
"""A p99 is met when one answer in a hundred is slower."""
RESERVE = 0.1
"""Part of alpha that is kept for candidates that join while a rollout runs: half of it for the first, and so on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """One guard on one candidate.

    Attributes:
        version: The candidate.
        metric: What it reads.
        guard: The guard.
        is_harm: Whether YES takes the candidate out; a certificate's YES lets it on.
        acts: Whether anything follows from it.
        key: Where its evidence is kept.
        reads: Where its metric is kept.
    """

    version: int
    metric: str
    guard: Guard
    is_harm: bool = True
    acts: bool = True

    key: str = field(init=False)
    reads: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", key_of(self.version, self.guard.name))
        object.__setattr__(self, "reads", key_of(self.version, self.metric))

    def is_proven(self, state: RolloutState) -> bool:
        """Return whether its answer is YES."""
        terms = state.guards.get(self.key)
        return terms is not None and self.guard.is_proven(terms)

    def reading(self, state: RolloutState) -> Reading:
        """Return what it says now."""
        total = state.totals.get(self.reads, NOTHING)
        terms = state.guards.get(self.key) or self.guard.start()
        return replace(self.guard.judge(terms, total), version=self.version, acts=self.acts)


def candidates_of(spec: RolloutSpec, state: RolloutState) -> tuple[int, ...]:
    """Return the candidates that are not out. Once one has won, it is the only one; if stable has, there is none."""
    found = tuple(version for version in (*spec.versions, *state.added) if version not in state.dropped)
    if state.winner is None:
        return found
    return tuple(version for version in found if version == state.winner)


def judges_of(
    spec: RolloutSpec, plan: Sequence[Step], state: RolloutState, versions: Sequence[int] | None = None
) -> tuple[Judge, ...]:
    """Return every judge of some candidates.

    Alpha is shared out evenly among the guards that can act under this plan, and among the candidates; a share is
    never given anew, so the sum holds whoever comes and goes.

    Args:
        spec: The rollout.
        plan: Its steps.
        state: As it stands.
        versions: The candidates; None takes those that are not out.
    """
    scope = _scope(plan, state.stable, len(spec.versions) + len(state.added))
    found: list[Judge] = []
    for version in candidates_of(spec, state) if versions is None else versions:
        part = _part(spec, state, version)
        found += _judges(version, part * spec.alpha, part, spec.availability, spec.metrics, scope)
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """What a plan lets its judges see.

    Attributes:
        is_beside: Whether a control may run beside a candidate.
        is_alone: Whether a candidate may have so much traffic that no control is left to compare with.
        is_chosen: Whether users may come to a candidate by a header or a cookie.
        most_different: Share of mirrored answers that may differ; None where nothing is mirrored.
        gain: Metric of which an experiment wants to know the better version; "" for none.
    """

    is_beside: bool
    is_alone: bool
    is_chosen: bool
    most_different: float | None
    gain: str


def _scope(plan: Sequence[Step], stable: int | None, candidates: int) -> _Scope:
    is_beside, is_alone, most_different, gain = False, stable is None, None, ""
    for step in plan:
        if isinstance(step, SetWeight):
            whole = sum(step.weights.values()) if step.weights else step.weight_pct
            is_alone |= whole >= 100 * ALONE - 1
            is_beside |= 0 < whole < 100 or candidates > 1
        elif isinstance(step, Explore):
            is_beside = is_alone = True
        elif isinstance(step, Compare):
            most_different = step.most_different_pct / 100
        elif isinstance(step, Experiment):
            gain = step.metric
    return _Scope(
        is_beside=is_beside and stable is not None,
        is_alone=is_alone,
        is_chosen=any(isinstance(step, SetHeaderRoute) for step in plan),
        most_different=most_different,
        gain=gain,
    )


def _part(spec: RolloutSpec, state: RolloutState, version: int) -> float:
    """Return a candidate's part of alpha. It is fixed for good, or evidence would choose its own threshold."""
    if spec.strategy not in SEVERAL:
        return 1.0
    if version in spec.versions:
        return (1 - RESERVE) / len(spec.versions)
    return float(RESERVE * 0.5 ** (state.added.index(version) + 1))


@lru_cache(maxsize=4096)
def _judges(
    version: int, alpha: float, part: float, availability: float, metrics: tuple[Metric, ...], scope: _Scope
) -> tuple[Judge, ...]:
    makers = (alpha, availability, metrics, scope)
    acting = sum(judge.acts and not isinstance(judge.guard, Threshold) for judge in _harms(version, *makers))
    return (
        *_harms(version, alpha / max(1, acting), availability, metrics, scope),
        *_certificates(version, part * CERTIFICATE_ALPHA, availability, metrics, scope),
    )


def _harms(
    version: int, alpha: float, availability: float, metrics: tuple[Metric, ...], scope: _Scope
) -> list[Judge]:
    budget = 1 - availability
    found: list[tuple[str, Guard, bool]] = []
    if scope.is_beside:
        found.append((ERRORS, Ratio(alpha=alpha), True))
        name = "client_error_ratio"
        found.append((CLIENT_ERRORS, Ratio(alpha=alpha, name=name, what="4xx answers"), True))
    if scope.is_alone or scope.is_chosen:
        found.append((ERRORS, Budget(alpha=alpha, budget=budget), True))
    if scope.is_alone:
        name = "client_error_frozen"
        found.append((CLIENT_ERRORS, Frozen(alpha=alpha, name=name, what="4xx answers"), True))
    for metric in metrics:
        found += [(metric.name, guard, not metric.dry_run) for guard in _guards(metric, alpha, budget, scope)]
    if scope.most_different is not None:
        found.append(("difference", Difference(alpha=alpha), True))
    return [Judge(version=version, metric=metric, guard=guard, acts=acts) for metric, guard, acts in found]


_SLOW, _UNFIT = "slow answers", "answers that break the contract"


def _guards(metric: Metric, alpha: float, budget: float, scope: _Scope) -> list[Guard]:
    name = metric.name
    found: list[Guard] = [] if metric.limit is None else [_rule(metric, metric.limit)]
    if metric.kind in (*QUERIES, *ALWAYS):
        return found
    if metric.kind == "feedback":
        drop = Earnings(alpha=alpha, metric=name, direction=metric.direction)
        return [drop, *found] if scope.is_beside else found
    what = _UNFIT if metric.kind == "schema" else _SLOW
    if scope.is_beside:
        found.append(Ratio(alpha=alpha, name=f"{name}_ratio", what=what))
    if metric.kind == "latency":
        if scope.is_alone:
            found.append(Frozen(alpha=alpha, name=f"{name}_frozen", what=what, least=2 * SLOW_BUDGET))
        return found
    if scope.is_alone or scope.is_chosen:
        allowed = SLOW_BUDGET if metric.kind == "latency_slo" else budget
        found.append(Budget(alpha=alpha, name=f"{name}_budget", budget=allowed))
    return found


def _rule(metric: Metric, limit: float) -> Threshold:
    """Return the user's own rule: bad units are wrong above it, rewards and queries by their direction."""
    is_earned, borne = metric.kind == "feedback", metric.failure_limit
    if metric.kind in QUERIES:
        return Threshold(metric=metric.name, limit=limit, direction=metric.direction, failure_limit=borne)
    return Batched(
        metric=metric.name,
        limit=limit,
        direction=metric.direction if is_earned else "down",
        failure_limit=borne,
        units=metric.min_units,
        low=metric.low,
        high=metric.high,
        is_earned=is_earned,
    )


def _certificates(
    version: int, alpha: float, availability: float, metrics: tuple[Metric, ...], scope: _Scope
) -> list[Judge]:
    guards: list[tuple[str, Guard]] = [
        (ERRORS, RatioCertificate(alpha=alpha / 2)),
        (ERRORS, BudgetCertificate(alpha=alpha / 2, budget=1 - availability)),
    ]
    if scope.gain:
        direction = next((metric.direction for metric in metrics if metric.name == scope.gain), "up")
        gain = Earnings(alpha=alpha, metric=scope.gain, direction=direction, is_gain=True)
        guards.append((scope.gain, gain))
    if scope.most_different is not None:
        guards.append(("difference", SameCertificate(alpha=alpha, most=scope.most_different)))
    return [Judge(version=version, metric=metric, guard=guard, is_harm=False) for metric, guard in guards]


def interval_of(judge: Judge, state: RolloutState, seen: Observation, *, is_settled: bool) -> Interval | None:
    """Return what a judge learns from this look; None where there is nothing for it.

    While weights settle, harm is judged by the largest share that requests under way may have followed and safety by
    the smallest: both err on the side of saying nothing.

    Args:
        judge: The judge.
        state: With the interval's units added to its totals.
        seen: What was seen.
        is_settled: Whether every request of the interval followed the weights as they are.
    """
    version, key = judge.version, judge.reads
    counts, values = seen.counts.get(key, NOTHING), seen.values.get(key, ())
    measured, compared = seen.measured.get(key), seen.compared.get(version, NO_COMPARISON)
    if not (counts.canary or counts.control or values or compared.samples or measured is not None):
        return None
    # Who comes by a header chose to, and who stays behind a closed door is listed by name: there is no control to
    # compare them with, only the SLO.
    is_routed = not state.weights and bool(state.header) and state.stable is not None
    is_chosen = is_routed or state.is_closed
    share = 1.0 if is_chosen else share_of(version, state.weights, state.stable)
    if not is_settled and not is_chosen and version in state.spans:
        low, high = state.spans[version]
        share = high if judge.is_harm else low
    return Interval(
        counts=counts,
        total=state.totals.get(key, NOTHING),
        values=values,
        measured=measured,
        compared=compared,
        share=share,
        is_chosen=is_chosen,
    )
