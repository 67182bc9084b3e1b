"""When a candidate cannot stay, and what follows: it is out, the rollout is taken back, or a person is asked. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from taxiway_serving.answers import Answer
from taxiway_serving.rollout.guard import Reading
from taxiway_serving.rollout.judges import Judge, candidates_of
from taxiway_serving.rollout.observation import Observation, key_of
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import HeaderRoute, Outcome, RolloutState, Status, Verdict
from taxiway_serving.rollout.walk import moved
from taxiway_serving.rollout.weighing import reweighed

CONTRACT = "contract"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The state after a look, and what was decided in words.

    Attributes:
        state: As it is from now on.
        verdict: What the evidence says.
        reason: Why.
        readings: What every judge says, at a look that decides something; empty at one that holds.
    """

    state: RolloutState
    verdict: Verdict
    reason: str
    readings: tuple[Reading, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Why a candidate cannot stay.

    Attributes:
        reason: In words.
        key: Of the judge that says so; "" where the candidate does not work at all, so that nobody need be asked.
    """

    reason: str
    key: str = ""


def losses_of(
    spec: RolloutSpec, state: RolloutState, seen: Observation, harms: Sequence[Judge]
) -> dict[int, Loss]:
    """Return the candidates that cannot stay."""
    found: dict[int, Loss] = {}
    for version in candidates_of(spec, state):
        has_died = version in state.restarts and seen.restarts.get(version, 0) > state.restarts[version]
        if has_died or seen.health(version) is Answer.NO:
            found[version] = Loss(reason="the candidate's process failed; its log says why")
    for judge in harms:
        if judge.acts and judge.version not in found and judge.is_proven(state):
            found[judge.version] = Loss(reason=judge.reading(state).reason, key=judge.key)
    for version in candidates_of(spec, state):
        if version not in found and seen.verified.get(version) is Answer.NO:
            reason = "the candidate no longer holds its contract; its log says why"
            found[version] = Loss(reason=reason, key=key_of(version, CONTRACT))
    return found


def without(
    spec: RolloutSpec, state: RolloutState, lost: Mapping[int, Loss], now_s: float
) -> Decision | None:
    """Take candidates out. While others remain, those go on; else the rollout is over, or a person is asked.

    Returns:
        None where a person has been asked already of all that speaks against them.
    """
    versions = candidates_of(spec, state)
    if any(version not in lost for version in versions):
        return dropped(state, {version: loss.reason for version, loss in lost.items()}, now_s)
    first = next(iter(lost.values()))
    is_for_a_person = spec.on_failure == "pause" and all(loss.key for loss in lost.values())
    if is_for_a_person and state.status in (Status.PROGRESSING, Status.PAUSED):
        return _asked(state, lost, now_s)
    return leave(state, Outcome.ROLLED_BACK, first.reason, now_s)


def _asked(state: RolloutState, lost: Mapping[int, Loss], now_s: float) -> Decision | None:
    """Ask a person, once for each judge; one who was waiting at a gate has to hear of it as well."""
    news = [loss for loss in lost.values() if loss.key not in state.failed]
    if not news:
        return None
    failed = replace(state, failed=(*state.failed, *(loss.key for loss in news)))
    reason = f"{news[0].reason}; it pauses as it was told to: resume or abort"
    if state.status is Status.PAUSED:
        return Decision(state=replace(failed, reason=reason), verdict=Verdict.INCONCLUSIVE, reason=reason)
    return paused(failed, reason, now_s)


def dropped(state: RolloutState, why: Mapping[int, str], now_s: float) -> Decision:
    """Take candidates out while others go on; what they had, stable takes until the next weights."""
    weights = {version: pct for version, pct in state.weights.items() if version not in why}
    told = "; ".join(f"version {version} is out: {reason}" for version, reason in why.items())
    left = replace(state, dropped={**state.dropped, **why}, header=_unrouted(state, why), reason=told)
    return Decision(state=reweighed(left, weights, now_s), verdict=Verdict.ROLL_BACK, reason=told)


def _unrouted(state: RolloutState, gone: Mapping[int, str]) -> HeaderRoute | None:
    """Return the routes by header without those to candidates that are out."""
    if state.header is None:
        return None
    versions = {value: version for value, version in state.header.versions.items() if version not in gone}
    return replace(state.header, versions=versions) if versions else None


def leave(state: RolloutState, outcome: Outcome, reason: str, now_s: float) -> Decision:
    """Take the candidates' traffic away. With nothing to go back to, or nothing moved yet, the rollout just ends."""
    bare = replace(state, outcome=outcome, reason=reason, header=None, mirror_pct=0.0, is_closed=False)
    has_moved = state.weights or state.header or state.mirror_pct
    if not has_moved or state.status is Status.PREPARING:
        left = replace(moved(bare, Status.ENDED, now_s), ended_at_s=now_s, weights={})
    elif state.stable is None:
        told = f"{reason}; no older version to go back to, so it keeps the traffic"
        kept = Outcome.ABORTED if outcome is Outcome.ROLLED_BACK else outcome
        left = replace(moved(bare, Status.ENDED, now_s), ended_at_s=now_s, outcome=kept, reason=told)
    else:
        left = moved(reweighed(bare, {}, now_s), Status.ROLLING_BACK, now_s)
    return Decision(state=left, verdict=Verdict.ROLL_BACK, reason=left.reason)


def paused(state: RolloutState, reason: str, now_s: float) -> Decision:
    """Stop as inconclusive; a person goes on from here."""
    stopped = moved(state, Status.PAUSED, now_s)
    stopped = replace(stopped, reason=reason, unsure_since_s=None, is_resumed=False, is_waived=False)
    return Decision(state=stopped, verdict=Verdict.INCONCLUSIVE, reason=reason)
