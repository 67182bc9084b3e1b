"""What a person may do to a rollout. Pure; each is idempotent, and a no-op when idle."""

from collections.abc import Sequence
from dataclasses import replace

from taxiway_serving.errors import ConflictError, InvalidSpecError
from taxiway_serving.names import is_version
from taxiway_serving.rollout.cap import CAP
from taxiway_serving.rollout.exploring import leader_of
from taxiway_serving.rollout.judges import candidates_of
from taxiway_serving.rollout.losing import dropped, leave
from taxiway_serving.rollout.observation import key_of
from taxiway_serving.rollout.spec import MOST_CANDIDATES, SEVERAL, RolloutSpec
from taxiway_serving.rollout.state import Outcome, RolloutState, Status
from taxiway_serving.rollout.steps import SetHeaderRoute, SetWeight, Step
from taxiway_serving.rollout.walk import moved, stepped, weights_of
from taxiway_serving.rollout.weighing import reweighed

VERBS = ("promote", "promote-full", "abort", "pause", "resume", "add", "remove")
_TOLD = {"promote": "promoted", "promote-full": "promoted in full", "resume": "resumed"}


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
        version: The candidate of `add` and `remove`; of several candidates, the one to promote. None promotes the one
            that has earned most.

    Raises:
        InvalidSpecError: If there is no such verb, or it needs a version, or cannot have this one.
        ConflictError: If it would promote what has just been found to fail: only who has resumed it first wills that.
    """
    if verb not in VERBS:
        raise InvalidSpecError((f"got {verb!r}; known are {', '.join(VERBS)}",), "rollout verb")
    is_idle = state.status in (Status.ENDED, Status.ROLLING_BACK)
    if is_idle or (state.status is Status.QUEUED and verb != "abort"):
        return state
    if verb == "abort":
        return abandoned(state, Outcome.ABORTED, f"aborted by {actor}", now_s)
    if verb in ("add", "remove"):
        return _changed(spec, plan, state, verb, version, actor, now_s)
    if verb == "pause":
        return _paused(state, f"paused by {actor}", now_s)
    if verb in ("promote", "promote-full"):
        _check_sound(spec, state)
    reason = f"{_TOLD[verb]} by {actor}"
    resumed = _resumed(state, reason, now_s)
    return resumed if verb == "resume" else _promoted(spec, plan, resumed, verb, version, reason, now_s)


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


def _check_sound(spec: RolloutSpec, state: RolloutState) -> None:
    """Refuse to promote what waits for a person because it fails; he may not have heard of it yet.

    Raises:
        ConflictError: If a judge of a candidate has paused the rollout.
    """
    judges = tuple(key_of(version, "") for version in candidates_of(spec, state))
    if state.status is Status.PAUSED and any(key.startswith(judges) for key in state.failed):
        next_step = "abort it, or resume it and then promote: its evidence begins anew"
        raise ConflictError(f"rollout {spec.id}", state.reason, next_step)


def _resumed(state: RolloutState, reason: str, now_s: float) -> RolloutState:
    """Go on. What has paused the rollout begins anew, and a cap that was reached is lifted: a person has looked."""
    if state.status is not Status.PAUSED:
        return state
    has_begun = state.step > 0 or bool(state.weights or state.header or state.mirror_pct)
    status = Status.PROGRESSING if has_begun else Status.PREPARING
    guards = {key: terms for key, terms in state.guards.items() if key not in state.failed}
    return replace(
        moved(state, status, now_s),
        reason=reason,
        is_resumed=True,
        unsure_since_s=None,
        guards=guards,
        failed=(),
        is_open=state.is_open or CAP in state.failed,
        is_closed=False,
    )


def _promoted(
    spec: RolloutSpec,
    plan: Sequence[Step],
    state: RolloutState,
    verb: str,
    version: int | None,
    reason: str,
    now_s: float,
) -> RolloutState:
    """Go to the next step. The weight of a step is never skipped: promotion is of the traffic, not of its record."""
    if state.status is Status.PREPARING:
        return state
    weighty = [index for index, step in enumerate(plan) if isinstance(step, SetWeight)]
    last = max(weighty, default=len(plan) - 1)
    target = last if verb == "promote-full" else state.step + 1
    if target <= state.step:
        return state
    if target >= len(plan):
        # The last step ends at a look at which all is seen, never by word alone.
        return state if state.is_waived else replace(state, is_waived=True, reason=reason)
    named = _with_winner(spec, plan, state, target, version)
    is_fast = named.is_fast or verb == "promote-full"
    return stepped(spec, plan, replace(named, is_fast=is_fast), target, now_s, reason)


def _with_winner(
    spec: RolloutSpec, plan: Sequence[Step], state: RolloutState, target: int, version: int | None
) -> RolloutState:
    """Return the state with the candidate named that is to have all the traffic, where several might."""
    step, versions = plan[target], candidates_of(spec, state)
    if version is not None and version not in versions:
        raise InvalidSpecError((f"got version {version}; the candidates are {list(versions)}",), "promote")
    is_last = isinstance(step, SetWeight) and step.weight_pct >= 100
    if not is_last or state.winner is not None or spec.strategy not in SEVERAL:
        return state
    winner = version if version is not None else leader_of(state, versions)
    if winner is None:
        fault = (
            f"nothing is known yet of the candidates {list(versions)}; say which version is to be promoted"
        )
        raise InvalidSpecError((fault,), "promote")
    return replace(state, winner=winner)


def _changed(
    spec: RolloutSpec,
    plan: Sequence[Step],
    state: RolloutState,
    verb: str,
    version: int | None,
    actor: str,
    now_s: float,
) -> RolloutState:
    if not is_version(version) or version is None:
        raise InvalidSpecError((f"{verb} needs a version, got {version!r}",), "rollout verb")
    if spec.strategy not in SEVERAL:
        fault = f"{verb}: {spec.strategy} brings one version; {' and '.join(SEVERAL)} bring several"
        raise InvalidSpecError((fault,), "rollout verb")
    versions = candidates_of(spec, state)
    if verb == "remove":
        if version not in versions:
            return state
        if len(versions) == 1:
            fault = f"{version} is the last candidate; abort the rollout instead"
            raise InvalidSpecError((fault,), "rollout verb")
        return dropped(state, {version: f"removed by {actor}"}, now_s).state
    if version in versions or version in (state.stable, state.winner):
        return state
    _check_addition(spec, plan, state, version)
    return _added(spec, plan, state, version, actor, now_s)


def _check_addition(spec: RolloutSpec, plan: Sequence[Step], state: RolloutState, version: int) -> None:
    """Refuse a candidate that could never meet anybody.

    Raises:
        InvalidSpecError: If the winner is named, the shares are fixed, or there are too many candidates.
    """
    faults = []
    if state.winner is not None:
        faults.append(f"version {state.winner} has won already; bring {version} by a rollout of its own")
    if any(
        isinstance(step, SetHeaderRoute) or (isinstance(step, SetWeight) and step.weights) for step in plan
    ):
        faults.append("its candidates have fixed shares; begin another experiment")
    if (
        version not in (*spec.versions, *state.added)
        and len(spec.versions) + len(state.added) >= MOST_CANDIDATES
    ):
        faults.append(f"{MOST_CANDIDATES} candidates are as many as there may be")
    if faults:
        raise InvalidSpecError(tuple(f"add: {fault}" for fault in faults), "rollout verb")


def _added(
    spec: RolloutSpec, plan: Sequence[Step], state: RolloutState, version: int, actor: str, now_s: float
) -> RolloutState:
    """Let a candidate join, or come back. Its guards begin anew: a person has looked. What it earned stays known."""
    is_known = version in (*spec.versions, *state.added)
    prefix = f"{version}/"
    joined = replace(
        state,
        added=state.added if is_known else (*state.added, version),
        dropped={each: why for each, why in state.dropped.items() if each != version},
        guards={key: terms for key, terms in state.guards.items() if not key.startswith(prefix)},
        restarts={each: number for each, number in state.restarts.items() if each != version},
        reason=f"version {version} added by {actor}",
    )
    if spec.strategy != "ab" or not joined.weights:
        return joined
    # An exploration gives it a share at its next update; an experiment has only this moment.
    share = next(step for step in plan[: state.step + 1] if isinstance(step, SetWeight))
    return reweighed(joined, weights_of(spec, share, joined), now_s)
