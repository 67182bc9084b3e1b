"""What a person may do to a rollout: promote, abort, pause, resume. Pure; each is idempotent, and a no-op when idle."""

from collections.abc import Sequence
from dataclasses import replace

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.rollout.machine import moved, stepped
from taxiway_serving.rollout.state import Outcome, RolloutState, Status
from taxiway_serving.rollout.steps import SetWeight, Step

VERBS = ("promote", "promote-full", "abort", "pause", "resume")


def act(plan: Sequence[Step], state: RolloutState, verb: str, *, actor: str, now_s: float) -> RolloutState:
    """Return the state after a person's command; the same state where there is nothing to do.

    Args:
        plan: The rollout's steps.
        state: As it stands.
        verb: One of `VERBS`. `promote` ends the current step, `promote-full` goes to the last weight.
        actor: Who says so, for the reason.
        now_s: Seconds since the epoch.

    Raises:
        InvalidSpecError: If there is no such verb.
    """
    if verb not in VERBS:
        raise InvalidSpecError((f"got {verb!r}; known are {', '.join(VERBS)}",), "rollout verb")
    if state.status in (Status.ENDED, Status.ROLLING_BACK):
        return state
    if verb == "abort":
        return _aborted(state, f"aborted by {actor}", now_s)
    if verb == "pause":
        return state if state.status is Status.PAUSED else _paused(state, f"paused by {actor}", now_s)
    if verb == "resume":
        return _resumed(state, f"resumed by {actor}", now_s) if state.status is Status.PAUSED else state
    return _promoted(plan, _resumed(state, f"promoted by {actor}", now_s), verb == "promote-full", now_s)


def _aborted(state: RolloutState, reason: str, now_s: float) -> RolloutState:
    left = replace(state, outcome=Outcome.ABORTED, reason=reason)
    if state.weight_pct == 0 or state.stable is None:
        return replace(moved(left, Status.ENDED, now_s), ended_at_s=now_s)
    return replace(moved(left, Status.ROLLING_BACK, now_s), weight_pct=0.0)


def _paused(state: RolloutState, reason: str, now_s: float) -> RolloutState:
    return replace(moved(state, Status.PAUSED, now_s), reason=reason)


def _resumed(state: RolloutState, reason: str, now_s: float) -> RolloutState:
    if state.status is not Status.PAUSED:
        return state
    began = state.step > 0 or state.weight_pct > 0
    status = Status.PROGRESSING if began else Status.PREPARING
    return replace(moved(state, status, now_s), reason=reason, is_resumed=True)


def _promoted(plan: Sequence[Step], state: RolloutState, is_full: bool, now_s: float) -> RolloutState:
    """Go to the next step. The weight of a step is never skipped: promotion is of the traffic, not of its record."""
    if state.status is Status.PREPARING:
        return state
    last = max(index for index, step in enumerate(plan) if isinstance(step, SetWeight))
    target = last if is_full else state.step + 1
    if target <= state.step or target >= len(plan):
        return state
    return stepped(plan, state, target, now_s, state.reason)
