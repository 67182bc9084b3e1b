"""The cap on users who may meet a candidate before it is proven: when its door is closed. Pure.

A door closes a moment after that was decided, so it is closed early, by those who come in meanwhile.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, sqrt

from taxiway_serving.rollout.judges import Judge, candidates_of
from taxiway_serving.rollout.losing import Decision, paused
from taxiway_serving.rollout.observation import Observation
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import RolloutState, Status, Verdict
from taxiway_serving.rollout.walk import PROMOTING

CAP = "0/cap"
MARGIN_LOOKS = 3
"""A closed door is read back within so many looks."""
MARGIN_S = 3.0
"""And within so many seconds."""
BY_CHANCE = 4.0
"""Standard deviations that more users may come in than before."""


def capped(
    spec: RolloutSpec,
    before: RolloutState,
    learned: RolloutState,
    seen: Observation,
    proofs: Sequence[Judge],
    decision: Decision,
    now_s: float,
) -> Decision:
    """Return the decision, or the closing of the door instead where it would let too many users in.

    Args:
        spec: The rollout.
        before: As the last look left it.
        learned: With what this look has shown, before anything was decided.
        seen: What was seen.
        proofs: The certificates: a candidate that is proven needs no cap.
        decision: What is about to be done.
        now_s: Seconds since the epoch.
    """
    state = decision.state
    is_open = spec.max_users is None or state.is_open or state.stable is None
    if is_open or state.is_closed or state.status not in _WALKING or not state.weights:
        return decision
    coming = _coming(spec, before, learned, seen, state.weight_pct, now_s)
    if spec.max_users is None or learned.exposed + coming <= spec.max_users:
        return decision
    if any(proof.guard.name in PROMOTING and proof.is_proven(learned) for proof in proofs):
        return replace(decision, state=replace(state, is_open=True))
    return _closed(spec, learned, coming, state.weight_pct, now_s)


_WALKING = (Status.PROGRESSING, Status.PAUSED)


def _closed(
    spec: RolloutSpec, learned: RolloutState, coming: int, weight_pct: float, now_s: float
) -> Decision:
    """Pause where the rollout stands, with the door closed; a pause that is on already is no open door."""
    shut = replace(learned, is_closed=bool(learned.weights), failed=(*learned.failed, CAP))
    told = f"{learned.exposed} users have met the candidate, {spec.max_users} may, and at {weight_pct:g} % about "
    told += f"{coming} more would before its door is closed: "
    told += "those keep it, nobody else meets it" if shut.is_closed else "it stays closed"
    reason = f"{told}; promote or resume lifts the cap, abort ends it"
    if learned.status is Status.PAUSED:
        return Decision(state=replace(shut, reason=reason), verdict=Verdict.INCONCLUSIVE, reason=reason)
    return paused(shut, reason, now_s)


def _coming(
    spec: RolloutSpec,
    before: RolloutState,
    learned: RolloutState,
    seen: Observation,
    weight_pct: float,
    now_s: float,
) -> int:
    """Return how many users may come in until a door that is closed now is closed at the gateway."""
    share, past = weight_pct / 100, learned.weight_pct / 100
    growth = share / past if past else 1.0
    fresh = max(0, learned.exposed - before.exposed)
    # Of those who ask now, a higher weight moves some to the candidate at once.
    asking = max((seen.errors(version).asking for version in candidates_of(spec, learned)), default=0)
    at_step = sum(learned.at_step.values())
    a_second = at_step / max(1.0, now_s - learned.entered_at_s)
    coming = _at_most(growth * max(MARGIN_LOOKS * fresh, MARGIN_S * a_second), counted=max(fresh, at_step))
    moving = _at_most(MARGIN_LOOKS * max(0.0, share - past) * asking, counted=asking)
    # No more than all who ask and have their place on the candidate's part of the line.
    return min(max(coming, moving), _at_most(MARGIN_LOOKS * share * asking, counted=asking))


def _at_most(expected: float, *, counted: int) -> int:
    """Return how many may come where so many are expected, after a count of so many: both are counts by chance."""
    return ceil(expected + BY_CHANCE * sqrt(expected + expected**2 / max(1, counted)))
