"""How a rollout learns from rewards: an exploration's next weights and its winner, an experiment's winner. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from taxiway_serving.rollout.observation import Observation, Rewards
from taxiway_serving.rollout.state import RolloutState
from taxiway_serving.rollout.steps import Experiment, Explore
from taxiway_serving.statistics import baselines, thompson
from taxiway_serving.statistics.posterior import Arm

SURE = 0.95
"""Probability of being the best that a winner needs."""
LITTLE = 0.01
"""Relative gain that may still be missed, at 95 %, when an exploration stops."""
WINNING_SUCCESSES = 40
"""Rewards that winner and control need before an exploration stops."""


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
    if _is_silent(step, state, seen, now_s):
        reason = f"no reward for {step.silence_s:g} s: the split stays at its last good weights"
        return Explored(state=replace(state, is_frozen=True), reason=reason)
    names = (*versions, state.stable) if state.stable else versions
    arms = aged(state, seen, names, half_life_s=step.half_life_s, dt_s=now_s - since_s)
    learned = replace(state, arms=arms, rewards={**state.rewards, **seen.rewards}, updated_at_s=now_s)
    learned = replace(learned, is_frozen=False)
    return _weighed(step, learned, names, now_s)


def _is_silent(step: Explore, state: RolloutState, seen: Observation, now_s: float) -> bool:
    """Rewards that stop say nothing of the arms: reading silence as failure would follow whoever fell silent last."""
    times = [rewards.last_at_s for rewards in seen.rewards.values() if rewards.last_at_s is not None]
    return now_s - max([*times, state.entered_at_s]) > step.silence_s


def aged(
    state: RolloutState, seen: Observation, names: tuple[int, ...], *, half_life_s: float | None, dt_s: float
) -> dict[int, Arm]:
    """Return the arms with what they earned since the last update, older evidence counting less."""
    factor = 1.0 if half_life_s is None else 0.5 ** (dt_s / half_life_s)
    return {
        name: state.arms.get(name, Arm()).discounted(factor)
        + earned(state.rewards.get(name, Rewards()), seen.rewards.get(name, Rewards()))
        for name in names
    }


def earned(before: Rewards, after: Rewards) -> Arm:
    """Return what an arm has earned between two looks. A sum that shrank (a correction) counts as nothing new."""
    return Arm(
        exposures=max(0.0, after.credited - before.credited),
        total=max(0.0, after.total - before.total),
        squares=max(0.0, after.squares - before.squares),
    )


def _weighed(step: Explore, state: RolloutState, names: tuple[int, ...], now_s: float) -> Explored:
    arms = [state.arms[name] for name in names]
    few = [name for name in names if _is_little_known(step, state.rewards.get(name, Rewards()))]
    if few:
        known = ", ".join(
            f"version {name}: {state.rewards.get(name, Rewards()).exposures} exposures" for name in few
        )
        shares = [1 / len(names)] * len(names)
        reason = f"even shares until each arm has {step.min_units} exposures; too few: {known}"
        return _moved(step, state, names, shares, reason, now_s)
    shares = _shares(step, arms)
    reason = "; ".join(
        f"version {name} earns {arm.mean:.4g}, {share:.0%}"
        for name, arm, share in zip(names, arms, shares, strict=True)
    )
    if winner := _winner(step, state, names, now_s):
        named = replace(state, winner=winner)
        return Explored(state=named, reason=f"version {winner} wins: {reason}", is_done=True)
    return _moved(step, state, names, shares, reason, now_s)


def _is_little_known(step: Explore, rewards: Rewards) -> bool:
    return rewards.exposures < step.min_units or (
        step.reward_kind == "binary" and rewards.total < step.min_successes
    )


def _shares(step: Explore, arms: list[Arm]) -> list[float]:
    most = 1.0
    if step.algorithm == "epsilon_greedy":
        shares = baselines.epsilon_greedy(arms, step.epsilon)
    elif step.algorithm == "ucb":
        shares = baselines.ucb(arms)
    else:
        return list(thompson.weights(arms, kind=step.reward_kind, floor=_floor(step, len(arms)), most=most))
    return [float(share) for share in thompson.floored(shares, _floor(step, len(arms)), most)]


def _floor(step: Explore, arms: int) -> float:
    return min(step.floor, 0.5 / arms)


def _moved(
    step: Explore,
    state: RolloutState,
    names: tuple[int, ...],
    shares: list[float],
    reason: str,
    now_s: float,
) -> Explored:
    """Set the candidates' weights, none above the step's maximum; stable takes what is left."""
    weights = {
        name: min(step.max_weight_pct, round(100 * share, 2))
        for name, share in zip(names, shares, strict=True)
        if name != state.stable
    }
    has_moved = weights != state.weights
    moved = reweighed(state, weights, now_s) if has_moved else state
    return Explored(state=replace(moved, reason=reason), reason=reason, has_moved=has_moved)


def reweighed(state: RolloutState, weights: Mapping[int, float], now_s: float) -> RolloutState:
    """Return the state with other weights, and the ones before remembered for the requests that are under way."""
    kept = {version: pct for version, pct in weights.items() if pct > 0}
    if kept == state.weights:
        return state
    return replace(state, weights=kept, before=state.weights, weighed_at_s=now_s)


def _winner(step: Explore, state: RolloutState, names: tuple[int, ...], now_s: float) -> int | None:
    """Return the arm that is surely the best, once hardly anything more can be gained; None goes on."""
    if now_s - state.entered_at_s < step.min_s or len(names) < 2:
        return None
    arms = [state.arms[name] for name in names]
    chances = thompson.weights(arms, kind=step.reward_kind, floor=0.0)
    place = max(range(len(names)), key=lambda index: chances[index])
    compared = {names[place], state.stable} if state.stable else {names[place]}
    is_rich = all(_successes(step, state.rewards[name]) >= WINNING_SUCCESSES for name in compared)
    if chances[place] < SURE or not is_rich:
        return None
    remaining = thompson.value_remaining(arms, kind=step.reward_kind, best=place)
    return names[place] if remaining <= LITTLE else None


def _successes(step: Explore, rewards: Rewards) -> float:
    return rewards.total if step.reward_kind == "binary" else rewards.credited


def experiment(
    step: Experiment, state: RolloutState, seen: Observation, versions: tuple[int, ...], now_s: float
) -> Explored:
    """Return the experiment after a look: done when each candidate has its units, with a winner if one is proven.

    Args:
        step: The experiment.
        state: As it stands.
        seen: With what every arm has earned so far.
        versions: The candidates that are not out.
        now_s: Seconds since the epoch.
    """
    names = (*versions, state.stable) if state.stable else versions
    arms = aged(state, seen, names, half_life_s=None, dt_s=0.0)
    learned = replace(state, arms=arms, rewards={**state.rewards, **seen.rewards})
    missing = {
        name: state.at_step.get(name, 0) for name in versions if state.at_step.get(name, 0) < step.units
    }
    is_over = now_s - state.entered_at_s > step.deadline_s
    if missing and not is_over:
        told = ", ".join(f"version {name}: {units} of {step.units} units" for name, units in missing.items())
        return Explored(state=learned, reason=f"too little evidence: {told}")
    return Explored(state=learned, reason="the experiment has its units", is_done=True)
