"""What each step waits for, and what entering one changes. Pure; the machine in `machine.py` says when to ask."""

from collections.abc import Sequence
from dataclasses import replace

from taxiway_serving.answers import Answer
from taxiway_serving.rollout.exploring import experiment, explore, reweighed
from taxiway_serving.rollout.guard import Reading
from taxiway_serving.rollout.judges import candidates_of
from taxiway_serving.rollout.observation import Observation
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import TRANSITIONS, HeaderRoute, RolloutState, Status, Verdict
from taxiway_serving.rollout.steps import (
    Analysis,
    Bake,
    Compare,
    Experiment,
    Explore,
    Pause,
    SetHeaderRoute,
    SetMirrorRoute,
    SetWeight,
    Step,
)

Waited = tuple[RolloutState, bool, str, Verdict]
"""State, whether the step is done, the reason in words, and the verdict while it is not."""


def waited(
    spec: RolloutSpec,
    step: Step,
    state: RolloutState,
    seen: Observation,
    proofs: Sequence[Reading],
    now_s: float,
) -> Waited:
    """Return whether a step is done.

    Args:
        spec: The rollout.
        step: Its current step.
        state: As it stands.
        seen: What was seen at this look.
        proofs: Readings of the certificates.
        now_s: Seconds since the epoch.
    """
    versions = candidates_of(spec, state)
    if isinstance(step, SetWeight | SetHeaderRoute | SetMirrorRoute):
        return _set(step, state, seen, versions)
    if isinstance(step, Explore | Experiment):
        found = (
            explore(step, state, seen, versions, now_s)
            if isinstance(step, Explore)
            else experiment(step, state, seen, versions, now_s)
        )
        verdict = Verdict.SHIFT if found.has_moved else Verdict.HOLD
        named = _named(step, found.state, proofs) if found.is_done else found.state
        return named, found.is_done, found.reason, verdict
    if isinstance(step, Analysis):
        is_done, reason = _analysed(step, state, versions, proofs)
    elif isinstance(step, Compare):
        is_done, reason = _compared(step, state, versions, proofs)
    else:
        is_done, reason = _rested(step, state, now_s)
    return state, is_done, reason, Verdict.HOLD


def _set(
    step: SetWeight | SetHeaderRoute | SetMirrorRoute,
    state: RolloutState,
    seen: Observation,
    versions: tuple[int, ...],
) -> Waited:
    """A route that was read back is set; a candidate with a contract has to hold it at every weight anew."""
    unproven = [version for version in versions if seen.verified.get(version, Answer.YES) is not Answer.YES]
    if isinstance(step, SetWeight) and unproven and state.weight_pct:
        told = ", ".join(f"version {version}" for version in unproven)
        return state, False, f"waiting for the contract to be verified again: {told}", Verdict.HOLD
    what = f"{state.weight_pct:g} %" if isinstance(step, SetWeight) else "the route"
    return state, True, f"{what} read back", Verdict.HOLD


def _rested(step: Pause | Bake, state: RolloutState, now_s: float) -> tuple[bool, str]:
    past_s = now_s - state.entered_at_s
    if step.duration_s is None:
        return state.is_resumed, "resumed"
    return past_s >= step.duration_s, f"{past_s:.0f} s of {step.duration_s:g} s, guards quiet"


def _analysed(
    step: Analysis, state: RolloutState, versions: tuple[int, ...], proofs: Sequence[Reading]
) -> tuple[bool, str]:
    units = min((state.at_step.get(version, 0) for version in versions), default=0)
    if units < step.units:
        return False, f"too little evidence: {units} of {step.units} new units at this step"
    if not step.certify:
        return True, f"{units} new units at this step, guards quiet"
    names = ("ratio_certificate", "budget_certificate")
    return _proven([proof for proof in proofs if proof.name in names])


def _compared(
    step: Compare, state: RolloutState, versions: tuple[int, ...], proofs: Sequence[Reading]
) -> tuple[bool, str]:
    counts = [state.compared[version] for version in versions if version in state.compared]
    samples = min((each.samples for each in counts), default=0)
    if samples < step.samples:
        return False, f"too little evidence: {samples} of {step.samples} mirrored requests compared"
    return _proven([proof for proof in proofs if proof.name == "same_certificate"])


def _proven(proofs: Sequence[Reading]) -> tuple[bool, str]:
    proven = next((proof for proof in proofs if proof.answer is Answer.YES), None)
    if proven:
        return True, f"{proven.name}: {proven.reason}"
    told = ", ".join(f"{proof.name} {proof.log_e:.1f} of {proof.threshold:.1f}" for proof in proofs)
    return False, f"not proven yet: {told}"


def _named(step: Explore | Experiment, state: RolloutState, proofs: Sequence[Reading]) -> RolloutState:
    """Name the winner of an experiment: the candidate that is proven to earn more, else the stable version."""
    if isinstance(step, Explore):
        return state
    gains = [p for p in proofs if p.name == f"{step.metric}_gain" and p.answer is Answer.YES]
    best = max(gains, key=lambda proof: proof.log_e, default=None)
    return replace(state, winner=best.version if best else state.stable)


def deadline_of(step: Step) -> float | None:
    """Return the seconds after which a step without enough evidence is inconclusive; None if it waits for none."""
    return step.deadline_s if isinstance(step, Analysis | Compare | Explore) else None


def stepped(
    spec: RolloutSpec, plan: Sequence[Step], state: RolloutState, index: int, now_s: float, reason: str
) -> RolloutState:
    """Return the state at another step: its weight or route asked for, and no evidence of its own yet."""
    step = plan[index]
    entered = replace(
        state,
        step=index,
        entered_at_s=now_s,
        at_step={},
        reason=reason,
        is_resumed=False,
        is_ready=False,
        is_frozen=False,
        updated_at_s=now_s,
    )
    if isinstance(step, SetWeight):
        entered = reweighed(entered, _weights(spec, step, state), now_s)
    elif isinstance(step, SetHeaderRoute):
        entered = replace(entered, header=_header(spec, step))
    elif isinstance(step, SetMirrorRoute):
        entered = replace(entered, mirror_pct=step.sample_pct)
    elif isinstance(step, Pause) and step.duration_s is None:
        paused = moved(entered, Status.PAUSED, now_s)
        return replace(paused, reason="paused by its step; resume, promote or abort")
    return entered


def _weights(spec: RolloutSpec, step: SetWeight, state: RolloutState) -> dict[int, float]:
    """Return the shares that a step asks for. Once there is a winner, it alone is meant."""
    versions = candidates_of(spec, state)
    if state.winner is not None:
        return {state.winner: step.weight_pct} if state.winner in versions else {}
    if step.weights is not None:
        return {version: pct for version, pct in step.weights.items() if version in versions}
    return {version: round(step.weight_pct / len(versions), 2) for version in versions}


def _header(spec: RolloutSpec, step: SetHeaderRoute) -> HeaderRoute | None:
    if not step.header and not step.cookie:
        return None
    versions = dict(step.values) if step.values else {step.value: spec.version}
    return HeaderRoute(header=step.header, cookie=step.cookie, versions=versions)


def moved(state: RolloutState, status: Status, now_s: float) -> RolloutState:
    """Return the state in another status.

    Raises:
        ValueError: If the transition table has no such way; a defect of the machine, not a caller's mistake.
    """
    if status not in TRANSITIONS[state.status]:
        raise ValueError(f"a rollout cannot go from {state.status} to {status}; see TRANSITIONS")
    return replace(state, status=status, entered_at_s=now_s)
