"""What each step waits for, and what entering one changes. Pure; the machine in `machine.py` says when to ask."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from taxiway_serving.answers import Answer
from taxiway_serving.rollout.exploring import experiment, explore
from taxiway_serving.rollout.judges import Judge, candidates_of
from taxiway_serving.rollout.observation import NO_COMPARISON, Observation
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
from taxiway_serving.rollout.weighing import in_parts, reweighed

PROMOTING = ("ratio_certificate", "budget_certificate")
"""Certificates of which one is enough to promote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """Whether a step is done.

    Attributes:
        state: With what the step itself has learned.
        reason: In words.
        is_done: Whether the next step may follow.
        is_unseen: Whether it is something that should be seen, and is not, that it waits for.
        has_moved: Whether the weights are new.
    """

    state: RolloutState
    reason: str
    is_done: bool = False
    is_unseen: bool = False
    has_moved: bool = False

    @property
    def verdict(self) -> Verdict:
        """What to call a look at which the step goes on."""
        return Verdict.SHIFT if self.has_moved else Verdict.HOLD


def waited(
    spec: RolloutSpec,
    step: Step,
    state: RolloutState,
    seen: Observation,
    proofs: Sequence[Judge],
    now_s: float,
) -> Waited:
    """Return whether a step is done.

    Args:
        spec: The rollout.
        step: Its current step.
        state: As it stands.
        seen: What was seen at this look.
        proofs: The certificates.
        now_s: Seconds since the epoch.
    """
    versions = candidates_of(spec, state)
    if isinstance(step, SetWeight | SetHeaderRoute | SetMirrorRoute):
        found = _set(step, state, seen, versions)
    elif isinstance(step, Explore):
        learned = explore(step, state, seen, versions, now_s)
        found = Waited(
            state=learned.state, reason=learned.reason, is_done=learned.is_done, has_moved=learned.has_moved
        )
    elif isinstance(step, Experiment):
        learned = experiment(step, state, seen, versions, now_s)
        named = _named(step, learned.state, proofs) if learned.is_done else learned.state
        found = Waited(state=named, reason=learned.reason, is_done=learned.is_done)
    elif isinstance(step, Analysis):
        found = _analysed(step, state, versions, proofs)
    elif isinstance(step, Compare):
        found = _compared(step, state, versions, proofs)
    else:
        found = _rested(step, state, now_s)
    if state.is_waived and not found.is_done:
        return replace(found, is_done=True, reason=state.reason)
    return found


def _set(
    step: SetWeight | SetHeaderRoute | SetMirrorRoute,
    state: RolloutState,
    seen: Observation,
    versions: tuple[int, ...],
) -> Waited:
    """A route that was read back is set; a candidate with a contract has to hold it at every weight anew."""
    unproven = [version for version in versions if seen.verified.get(version, Answer.YES) is not Answer.YES]
    if isinstance(step, SetWeight) and unproven and state.weights:
        whys = {version: f" ({why})" for version, why in seen.unverified.items()}
        told = ", ".join(f"version {version}{whys.get(version, '')}" for version in unproven)
        reason = f"waiting for the contract to be verified again: {told}"
        return Waited(state=state, reason=reason, is_unseen=True)
    what = f"{state.weight_pct:g} %" if isinstance(step, SetWeight) else "the route"
    return Waited(state=state, reason=f"{what} read back", is_done=True)


def _rested(step: Pause | Bake, state: RolloutState, now_s: float) -> Waited:
    if step.duration_s is None:
        return Waited(state=state, reason="resumed", is_done=state.is_resumed)
    word = "bakes" if isinstance(step, Bake) else "pauses"
    # No clock in the reason: a state that is new at every look would be stored at every look.
    reason = f"{word} for {step.duration_s:g} s, guards quiet"
    return Waited(state=state, reason=reason, is_done=now_s - state.entered_at_s >= step.duration_s)


def _analysed(
    step: Analysis, state: RolloutState, versions: tuple[int, ...], proofs: Sequence[Judge]
) -> Waited:
    units = min((state.at_step.get(version, 0) for version in versions), default=0)
    if units < step.units:
        return Waited(
            state=state, reason=f"too little evidence: {units} of {step.units} new units at this step"
        )
    if not step.certify:
        return Waited(state=state, reason=f"{units} new units at this step, guards quiet", is_done=True)
    return _proven(state, versions, [proof for proof in proofs if proof.guard.name in PROMOTING])


def _compared(
    step: Compare, state: RolloutState, versions: tuple[int, ...], proofs: Sequence[Judge]
) -> Waited:
    samples = min((state.compared.get(v, NO_COMPARISON).samples for v in versions), default=0)
    if samples < step.samples:
        reason = f"too little evidence: {samples} of {step.samples} mirrored requests compared"
        return Waited(state=state, reason=reason)
    return _proven(state, versions, [proof for proof in proofs if proof.guard.name == "same_certificate"])


def _proven(state: RolloutState, versions: Sequence[int], proofs: Sequence[Judge]) -> Waited:
    """Each candidate has to be proven: what is known of one says nothing of another."""
    proven = {proof.version: proof for proof in reversed(proofs) if proof.is_proven(state)}
    readings = [proven.get(proof.version, proof).reading(state) for proof in proofs]
    if all(version in proven for version in versions):
        told = dict.fromkeys(f"{reading.name}: {reading.reason}" for reading in readings)
        return Waited(state=state, reason="; ".join(told), is_done=True)
    told = dict.fromkeys(
        f"version {each.version}: {each.name} {each.log_e:.1f} of {each.threshold:.1f}"
        for each in readings
        if each.version not in proven
    )
    return Waited(state=state, reason=f"not proven yet: {', '.join(told)}")


def _named(step: Experiment, state: RolloutState, proofs: Sequence[Judge]) -> RolloutState:
    """Name the winner of an experiment: the candidate that is proven to earn more, else the stable version."""
    gains = [
        proof.reading(state)
        for proof in proofs
        if step.metric and proof.guard.name == f"{step.metric}_gain" and proof.is_proven(state)
    ]
    best = max(gains, key=lambda reading: reading.log_e, default=None)
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
        entered = reweighed(entered, weights_of(spec, step, state), now_s)
    elif isinstance(step, SetHeaderRoute):
        entered = replace(entered, header=_header(spec, step))
    elif isinstance(step, SetMirrorRoute):
        entered = replace(entered, mirror_pct=step.sample_pct)
    elif isinstance(step, Pause) and step.duration_s is None:
        paused = moved(entered, Status.PAUSED, now_s)
        return replace(paused, reason="paused by its step; resume, promote or abort")
    return entered


def weights_of(spec: RolloutSpec, step: SetWeight, state: RolloutState) -> dict[int, float]:
    """Return the shares that a step asks for. Once there is a winner, it alone is meant."""
    versions = candidates_of(spec, state)
    if state.winner is not None:
        return dict.fromkeys(versions, step.weight_pct)
    if step.weights is not None:
        return {version: pct for version, pct in step.weights.items() if version in versions}
    if not versions:
        return {}
    return dict(zip(versions, in_parts([step.weight_pct / 100 / len(versions)] * len(versions)), strict=True))


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
