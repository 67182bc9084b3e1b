"""What the controller shows of itself, as plain JSON values. Reads only."""

from dataclasses import asdict
from typing import Any

from taxiway_serving.controller.looking import World
from taxiway_serving.controller.ordering import is_older
from taxiway_serving.ledger.store import Endpoint, Fleet, Rollout, Variant, Wish
from taxiway_serving.names import VariantId
from taxiway_serving.rollout.machine import readings_of
from taxiway_serving.rollout.observation import Rewards
from taxiway_serving.rollout.plans import step_to_json
from taxiway_serving.rollout.state import phase
from taxiway_serving.rollout.steps import Experiment, Explore
from taxiway_serving.runtimes.runtime import VariantState
from taxiway_serving.split import Split
from taxiway_serving.statistics import thompson
from taxiway_serving.statistics.posterior import Arm, RewardKind, interval


def endpoint_view(
    endpoint: Endpoint, fleet: Fleet, world: World, *, latest: Rollout | None, gateway_url: str, now_s: float
) -> dict[str, Any]:
    """Return one endpoint: what is wanted, what is seen, and its rollout."""
    handle = endpoint.handle
    seen = world.splits.get(handle)
    return {
        "handle": handle,
        "url": f"{gateway_url}/{handle}",
        "stable": endpoint.stable,
        "previous": endpoint.previous,
        "phase": phase(latest.state, now_s) if latest else "Healthy" if endpoint.stable else "Progressing",
        "split": {
            "desired": _split(endpoint.split),
            "observed": _split(seen),
            "is_known": handle in world.splits,
        },
        "variants": {
            str(variant.version): variant_view(variant, world) for variant in fleet.variants_of(handle)
        },
        "rollout": rollout_view(latest, now_s) if latest else None,
    }


def variant_view(variant: Variant, world: World) -> dict[str, Any]:
    """Return one variant: what is wanted of it and what the runtime sees."""
    seen = world.variants.get(VariantId(handle=variant.handle, version=variant.version))
    return {
        "version": variant.version,
        "model": variant.spec["model"],
        "wish": variant.wish.value,
        "phase": _phase(variant, seen),
        "host": seen.host if seen else "",
        "port": seen.port if seen else 0,
        "pid": seen.pid if seen else None,
        "restarts": seen.restarts if seen else 0,
        "reason": seen.reason if seen else "",
    }


def _phase(variant: Variant, seen: VariantState | None) -> str:
    """A failure from before the variant was asked for (once more) is not this asking's answer."""
    if variant.wish is Wish.STOPPED:
        return "stopped"
    if seen is None or (seen.phase in ("failed", "stopped") and is_older(seen, variant)):
        return "starting"
    return seen.phase


def rollout_view(rollout: Rollout, now_s: float) -> dict[str, Any]:
    """Return one rollout: where it stands, why, and on what evidence."""
    spec, state = rollout.spec, rollout.state
    errors = [counts for key, counts in state.totals.items() if key.endswith("/errors")]
    return {
        "id": spec.id,
        "handle": spec.handle,
        "version": spec.version,
        "rivals": [*spec.rivals, *state.added],
        "stable": state.stable,
        "strategy": spec.strategy,
        "phase": phase(state, now_s),
        "status": state.status.value,
        "outcome": state.outcome.value if state.outcome else None,
        "step": state.step,
        "steps": [step_to_json(step) for step in rollout.plan],
        "weight_pct": state.weight_pct,
        "weights": {str(version): pct for version, pct in state.weights.items()},
        "winner": state.winner,
        "dropped": {str(version): why for version, why in state.dropped.items()},
        "is_closed": state.is_closed,
        "reason": state.reason,
        "units": {
            "canary": state.exposed,
            "bad": sum(counts.bad_canary for counts in errors),
            "at_step": sum(state.at_step.values()),
        },
        "arms": arms_view(rollout),
        "comparison": {str(version): asdict(seen) for version, seen in state.compared.items()},
        "evidence": [reading.to_json() for reading in readings_of(spec, rollout.plan, state)],
        "group": spec.group.name if spec.group else None,
        "actor": spec.actor,
        "started_at_s": state.started_at_s,
        "ended_at_s": state.ended_at_s,
        "first_bad_at_s": state.first_bad_at_s,
        "rolled_back_at_s": state.rolled_back_at_s,
    }


def arms_view(rollout: Rollout) -> dict[str, Any]:
    """Return what each arm of an experiment is known to earn; empty where nothing is earned."""
    state = rollout.state
    if not state.arms:
        return {}
    kind: RewardKind = "binary"
    for step in rollout.plan:
        if isinstance(step, Explore | Experiment):
            kind = step.reward_kind
    names = list(state.arms)
    arms = [state.arms[name] for name in names]
    chances = thompson.weights(arms, kind=kind, floor=0.0)
    return {
        str(name): {
            "exposures": state.rewards.get(name, Rewards()).exposures,
            "credited": arm.exposures,
            "total": arm.total,
            "mean": arm.mean,
            **_interval(arm, kind),
            "p_best": chance,
            "pending": state.rewards.get(name, Rewards()).pending,
            "weight_pct": state.weights.get(name, 100 - state.weight_pct if name == state.stable else 0.0),
        }
        for name, arm, chance in zip(names, arms, chances, strict=True)
    }


def _interval(arm: Arm, kind: RewardKind) -> dict[str, float | None]:
    """Return where the mean lies with 95 %; nothing is known before the first exposure."""
    low, high = interval(arm, kind) or (None, None)
    return {"low": low, "high": high}


def _split(split: Split | None) -> dict[str, float] | None:
    return {str(version): split.weight_pct(version) for version in split.parts} if split else None
