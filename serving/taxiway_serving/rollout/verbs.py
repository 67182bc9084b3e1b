"""What a person may do to a rollout. Pure; each is idempotent, and a no-op when idle."""

from collections.abc import Sequence
from dataclasses import replace

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.names import is_version
from taxiway_serving.rollout.exploring import reweighed
from taxiway_serving.rollout.judges import candidates_of
from taxiway_serving.rollout.machine import leave
from taxiway_serving.rollout.spec import SEVERAL, RolloutSpec
from taxiway_serving.rollout.state import Outcome, RolloutState, Status
from taxiway_serving.rollout.steps import SetWeight, Step
from taxiway_serving.rollout.walk import moved, stepped

VERBS = ("promote", "promote-full", "abort", "pause", "resume", "add", "remove")


def act(
    spec: RolloutSpec,
    plan: Sequence[Step],
    state: RolloutState,
    verb: str,
    *,
    actor: str,
    now_s: float,
    version: int | None = None,
) -> RolloutState:
    """Return the state after a person's command; the same state where there is nothing to do.

    Args:
        spec: The rollout.
        plan: Its steps.
        state: As it stands.
        verb: One of `VERBS`. `promote` ends the current step, `promote-full` goes to the last weight; `add` and
            `remove` let a candidate of an experiment come and go.
        actor: Who says so, for the reason.
        now_s: Seconds since the epoch.
        version: The candidate of `add` and `remove`.

    Raises:
        InvalidSpecError: If there is no such verb, or it needs a version.
    """
    if verb not in VERBS:
        raise InvalidSpecError((f"got {verb!r}; known are {', '.join(VERBS)}",), "rollout verb")
    is_idle = state.status in (Status.ENDED, Status.ROLLING_BACK)
    if is_idle or (state.status is Status.QUEUED and verb != "abort"):
        return state
    if verb == "abort":
        return abandoned(state, Outcome.ABORTED, f"aborted by {actor}", now_s)
    if verb in ("add", "remove"):
        return _changed(spec, state, verb, version, actor, now_s)
    if verb == "pause":
        return _paused(state, f"paused by {actor}", now_s)
    resumed = _resumed(state, f"{verb.split('-', maxsplit=1)[0]}d by {actor}", now_s)
    return resumed if verb == "resume" else _promoted(spec, plan, resumed, verb, now_s)


def abandoned(state: RolloutState, outcome: Outcome, reason: str, now_s: float) -> RolloutState:
    """Return the state of a rollout that is given up: aborted, or superseded by another."""
    if state.status is Status.QUEUED:
        ended = moved(state, Status.ENDED, now_s)
        return replace(ended, outcome=outcome, reason=reason, ended_at_s=now_s)
    return leave(state, outcome, reason, now_s).state


def _paused(state: RolloutState, reason: str, now_s: float) -> RolloutState:
    if state.status is Status.PAUSED:
        return state
    return replace(moved(state, Status.PAUSED, now_s), reason=reason)


def _resumed(state: RolloutState, reason: str, now_s: float) -> RolloutState:
    """Go on. What has paused the rollout begins anew, and a cap that was reached is lifted: a person has looked."""
    if state.status is not Status.PAUSED:
        return state
    began = state.step > 0 or state.weight_pct > 0
    status = Status.PROGRESSING if began else Status.PREPARING
    guards = {key: terms for key, terms in state.guards.items() if key not in state.failed}
    return replace(
        moved(state, status, now_s),
        reason=reason,
        is_resumed=True,
        guards=guards,
        failed=(),
        is_open=state.is_open or state.is_closed,
        is_closed=False,
    )


def _promoted(
    spec: RolloutSpec, plan: Sequence[Step], state: RolloutState, verb: str, now_s: float
) -> RolloutState:
    """Go to the next step. The weight of a step is never skipped: promotion is of the traffic, not of its record."""
    if state.status is Status.PREPARING:
        return state
    weighty = [index for index, step in enumerate(plan) if isinstance(step, SetWeight)]
    last = max(weighty, default=len(plan) - 1)
    target = last if verb == "promote-full" else state.step + 1
    if target <= state.step or target >= len(plan):
        return state
    is_fast = state.is_fast or verb == "promote-full"
    return stepped(spec, plan, replace(state, is_fast=is_fast), target, now_s, state.reason)


def _changed(
    spec: RolloutSpec, state: RolloutState, verb: str, version: int | None, actor: str, now_s: float
) -> RolloutState:
    """Let a candidate come or go. One that comes starts with no evidence; one that goes leaves its own behind."""
    if not is_version(version) or version is None:
        raise InvalidSpecError((f"{verb} needs a version, got {version!r}",), "rollout verb")
    if spec.strategy not in SEVERAL:
        fault = f"{verb}: {spec.strategy} brings one version; {' and '.join(SEVERAL)} bring several"
        raise InvalidSpecError((fault,), "rollout verb")
    versions = candidates_of(spec, state)
    if verb == "add":
        if version in versions or version == state.stable:
            return state
        added = state.added if version in (*state.added, *spec.versions) else (*state.added, version)
        dropped = {each: why for each, why in state.dropped.items() if each != version}
        return replace(state, added=added, dropped=dropped, reason=f"version {version} added by {actor}")
    if version not in versions:
        return state
    if len(versions) == 1:
        raise InvalidSpecError(
            (f"{version} is the last candidate; abort the rollout instead",), "rollout verb"
        )
    dropped = {**state.dropped, version: f"removed by {actor}"}
    weights = {each: pct for each, pct in state.weights.items() if each != version}
    left = replace(state, dropped=dropped, reason=f"version {version} removed by {actor}")
    return reweighed(left, weights, now_s)
