"""How a rollout learns from rewards: an exploration's next weights and its winner, an experiment's arms. Pure.

What the rewards of an arm come to is counted elsewhere; here they are sums that grow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor

import numpy as np

from taxiway_serving.feedback import SESSION_S
from taxiway_serving.rollout.observation import NO_REWARDS, Observation, Rewards
from taxiway_serving.rollout.state import RolloutState
from taxiway_serving.rollout.steps import Experiment, Explore
from taxiway_serving.rollout.weighing import in_parts, reweighed
from taxiway_serving.split import TOTAL_PARTS
from taxiway_serving.statistics import baselines, stopping, thompson
from taxiway_serving.statistics.posterior import Arm, posterior

MISSED = 5.0
"""So many rewards must be missing before silence says that they are lost rather than rare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explored:
    """What one look at the rewards leads to.

    Attributes:
        state: With the arms brought up to date, and perhaps new weights or a winner.
        reason: In words.
        has_moved: Whether the weights are new.
        is_done: Whether there is a winner.
    """

    state: RolloutState
    reason: str
    has_moved: bool = False
    is_done: bool = False


def explore(
    step: Explore, state: RolloutState, seen: Observation, versions: tuple[int, ...], now_s: float
) -> Explored:
    """Return the exploration after a look: new weights when an update is due, a winner when one is sure.

    Without a new reward nothing is learned and nothing moves: exposures whose rewards got lost would look like
    failures, and most of all those of the arm with most traffic. When rewards come back after a silence, what was
    shown meanwhile is left out; the very first ones end no silence, and count from the beginning.

    Args:
        step: The exploration.
        state: As it stands.
        seen: With what every arm has earned so far.
        versions: The candidates that are not out.
        now_s: Seconds since the epoch.
    """
    since_s = max(state.updated_at_s, state.entered_at_s)
    if now_s - since_s < step.update_s:
        return Explored(state=state, reason=state.reason)
    names = _names(state, versions)
    thought = replace(state, updated_at_s=now_s)
    if not _has_news(state, seen):
        if _is_silent(step, state, seen, now_s):
            reason = f"no reward for {step.silence_s:g} s: the split stays at its last good weights"
            return Explored(state=replace(thought, is_frozen=True), reason=reason)
        arms = {name: state.arms.get(name, Arm()) for name in names} | _aged(step, state, now_s - since_s)
        reason = state.reason if state.arms else "waits for the first rewards"
        return Explored(state=replace(thought, arms=arms), reason=reason)
    known = {**state.rewards, **seen.rewards}
    if state.is_frozen and any(_is_earning(arm) for arm in state.arms.values()):
        back = replace(thought, rewards=known, is_frozen=False)
        return Explored(state=back, reason="rewards are back; what was shown meanwhile is left out")
    aged = replace(thought, arms=_aged(step, state, now_s - since_s), is_frozen=False)
    arms = {**aged.arms, **_with_news(aged, seen, names)}
    return _weighed(step, replace(aged, arms=arms, rewards=known), names, now_s)


def experiment(
    step: Experiment, state: RolloutState, seen: Observation, versions: tuple[int, ...], now_s: float
) -> Explored:
    """Return the experiment after a look: done when each candidate has its units, or its time is over.

    The rewards of the last units are waited for as long as they count.

    Args:
        step: The experiment.
        state: As it stands.
        seen: With what every arm has earned so far.
        versions: The candidates that are not out.
        now_s: Seconds since the epoch.
    """
    if seen.rewards:
        arms = {**state.arms, **_with_news(state, seen, _names(state, versions))}
        state = replace(state, arms=arms, rewards={**state.rewards, **seen.rewards})
    missing = [version for version in versions if state.at_step.get(version, 0) < step.units]
    if missing and now_s - state.entered_at_s <= step.deadline_s:
        told = ", ".join(f"version {v}: {state.at_step.get(v, 0)} of {step.units} units" for v in missing)
        is_growing = any(seen.errors(version).met for version in versions)
        counted = replace(state, updated_at_s=now_s) if is_growing else state
        return Explored(state=counted, reason=f"too little evidence: {told}")
    open_s = _whole_after_s(step) - (now_s - state.updated_at_s) if step.metric and not missing else 0.0
    if open_s > 0:
        return Explored(state=state, reason="waits for the rewards of the last units")
    ended = "the experiment's time is over" if missing else "the experiment has its units"
    return Explored(state=state, reason=ended, is_done=True)


def _whole_after_s(step: Experiment) -> float:
    """Return the seconds after which a request's value is whole: the largest and the sum once its session is over."""
    return step.window_s if step.how == "first" else step.window_s + SESSION_S


def leader_of(state: RolloutState, versions: Sequence[int]) -> int | None:
    """Return the version that has earned most for each exposure so far; None where nothing is known of several."""
    if len(versions) == 1:
        return versions[0]
    known = [version for version in versions if state.arms.get(version, Arm()).exposures > 0]
    return max(known, key=lambda version: state.arms[version].mean, default=None)


def _names(state: RolloutState, versions: tuple[int, ...]) -> tuple[int, ...]:
    return (*versions, state.stable) if state.stable is not None else versions


def _is_earning(arm: Arm) -> bool:
    return bool(arm.total or arm.squares)


def _has_news(state: RolloutState, seen: Observation) -> bool:
    """Return whether any arm has a reward that it had not before."""
    return any(
        _earned(rewards) != _earned(state.rewards.get(name, NO_REWARDS))
        for name, rewards in seen.rewards.items()
    )


def _earned(rewards: Rewards) -> tuple[float, float, float | None]:
    return rewards.total, rewards.squares, rewards.last_at_s


def _is_silent(step: Explore, state: RolloutState, seen: Observation, now_s: float) -> bool:
    """Return whether rewards have stopped coming, though some were to be expected.

    Reading silence as failure would follow whoever fell silent last.
    """
    latest = {**state.rewards, **seen.rewards}
    times = [rewards.last_at_s for rewards in latest.values() if rewards.last_at_s is not None]
    if now_s - max([*times, state.entered_at_s]) <= step.silence_s:
        return False
    exposures = sum(arm.exposures for arm in state.arms.values())
    total = sum(arm.total for arm in state.arms.values())
    if step.reward_kind == "continuous" or not exposures or not total:
        return True
    unanswered = sum(
        rewards.credited - state.rewards.get(name, NO_REWARDS).credited
        for name, rewards in seen.rewards.items()
    )
    return unanswered * total / exposures >= MISSED


def _aged(step: Explore, state: RolloutState, dt_s: float) -> dict[int, Arm]:
    """Return the arms with older evidence counting less; those that are out age as well."""
    if step.half_life_s is None or state.is_frozen:
        return dict(state.arms)
    factor = 0.5 ** (dt_s / step.half_life_s)
    return {name: arm.discounted(factor) for name, arm in state.arms.items()}


def _with_news(state: RolloutState, seen: Observation, names: Sequence[int]) -> dict[int, Arm]:
    """Return the arms with what they have earned since the last update. A sum that was corrected is corrected here."""
    found = {}
    for name in names:
        arm, before = state.arms.get(name, Arm()), state.rewards.get(name, NO_REWARDS)
        after = seen.rewards.get(name, before)
        found[name] = Arm(
            exposures=max(0.0, arm.exposures + after.credited - before.credited),
            total=arm.total + after.total - before.total,
            squares=max(0.0, arm.squares + after.squares - before.squares),
        )
    return found


def _weighed(step: Explore, state: RolloutState, names: tuple[int, ...], now_s: float) -> Explored:
    arms = [_sound(step, state.arms[name]) for name in names]
    is_known = _known(step, arms, [state.rewards.get(name, NO_REWARDS) for name in names])
    shares = _shares(step, arms, is_known)
    told = "; ".join(
        f"version {name} earns {arm.mean:.4g}, {share:.1%}"
        for name, arm, share in zip(names, arms, shares, strict=True)
    )
    few = [name for name, known in zip(names, is_known, strict=True) if not known]
    if few:
        which = ", ".join(f"version {name}" for name in few)
        told = f"{told}; too little is known yet of {which}: an even share"
    elif winner := _winner(step, state, arms, names, now_s):
        named = replace(state, winner=winner)
        return Explored(state=named, reason=f"version {winner} wins: {told}", is_done=True)
    weights = dict(zip(names, shares, strict=True))
    return _moved(step, state, weights, told, now_s)


def _sound(step: Explore, arm: Arm) -> Arm:
    """Successes are never below zero, whatever a correction took away."""
    return replace(arm, total=max(0.0, arm.total)) if step.reward_kind == "binary" else arm


def _known(step: Explore, arms: Sequence[Arm], rewards: Sequence[Rewards]) -> list[bool]:
    """Return of which arms enough is known to leave even shares.

    An arm that never earns would wait for its first successes for ever. It is known as soon as an arm like the others
    would have had them.
    """
    exposures = sum(arm.exposures for arm in arms)
    pooled = sum(arm.total for arm in arms) / exposures if exposures else 0.0
    found = []
    for each in rewards:
        is_seen = each.exposures >= step.min_units
        is_rich = max(each.total, each.credited * pooled) >= step.min_successes
        found.append(is_seen and (is_rich or step.reward_kind == "continuous"))
    return found


def _shares(step: Explore, arms: Sequence[Arm], is_known: Sequence[bool]) -> list[float]:
    """Return each arm's share: an even one for those of which too little is known, the others by what they earn."""
    known = [arm for arm, is_one in zip(arms, is_known, strict=True) if is_one]
    even = 1 / len(arms)
    room = even * len(known)
    least = thompson.default_floor(len(arms)) if step.floor is None else step.floor
    earned = iter(_earned_shares(step, known, min(least, 0.5 / len(arms)) / room) if known else [])
    return [room * next(earned) if is_one else even for is_one in is_known]


def _earned_shares(step: Explore, arms: Sequence[Arm], floor: float) -> list[float]:
    if step.algorithm == "thompson":
        return list(thompson.weights(arms, kind=step.reward_kind, floor=floor))
    is_greedy = step.algorithm == "epsilon_greedy"
    shares = baselines.epsilon_greedy(arms, step.epsilon) if is_greedy else baselines.ucb(arms)
    return [float(share) for share in thompson.floored(shares, floor)]


def _moved(
    step: Explore, state: RolloutState, shares: Mapping[int, float], reason: str, now_s: float
) -> Explored:
    """Set the candidates' weights, none above the step's maximum; stable takes what is left."""
    # Whole parts of 10,000, so that no rounding goes above it.
    most = floor(round(step.max_weight_pct * 100, 6)) / TOTAL_PARTS
    candidates = {name: min(most, share) for name, share in shares.items() if name != state.stable}
    weights = dict(zip(candidates, in_parts([*candidates.values()]), strict=True))
    moved = reweighed(state, weights, now_s)
    return Explored(
        state=replace(moved, reason=reason), reason=reason, has_moved=moved.weights != state.weights
    )


def _winner(
    step: Explore, state: RolloutState, arms: Sequence[Arm], names: tuple[int, ...], now_s: float
) -> int | None:
    """Return the arm that is surely the best, once hardly anything more can be gained; None goes on."""
    if now_s - state.entered_at_s < step.min_s or len(names) < 2:
        return None
    control = names.index(state.stable) if state.stable in names else 0
    seen = [arm.total if step.reward_kind == "binary" else arm.exposures for arm in arms]
    # The integrals cost milliseconds: most explorations are over long before they are worth it.
    if min(max(seen), seen[control]) < stopping.DEFAULT_RULE.successes:
        return None
    known = posterior(arms, step.reward_kind)
    is_decided = bool(stopping.holds(known, np.array(seen), control=control))
    return names[int(known.means.argmax())] if is_decided else None
