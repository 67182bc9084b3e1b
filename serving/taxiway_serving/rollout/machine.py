"""The one machine that walks every strategy's steps: `(plan, state, observation, now) -> decision`, and its replay.

Pure: it imports no clock, no network, no randomness. What it decides is committed and carried out by the
controller.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from taxiway_serving.answers import Answer
from taxiway_serving.rollout.guard import Guard, Reading
from taxiway_serving.rollout.guards import BudgetCertificate, ErrorBudget, ErrorRatio, RatioCertificate
from taxiway_serving.rollout.state import TRANSITIONS, Outcome, RolloutState, Status, Verdict
from taxiway_serving.rollout.steps import Analysis, Pause, RolloutSpec, SetWeight, Step
from taxiway_serving.statistics.label import NOTHING, Counts

READY_DEADLINE_S = 300.0
"""A candidate that is not ready by then ends its rollout before any traffic moved. Its own deadline comes earlier."""

UNSURE_DEADLINE_S = 300.0
"""After so long without seeing what it must see, a rollout pauses as inconclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was seen since the last look. Unknown never promotes, and never raises a weight.

    Attributes:
        candidate: YES ready and healthy at the gateway, NO it has failed, UNKNOWN it is starting or cannot be seen.
        applied: YES the wanted split was read back from every gateway.
        evidence: YES the access log was read up to now; anything else means that counts may be missing.
        interval: Units since the last look.
        first_bad_at_s: When the candidate's first bad event in the interval happened.
    """

    candidate: Answer
    applied: Answer
    evidence: Answer
    interval: Counts = NOTHING
    first_bad_at_s: float | None = None
    restarts: int = 0
    rejection: str | None = None

    @property
    def is_sure(self) -> bool:
        """Whether everything that a raised weight or a promotion rests on was seen."""
        return all(answer is Answer.YES for answer in (self.candidate, self.applied, self.evidence))

    def to_json(self) -> dict[str, Any]:
        """Return the observation as plain JSON values, for the ledger; `observation_from_json` is the way back."""
        answers = {name: getattr(self, name).name for name in ("candidate", "applied", "evidence")}
        rest = {name: getattr(self, name) for name in ("first_bad_at_s", "restarts", "rejection")}
        return {**answers, **rest, "interval": asdict(self.interval)}


def observation_from_json(data: Mapping[str, Any]) -> Observation:
    """Read an observation back from the ledger."""
    answers = {name: Answer[data[name]] for name in ("candidate", "applied", "evidence")}
    return Observation(**{**data, **answers, "interval": Counts(**data["interval"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The state after a look, and what was decided in words."""

    state: RolloutState
    verdict: Verdict
    reason: str
    readings: tuple[Reading, ...] = ()


def guards_of(spec: RolloutSpec) -> tuple[Guard, ...]:
    """Return what may roll this rollout back. Its alpha is shared out evenly among them."""
    alpha = spec.alpha / 2
    return (ErrorRatio(alpha=alpha), ErrorBudget(alpha=alpha, budget=1 - spec.availability))


CERTIFICATE_ALPHA = 0.05


def certificates_of(spec: RolloutSpec) -> tuple[Guard, ...]:
    """Return what may promote: proof against the control, or, for a flawless canary, against the budget."""
    alpha = CERTIFICATE_ALPHA / 2
    return (RatioCertificate(alpha=alpha), BudgetCertificate(alpha=alpha, budget=1 - spec.availability))


def begin(spec: RolloutSpec, *, stable: int | None, now_s: float) -> RolloutState:
    """Return the first state of a rollout."""
    judges = (*guards_of(spec), *certificates_of(spec))
    return RolloutState(
        started_at_s=now_s,
        entered_at_s=now_s,
        stable=stable,
        guards={judge.name: judge.start() for judge in judges},
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
    if state.status is Status.ENDED:
        return Decision(state=state, verdict=Verdict.HOLD, reason=state.reason)
    state = _learned(spec, state, seen)
    readings = tuple(guard.judge(state.guards[guard.name], state.total) for guard in guards_of(spec))
    decision = _decided(spec, plan, state, seen, readings, now_s)
    return replace(decision, readings=readings + _certified(spec, state))


def _learned(spec: RolloutSpec, state: RolloutState, seen: Observation) -> RolloutState:
    judges = (*guards_of(spec), *certificates_of(spec))
    share = 1.0 if state.stable is None else state.weight_pct / 100
    guards = {judge.name: judge.update(state.guards[judge.name], seen.interval, share) for judge in judges}
    is_first_ready = state.restarts is None and seen.candidate is Answer.YES
    first_bad = state.first_bad_at_s if state.first_bad_at_s is not None else seen.first_bad_at_s
    return replace(
        state,
        guards=guards,
        total=state.total + seen.interval,
        at_step=state.at_step + seen.interval,
        first_bad_at_s=first_bad,
        restarts=seen.restarts if is_first_ready else state.restarts,
    )


def _certified(spec: RolloutSpec, state: RolloutState) -> tuple[Reading, ...]:
    return tuple(judge.judge(state.guards[judge.name], state.total) for judge in certificates_of(spec))


def _decided(
    spec: RolloutSpec,
    plan: Sequence[Step],
    state: RolloutState,
    seen: Observation,
    readings: tuple[Reading, ...],
    now_s: float,
) -> Decision:
    if state.status is Status.ROLLING_BACK:
        return _on_the_way_back(state, seen, now_s)
    breach = next((reading for reading in readings if reading.answer is Answer.YES), None)
    if breach:
        return _leave(state, Outcome.ROLLED_BACK, breach.reason, now_s)
    has_died = state.restarts is not None and seen.restarts > state.restarts
    if has_died or seen.candidate is Answer.NO:
        return _leave(state, Outcome.ROLLED_BACK, "the candidate's process failed; its log says why", now_s)
    if state.status is Status.PAUSED:
        return Decision(state=state, verdict=Verdict.HOLD, reason=state.reason)
    if state.status is Status.PREPARING:
        return _prepare(plan, state, seen, now_s)
    return _walk(spec, plan, state, seen, now_s)


def _on_the_way_back(state: RolloutState, seen: Observation, now_s: float) -> Decision:
    if seen.applied is not Answer.YES:
        return Decision(state=state, verdict=Verdict.HOLD, reason="waiting until 0 % is read back")
    ended = replace(moved(state, Status.ENDED, now_s), rolled_back_at_s=now_s, ended_at_s=now_s)
    return Decision(state=ended, verdict=Verdict.ROLL_BACK, reason=state.reason)


def _leave(state: RolloutState, outcome: Outcome, reason: str, now_s: float) -> Decision:
    """Take the candidate's traffic away. With nothing to go back to, or nothing moved yet, the rollout just ends."""
    left = replace(state, outcome=outcome, reason=reason)
    if state.weight_pct == 0:
        left = replace(moved(left, Status.ENDED, now_s), ended_at_s=now_s)
    elif state.stable is None:
        left = replace(moved(left, Status.ENDED, now_s), outcome=Outcome.ABORTED, ended_at_s=now_s)
        left = replace(left, reason=f"{reason}; no older version to go back to, so it keeps the traffic")
    else:
        left = replace(moved(left, Status.ROLLING_BACK, now_s), weight_pct=0.0)
    return Decision(state=left, verdict=Verdict.ROLL_BACK, reason=left.reason)


def _prepare(plan: Sequence[Step], state: RolloutState, seen: Observation, now_s: float) -> Decision:
    if seen.is_sure:
        return _entered(plan, moved(state, Status.PROGRESSING, now_s), 0, now_s, "the candidate is ready")
    if now_s - state.entered_at_s > READY_DEADLINE_S:
        reason = f"the candidate was not ready within {READY_DEADLINE_S:g} s; no traffic moved"
        return _leave(state, Outcome.ABORTED, reason, now_s)
    waiting = replace(state, reason=_unsure(seen))
    return Decision(state=waiting, verdict=Verdict.HOLD, reason=waiting.reason)


def _walk(
    spec: RolloutSpec, plan: Sequence[Step], state: RolloutState, seen: Observation, now_s: float
) -> Decision:
    if not seen.is_sure:
        return _unseen(state, _unsure(seen), now_s)
    state = replace(state, unsure_since_s=None)
    step = plan[state.step]
    is_done, reason = _finished(spec, step, state, now_s)
    if not is_done:
        return _waited(step, state, reason, now_s)
    if state.step + 1 < len(plan):
        return _entered(plan, state, state.step + 1, now_s, reason)
    promoted = replace(
        moved(state, Status.ENDED, now_s), outcome=Outcome.PROMOTED, ended_at_s=now_s, reason=reason
    )
    return Decision(state=promoted, verdict=Verdict.PROMOTE, reason=reason)


def _unseen(state: RolloutState, reason: str, now_s: float) -> Decision:
    """Hold while something cannot be seen, and pause when that lasts: somebody has to look."""
    since_s = state.unsure_since_s if state.unsure_since_s is not None else now_s
    if now_s - since_s > UNSURE_DEADLINE_S:
        return _paused(state, f"{reason}, for {UNSURE_DEADLINE_S:g} s; resume or abort", now_s)
    waiting = replace(state, unsure_since_s=since_s, reason=reason)
    return Decision(state=waiting, verdict=Verdict.HOLD, reason=reason)


def _paused(state: RolloutState, reason: str, now_s: float) -> Decision:
    paused = replace(moved(state, Status.PAUSED, now_s), reason=reason, unsure_since_s=None, is_resumed=False)
    return Decision(state=paused, verdict=Verdict.INCONCLUSIVE, reason=reason)


def _unsure(seen: Observation) -> str:
    if seen.rejection is not None:
        return f"the gateway refused the split: {seen.rejection}"
    if seen.applied is not Answer.YES:
        return "waiting until the split is read back"
    if seen.candidate is not Answer.YES:
        return "waiting until the candidate is ready and the gateway finds it healthy"
    return "the access log cannot be read whole; missing evidence is not good evidence"


def _finished(spec: RolloutSpec, step: Step, state: RolloutState, now_s: float) -> tuple[bool, str]:
    if isinstance(step, SetWeight):
        return True, f"{step.weight_pct:g} % read back"
    if isinstance(step, Analysis):
        return _analysed(spec, step, state)
    waited = now_s - state.entered_at_s
    if step.duration_s is None:
        return state.is_resumed, "resumed"
    return waited >= step.duration_s, f"{waited:.0f} s of {step.duration_s:g} s, guards quiet"


def _analysed(spec: RolloutSpec, step: Analysis, state: RolloutState) -> tuple[bool, str]:
    units = state.at_step.fresh
    if units < step.units:
        return False, f"too little evidence: {units} of {step.units} new units at this step"
    if not step.certify:
        return True, f"{units} new units at this step, guards quiet"
    readings = _certified(spec, state)
    proven = next((reading for reading in readings if reading.answer is Answer.YES), None)
    if proven:
        return True, f"{proven.name}: {proven.reason}"
    return False, "not proven yet: " + ", ".join(
        f"{reading.name} {reading.log_e:.1f} of {reading.threshold:.1f}" for reading in readings
    )


def _waited(step: Step, state: RolloutState, reason: str, now_s: float) -> Decision:
    if isinstance(step, Analysis) and now_s - state.entered_at_s > step.deadline_s:
        reason = f"inconclusive after {step.deadline_s:g} s: {reason}; promote, resume or abort"
        return _paused(state, reason, now_s)
    return Decision(state=replace(state, reason=reason), verdict=Verdict.HOLD, reason=reason)


def _entered(plan: Sequence[Step], state: RolloutState, index: int, now_s: float, reason: str) -> Decision:
    entered = stepped(plan, state, index, now_s, reason)
    return Decision(state=entered, verdict=Verdict.ADVANCE, reason=entered.reason)


def stepped(plan: Sequence[Step], state: RolloutState, index: int, now_s: float, reason: str) -> RolloutState:
    """Return the state at another step, with that step's weight and no evidence of its own yet."""
    step = plan[index]
    entered = replace(
        state,
        step=index,
        entered_at_s=now_s,
        weight_pct=step.weight_pct if isinstance(step, SetWeight) else state.weight_pct,
        at_step=NOTHING,
        reason=reason,
        is_resumed=False,
    )
    if isinstance(step, Pause) and step.duration_s is None:
        paused = moved(entered, Status.PAUSED, now_s)
        return replace(paused, reason="paused by its step; resume, promote or abort")
    return entered


def moved(state: RolloutState, status: Status, now_s: float) -> RolloutState:
    """Return the state in another status.

    Raises:
        ValueError: If the transition table has no such way; a defect of the machine, not a caller's mistake.
    """
    if status not in TRANSITIONS[state.status]:
        raise ValueError(f"a rollout cannot go from {state.status} to {status}; see TRANSITIONS")
    return replace(state, status=status, entered_at_s=now_s)


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
