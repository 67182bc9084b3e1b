"""The one machine that walks every strategy's steps: `(spec, plan, state, look, now) -> decision`, and its replay.

Pure: it imports no clock, no network, no randomness. What it decides is committed and carried out by the
controller. What a look teaches is in `learning.py`, what a step waits for in `walk.py`, who judges in `judges.py`, and
what becomes of a candidate that cannot stay in `losing.py`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from taxiway_serving.answers import Answer
from taxiway_serving.rollout.cap import capped
from taxiway_serving.rollout.guard import Reading
from taxiway_serving.rollout.judges import Judge, candidates_of, judges_of
from taxiway_serving.rollout.learning import learned
from taxiway_serving.rollout.losing import Decision, dropped, leave, losses_of, paused, without
from taxiway_serving.rollout.mismatch import SAMPLE_RATIO, is_unequal, mismatch_reading
from taxiway_serving.rollout.observation import Observation
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import ROLLBACK_DEADLINE_S, Outcome, RolloutState, Status, Verdict
from taxiway_serving.rollout.steps import Analysis, Step
from taxiway_serving.rollout.walk import Waited, deadline_of, moved, stepped, waited

__all__ = ("Decision", "advance", "begin", "leave", "paused", "readings_of", "replay")

READY_DEADLINE_S = 300.0
"""A candidate that is not ready by then ends its rollout before any traffic moved. Its own deadline comes earlier."""

UNSURE_DEADLINE_S = 300.0
"""After so long without seeing what it must see, a rollout pauses as inconclusive."""

GROUP_DEADLINE_S = 3600.0
"""A rollout that has all it needs waits so long for the others of its group."""


def begin(*, stable: int | None, now_s: float, is_queued: bool = False) -> RolloutState:
    """Return the first state of a rollout."""
    return RolloutState(
        started_at_s=now_s,
        entered_at_s=now_s,
        weighed_at_s=now_s,
        stable=stable,
        status=Status.QUEUED if is_queued else Status.PREPARING,
        reason="waits for its turn" if is_queued else "the candidate is being made ready",
    )


def advance(
    spec: RolloutSpec, plan: Sequence[Step], state: RolloutState, seen: Observation, now_s: float
) -> Decision:
    """Return what to do after one look: at most one transition.

    Args:
        spec: The rollout.
        plan: Its compiled steps, at least one.
        state: As the last look left it.
        seen: What happened since.
        now_s: Seconds since the epoch.
    """
    if state.status in (Status.ENDED, Status.QUEUED):
        return _hold(state)
    judges = judges_of(spec, plan, state)
    known = learned(spec, judges, state, seen, now_s)
    proofs = [judge for judge in judges if not judge.is_harm]
    decision = _decided(spec, plan, known, seen, judges, proofs, now_s)
    decision = capped(spec, state, known, seen, proofs, decision, now_s)
    if decision.verdict is Verdict.HOLD:
        return decision
    return replace(decision, readings=(*(judge.reading(known) for judge in judges), mismatch_reading(known)))


def readings_of(spec: RolloutSpec, plan: Sequence[Step], state: RolloutState) -> tuple[Reading, ...]:
    """Return what every judge says of every candidate there was, and whether the split is what was asked for."""
    judges = judges_of(spec, plan, state, (*spec.versions, *state.added))
    return (*(judge.reading(state) for judge in judges), mismatch_reading(state))


def replay(
    spec: RolloutSpec,
    plan: Sequence[Step],
    state: RolloutState,
    looks: Iterable[tuple[Observation, float]],
) -> RolloutState:
    """Return the state after a recorded series of looks; the same looks give the same state."""
    for seen, now_s in looks:
        state = advance(spec, plan, state, seen, now_s).state
    return state


def _hold(state: RolloutState, reason: str | None = None) -> Decision:
    told = state.reason if reason is None else reason
    waiting = state if told == state.reason else replace(state, reason=told)
    return Decision(state=waiting, verdict=Verdict.HOLD, reason=told)


def _decided(
    spec: RolloutSpec,
    plan: Sequence[Step],
    state: RolloutState,
    seen: Observation,
    judges: Sequence[Judge],
    proofs: Sequence[Judge],
    now_s: float,
) -> Decision:
    """Return what outranks what: the way back, a candidate that cannot stay, the group, a person, the walk."""
    if state.status is Status.ROLLING_BACK:
        return _on_the_way_back(state, seen, now_s)
    lost = losses_of(spec, state, seen, [judge for judge in judges if judge.is_harm])
    if lost:
        return without(spec, state, lost, now_s) or _hold(state)
    if seen.group is not None and seen.group.failed:
        return leave(state, Outcome.ROLLED_BACK, f"its group fails together: {seen.group.failed}", now_s)
    if state.status is Status.PREPARING:
        return _prepare(spec, plan, state, seen, now_s)
    if state.status is Status.PAUSED:
        return _hold(state)
    return _stopped(spec, state, now_s) or _walk(spec, plan, state, seen, proofs, now_s)


def _stopped(spec: RolloutSpec, state: RolloutState, now_s: float) -> Decision | None:
    """Pause where the evidence cannot be trusted, or the time is over; None goes on."""
    if is_unequal(state):
        failed = replace(state, failed=(*state.failed, SAMPLE_RATIO))
        reason = f"sample-ratio mismatch: {mismatch_reading(state).reason}; resume or abort"
        return paused(failed, reason, now_s)
    is_late = spec.deadline_s is not None and now_s - state.started_at_s > spec.deadline_s
    if is_late and not state.is_overdue:
        reason = f"not over within {spec.deadline_s:g} s: {state.reason}; promote, resume or abort"
        return paused(replace(state, is_overdue=True), reason, now_s)
    return None


def _on_the_way_back(state: RolloutState, seen: Observation, now_s: float) -> Decision:
    if seen.applied is Answer.YES:
        ended = replace(moved(state, Status.ENDED, now_s), rolled_back_at_s=now_s, ended_at_s=now_s)
        return Decision(state=ended, verdict=Verdict.ROLL_BACK, reason=state.reason)
    # Why it goes back stays the state's reason; that it takes too long is said once, or nobody repairs it.
    is_late = now_s - state.entered_at_s > ROLLBACK_DEADLINE_S
    late = f"0 % was not read back within {ROLLBACK_DEADLINE_S:g} s; it goes on being tried"
    waiting = replace(state, is_stuck=True) if is_late and not state.is_stuck else state
    reason = late if is_late else "waiting until 0 % is read back"
    return Decision(state=waiting, verdict=Verdict.HOLD, reason=reason)


def _prepare(
    spec: RolloutSpec, plan: Sequence[Step], state: RolloutState, seen: Observation, now_s: float
) -> Decision:
    if _is_sure(spec, state, seen):
        progressing = moved(state, Status.PROGRESSING, now_s)
        return _entered(spec, plan, progressing, state.step, now_s, "the candidate is ready")
    if now_s - state.entered_at_s <= READY_DEADLINE_S:
        return _hold(state, _unsure(spec, state, seen))
    versions = candidates_of(spec, state)
    late = [version for version in versions if seen.health(version) is not Answer.YES]
    told = f"was not ready within {READY_DEADLINE_S:g} s"
    if len(late) < len(versions) and late:
        return dropped(state, dict.fromkeys(late, f"it {told}"), now_s)
    what = f"the candidate {told}" if late else _unsure(spec, state, seen)
    return leave(state, Outcome.ABORTED, f"{what}; no traffic moved", now_s)


def _is_sure(spec: RolloutSpec, state: RolloutState, seen: Observation) -> bool:
    """Return whether everything that a raised weight or a promotion rests on was seen."""
    is_seen = seen.applied is Answer.YES and seen.evidence is Answer.YES
    return is_seen and all(seen.health(v) is Answer.YES for v in candidates_of(spec, state))


def _unsure(spec: RolloutSpec, state: RolloutState, seen: Observation) -> str:
    if seen.rejection is not None:
        return f"the gateway refused the split: {seen.rejection}"
    if seen.applied is not Answer.YES:
        return "waiting until the split is read back"
    if any(seen.health(version) is not Answer.YES for version in candidates_of(spec, state)):
        return "waiting until the candidate is ready and the gateway finds it healthy"
    return "the access log cannot be read whole; missing evidence is not good evidence"


def _walk(
    spec: RolloutSpec,
    plan: Sequence[Step],
    state: RolloutState,
    seen: Observation,
    proofs: Sequence[Judge],
    now_s: float,
) -> Decision:
    if not _is_sure(spec, state, seen):
        return _unseen(state, _unsure(spec, state, seen), now_s)
    step = plan[state.step]
    found = waited(spec, step, state, seen, proofs, now_s)
    if found.is_unseen:
        return _unseen(found.state, found.reason, now_s)
    if state.unsure_since_s is not None:
        found = replace(found, state=replace(found.state, unsure_since_s=None))
    if not found.is_done:
        return _held(step, found, now_s)
    if isinstance(step, Analysis) and step.certify:
        # The cap is for a version that nothing is proven of.
        found = replace(found, state=replace(found.state, is_open=True))
    if state.step + 1 < len(plan):
        return _entered(spec, plan, found.state, state.step + 1, now_s, found.reason)
    others = seen.group.waits_for if seen.group else ()
    return _waiting(found.state, others, now_s) if others else _ended(found.state, found.reason, now_s)


def _unseen(state: RolloutState, reason: str, now_s: float) -> Decision:
    """Hold while something cannot be seen, and pause when that lasts: somebody has to look."""
    since_s = state.unsure_since_s if state.unsure_since_s is not None else now_s
    if now_s - since_s > UNSURE_DEADLINE_S:
        return paused(state, f"{reason}, for {UNSURE_DEADLINE_S:g} s; resume or abort", now_s)
    return _hold(replace(state, unsure_since_s=since_s), reason)


def _held(step: Step, found: Waited, now_s: float) -> Decision:
    deadline_s = deadline_of(step)
    if deadline_s is not None and now_s - found.state.entered_at_s > deadline_s:
        reason = f"inconclusive after {deadline_s:g} s: {found.reason}; promote, resume or abort"
        return paused(found.state, reason, now_s)
    return replace(_hold(found.state, found.reason), verdict=found.verdict)


def _entered(
    spec: RolloutSpec, plan: Sequence[Step], state: RolloutState, index: int, now_s: float, reason: str
) -> Decision:
    entered = stepped(spec, plan, state, index, now_s, reason)
    return Decision(state=entered, verdict=Verdict.ADVANCE, reason=entered.reason)


def _waiting(state: RolloutState, others: Sequence[str], now_s: float) -> Decision:
    """Hold until the group is ready, but not for ever: a member that nobody starts has to be seen to."""
    told = f"ready; its group waits for {', '.join(others)}"
    if now_s - state.entered_at_s > GROUP_DEADLINE_S:
        reason = f"inconclusive after {GROUP_DEADLINE_S:g} s: {told}; start them and resume, or abort"
        return paused(replace(state, is_ready=False), reason, now_s)
    return _hold(replace(state, is_ready=True), told)


def _ended(state: RolloutState, reason: str, now_s: float) -> Decision:
    """End a walk that went well: promoted if a candidate has all the traffic, else an experiment that is complete."""
    whole = next((version for version, pct in state.weights.items() if pct >= 100), None)
    promoted = Outcome.FAST_PROMOTED if state.is_fast else Outcome.PROMOTED
    ended = replace(
        moved(state, Status.ENDED, now_s),
        outcome=Outcome.COMPLETED if whole is None else promoted,
        winner=state.winner if whole is None else whole,
        weights={} if whole is None else state.weights,
        header=None,
        mirror_pct=0.0,
        is_closed=False,
        ended_at_s=now_s,
        reason=reason,
    )
    verdict = Verdict.COMPLETE if whole is None else Verdict.PROMOTE
    return Decision(state=ended, verdict=verdict, reason=reason)
