"""The one machine that walks every strategy's steps: `(spec, plan, state, look, now) -> decision`, and its replay.

Pure: it imports no clock, no network, no randomness. What it decides is committed and carried out by the
controller. What a step waits for is in `walk.py`, what is judged in `judges.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from taxiway_serving.answers import Answer
from taxiway_serving.rollout.exploring import reweighed
from taxiway_serving.rollout.guard import Reading
from taxiway_serving.rollout.judges import SETTLED_S, candidates_of, interval_of, judges_of
from taxiway_serving.rollout.mismatch import SAMPLE_RATIO, mismatch_reading, mismatch_update
from taxiway_serving.rollout.observation import Compared, Observation
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import ROLLBACK_DEADLINE_S, Outcome, RolloutState, Status, Verdict
from taxiway_serving.rollout.steps import Analysis, Step
from taxiway_serving.rollout.walk import deadline_of, moved, stepped, waited
from taxiway_serving.statistics.label import NOTHING

READY_DEADLINE_S = 300.0
"""A candidate that is not ready by then ends its rollout before any traffic moved. Its own deadline comes earlier."""

UNSURE_DEADLINE_S = 300.0
"""After so long without seeing what it must see, a rollout pauses as inconclusive."""

CAP_MARGIN_LOOKS = 3
"""Users who arrive while the door is being closed: as many as in so many looks before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The state after a look, and what was decided in words."""

    state: RolloutState
    verdict: Verdict
    reason: str
    readings: tuple[Reading, ...] = ()


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
        return Decision(state=state, verdict=Verdict.HOLD, reason=state.reason)
    before = state
    state = _learned(spec, plan, state, seen, now_s)
    readings = readings_of(spec, plan, state)
    harm = {judge.key for judge in judges_of(spec, plan, candidates_of(spec, state)) if judge.is_harm}
    decision = _decided(spec, plan, state, seen, readings, harm, now_s)
    if decision.verdict is Verdict.HOLD and decision.state.status is Status.PROGRESSING:
        decision = _capped(spec, before, decision, now_s)
    return replace(decision, readings=readings)


def readings_of(spec: RolloutSpec, plan: Sequence[Step], state: RolloutState) -> tuple[Reading, ...]:
    """Return what every judge of the remaining candidates says, and whether the split is what was asked for."""
    judges = judges_of(spec, plan, candidates_of(spec, state))
    return (*(judge.reading(state) for judge in judges), mismatch_reading(state))


def _learned(
    spec: RolloutSpec, plan: Sequence[Step], state: RolloutState, seen: Observation, now_s: float
) -> RolloutState:
    versions = candidates_of(spec, state)
    totals = dict(state.totals)
    for key, counts in seen.counts.items():
        if counts != NOTHING:
            totals[key] = totals.get(key, NOTHING) + counts
    at_step = {version: state.at_step.get(version, 0) + seen.errors(version).fresh for version in versions}
    first_bad = state.first_bad_at_s if state.first_bad_at_s is not None else seen.first_bad_at_s
    learned = replace(
        state,
        totals=totals,
        at_step=at_step,
        compared=_summed(state.compared, seen.compared),
        baseline_ms=state.baseline_ms if state.baseline_ms is not None else seen.baseline_ms,
        first_bad_at_s=first_bad,
        cursors={**state.cursors, **seen.cursors},
        restarts={**_first_ready(seen, versions), **state.restarts},
    )
    guards = dict(state.guards)
    for judge in judges_of(spec, plan, versions):
        terms = guards.get(judge.key) or judge.guard.start()
        guards[judge.key] = judge.guard.update(terms, interval_of(judge, learned, seen, now_s))
    is_settled = seen.applied is Answer.YES and now_s - state.weighed_at_s >= SETTLED_S
    if is_settled and not state.is_closed:
        guards[SAMPLE_RATIO] = mismatch_update(spec, state, seen)
    return replace(learned, guards=guards)


def _summed(before: Mapping[int, Compared], new: Mapping[int, Compared]) -> dict[int, Compared]:
    return {v: before.get(v, Compared()) + new.get(v, Compared()) for v in {**before, **new}}


def _first_ready(seen: Observation, versions: Sequence[int]) -> dict[int, int]:
    return {v: seen.restarts.get(v, 0) for v in versions if seen.health(v) is Answer.YES}


def _decided(
    spec: RolloutSpec,
    plan: Sequence[Step],
    state: RolloutState,
    seen: Observation,
    readings: Sequence[Reading],
    harm: set[str],
    now_s: float,
) -> Decision:
    if state.status is Status.ROLLING_BACK:
        return _on_the_way_back(state, seen, now_s)
    lost = _lost(spec, state, seen, [each for each in readings if _key(each) in harm])
    if lost:
        return _without(spec, state, lost, now_s)
    if seen.group is not None and seen.group.failed:
        return leave(state, Outcome.ROLLED_BACK, f"its group fails together: {seen.group.failed}", now_s)
    if state.status is Status.PAUSED:
        return Decision(state=state, verdict=Verdict.HOLD, reason=state.reason)
    if state.status is Status.PREPARING:
        return _prepare(spec, plan, state, seen, now_s)
    certificates = [each for each in readings[:-1] if _key(each) not in harm]
    return _unequal(state, readings[-1], now_s) or _walk(spec, plan, state, seen, certificates, now_s)


def _unequal(state: RolloutState, ratio: Reading, now_s: float) -> Decision | None:
    """Pause if the split is not what was asked for: then nothing that was compared can be trusted."""
    if ratio.answer is not Answer.YES:
        return None
    failed = replace(state, failed=(*state.failed, SAMPLE_RATIO))
    return paused(failed, f"sample-ratio mismatch: {ratio.reason}; resume or abort", now_s)


def _key(reading: Reading) -> str:
    return f"{reading.version}/{reading.name}"


def _lost(
    spec: RolloutSpec, state: RolloutState, seen: Observation, harms: Sequence[Reading]
) -> dict[int, tuple[str, str]]:
    """Return the candidates that cannot stay: the judge's key ("" if it was none), and the reason."""
    found: dict[int, tuple[str, str]] = {}
    for reading in harms:
        if reading.answer is Answer.YES and reading.acts:
            found.setdefault(reading.version, (_key(reading), reading.reason))
    for version in candidates_of(spec, state):
        has_died = version in state.restarts and seen.restarts.get(version, 0) > state.restarts[version]
        if has_died or seen.health(version) is Answer.NO:
            found.setdefault(version, ("", "the candidate's process failed; its log says why"))
        elif seen.verified.get(version) is Answer.NO:
            found.setdefault(version, ("", "the candidate no longer holds its contract; its log says why"))
    return found


def _without(
    spec: RolloutSpec, state: RolloutState, lost: Mapping[int, tuple[str, str]], now_s: float
) -> Decision:
    """Take candidates out. While others remain, those go on; else the rollout is over, or a person is asked."""
    key, reason = next(iter(lost.values()))
    remaining = [version for version in candidates_of(spec, state) if version not in lost]
    if remaining:
        dropped = {**state.dropped, **{version: why for version, (_, why) in lost.items()}}
        weights = {version: pct for version, pct in state.weights.items() if version in remaining}
        told = "; ".join(f"version {version} is out: {why}" for version, (_, why) in lost.items())
        left = reweighed(replace(state, dropped=dropped, reason=told), weights, now_s)
        return Decision(state=left, verdict=Verdict.ROLL_BACK, reason=told)
    if spec.on_failure == "pause" and key:
        if state.status is Status.PAUSED:
            return Decision(state=state, verdict=Verdict.HOLD, reason=state.reason)
        if state.status is Status.PROGRESSING:
            failed = replace(state, failed=(*state.failed, key))
            return paused(failed, f"{reason}; it pauses as it was told to: resume or abort", now_s)
    return leave(state, Outcome.ROLLED_BACK, reason, now_s)


def _on_the_way_back(state: RolloutState, seen: Observation, now_s: float) -> Decision:
    if seen.applied is not Answer.YES:
        return _not_back(state, now_s)
    ended = replace(moved(state, Status.ENDED, now_s), rolled_back_at_s=now_s, ended_at_s=now_s)
    return Decision(state=ended, verdict=Verdict.ROLL_BACK, reason=state.reason)


def _not_back(state: RolloutState, now_s: float) -> Decision:
    """Wait for the gateway, and say it once when that takes too long: what nobody is told, nobody repairs."""
    is_late = now_s - state.entered_at_s > ROLLBACK_DEADLINE_S
    late = f"0 % was not read back within {ROLLBACK_DEADLINE_S:g} s; it goes on being tried"
    reason = late if is_late else "waiting until 0 % is read back"
    return Decision(state=replace(state, is_stuck=is_late), verdict=Verdict.HOLD, reason=reason)


def leave(state: RolloutState, outcome: Outcome, reason: str, now_s: float) -> Decision:
    """Take the candidates' traffic away. With nothing to go back to, or nothing moved yet, the rollout just ends."""
    bare = replace(state, outcome=outcome, reason=reason, header=None, mirror_pct=0.0, is_closed=False)
    has_moved = state.weight_pct or state.header or state.mirror_pct
    if not has_moved or state.status is Status.PREPARING:
        left = replace(moved(bare, Status.ENDED, now_s), ended_at_s=now_s, weights={})
    elif state.stable is None:
        why = f"{reason}; no older version to go back to, so it keeps the traffic"
        left = replace(
            moved(bare, Status.ENDED, now_s), ended_at_s=now_s, outcome=Outcome.ABORTED, reason=why
        )
    else:
        left = moved(reweighed(bare, {}, now_s), Status.ROLLING_BACK, now_s)
    return Decision(state=left, verdict=Verdict.ROLL_BACK, reason=left.reason)


def _prepare(
    spec: RolloutSpec, plan: Sequence[Step], state: RolloutState, seen: Observation, now_s: float
) -> Decision:
    if _is_sure(spec, state, seen):
        progressing = moved(state, Status.PROGRESSING, now_s)
        return _entered(spec, plan, progressing, state.step, now_s, "the candidate is ready")
    if now_s - state.entered_at_s > READY_DEADLINE_S:
        reason = f"the candidate was not ready within {READY_DEADLINE_S:g} s; no traffic moved"
        return leave(state, Outcome.ABORTED, reason, now_s)
    waiting = replace(state, reason=_unsure(spec, state, seen))
    return Decision(state=waiting, verdict=Verdict.HOLD, reason=waiting.reason)


def _is_sure(spec: RolloutSpec, state: RolloutState, seen: Observation) -> bool:
    """Return whether everything that a raised weight or a promotion rests on was seen."""
    answers = (seen.applied, seen.evidence, *(seen.health(v) for v in candidates_of(spec, state)))
    return all(answer is Answer.YES for answer in answers)


def _walk(
    spec: RolloutSpec,
    plan: Sequence[Step],
    state: RolloutState,
    seen: Observation,
    certificates: Sequence[Reading],
    now_s: float,
) -> Decision:
    if not _is_sure(spec, state, seen):
        return _unseen(state, _unsure(spec, state, seen), now_s)
    state = replace(state, unsure_since_s=None)
    step = plan[state.step]
    state, is_done, reason, verdict = waited(spec, step, state, seen, certificates, now_s)
    if not is_done:
        return _held(step, replace(state, reason=reason), verdict, now_s)
    if isinstance(step, Analysis) and step.certify:
        # The cap is for a version that nothing is proven of.
        state = replace(state, is_open=True)
    if state.step + 1 < len(plan):
        return _entered(spec, plan, state, state.step + 1, now_s, reason)
    if seen.group is not None and seen.group.waits_for:
        told = f"ready; its group waits for {', '.join(seen.group.waits_for)}"
        waiting = replace(state, is_ready=True, reason=told)
        return Decision(state=waiting, verdict=Verdict.HOLD, reason=waiting.reason)
    return _ended(state, reason, now_s)


def _ended(state: RolloutState, reason: str, now_s: float) -> Decision:
    """End a walk that went well: promoted if a candidate has all the traffic, else an experiment that is complete."""
    is_whole = any(pct >= 100 for pct in state.weights.values())
    promoted = Outcome.FAST_PROMOTED if state.is_fast else Outcome.PROMOTED
    winner = next((version for version, pct in state.weights.items() if pct >= 100), state.winner)
    ended = replace(
        moved(state, Status.ENDED, now_s),
        outcome=promoted if is_whole else Outcome.COMPLETED,
        winner=winner,
        weights=state.weights if is_whole else {},
        header=None,
        mirror_pct=0.0,
        is_closed=False,
        ended_at_s=now_s,
        reason=reason,
    )
    return Decision(state=ended, verdict=Verdict.PROMOTE if is_whole else Verdict.COMPLETE, reason=reason)


def _unseen(state: RolloutState, reason: str, now_s: float) -> Decision:
    """Hold while something cannot be seen, and pause when that lasts: somebody has to look."""
    since_s = state.unsure_since_s if state.unsure_since_s is not None else now_s
    if now_s - since_s > UNSURE_DEADLINE_S:
        return paused(state, f"{reason}, for {UNSURE_DEADLINE_S:g} s; resume or abort", now_s)
    waiting = replace(state, unsure_since_s=since_s, reason=reason)
    return Decision(state=waiting, verdict=Verdict.HOLD, reason=reason)


def paused(state: RolloutState, reason: str, now_s: float) -> Decision:
    """Stop as inconclusive; a person goes on from here."""
    stopped = moved(state, Status.PAUSED, now_s)
    stopped = replace(stopped, reason=reason, unsure_since_s=None, is_resumed=False)
    return Decision(state=stopped, verdict=Verdict.INCONCLUSIVE, reason=reason)


def _unsure(spec: RolloutSpec, state: RolloutState, seen: Observation) -> str:
    if seen.rejection is not None:
        return f"the gateway refused the split: {seen.rejection}"
    if seen.applied is not Answer.YES:
        return "waiting until the split is read back"
    if any(seen.health(version) is not Answer.YES for version in candidates_of(spec, state)):
        return "waiting until the candidate is ready and the gateway finds it healthy"
    return "the access log cannot be read whole; missing evidence is not good evidence"


def _held(step: Step, state: RolloutState, verdict: Verdict, now_s: float) -> Decision:
    deadline_s = deadline_of(step)
    if deadline_s is not None and now_s - state.entered_at_s > deadline_s:
        reason = f"inconclusive after {deadline_s:g} s: {state.reason}; promote, resume or abort"
        return paused(state, reason, now_s)
    return Decision(state=state, verdict=verdict, reason=state.reason)


def _capped(spec: RolloutSpec, before: RolloutState, decision: Decision, now_s: float) -> Decision:
    """Close the door when the cap on users is reached, early by those who come in while it closes."""
    state = decision.state
    if spec.max_users is None or state.is_open or state.stable is None or not state.weight_pct:
        return decision
    arriving = CAP_MARGIN_LOOKS * max(0, state.exposed - before.exposed)
    if state.exposed + arriving < spec.max_users:
        return decision
    closed = replace(state, is_closed=True)
    reason = (
        f"{state.exposed} users have met the candidate, {spec.max_users} may: they keep it, nobody else meets it; "
        "promote or resume lifts the cap, abort ends it"
    )
    return paused(closed, reason, now_s)


def _entered(
    spec: RolloutSpec, plan: Sequence[Step], state: RolloutState, index: int, now_s: float, reason: str
) -> Decision:
    entered = stepped(spec, plan, state, index, now_s, reason)
    return Decision(state=entered, verdict=Verdict.ADVANCE, reason=entered.reason)


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
