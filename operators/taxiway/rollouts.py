"""What a rollout's end means to who asked for it. Pure: views of the controller in, results and errors out."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taxiway.errors import RolledBackError, RolloutEndedError, SupersededError

PROMOTED = frozenset({"Promoted", "FastPromoted"})
COMPLETED = "Completed"
_REPORTED = ("weights", "winner", "arms", "comparison", "dropped", "units", "evidence")
_ENDINGS = {"RolledBack": RolledBackError, "Superseded": SupersededError}


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutResult:
    """A rollout that did what it was asked for.

    Attributes:
        handle: The handle.
        version: The version that won the traffic; the one that stays live after an experiment; the candidate while
            the rollout goes on.
        rollout_id: The rollout's id.
        outcome: `Promoted`, `FastPromoted` or `Completed`; None while it goes on.
        phase: `Healthy` at a good end, `Paused` at a gate.
        reason: Why, in the controller's words.
        step: Place of the step that it is at, from 0: what `promote` is to end.
        previous: The version that was live when it began, or None for a first deployment.
        started_at_s: When it began, seconds since the epoch.
        ended_at_s: When it ended.
        report: What was measured: weights, arms, comparison, evidence.
    """

    handle: str
    version: int
    rollout_id: str
    outcome: str | None
    phase: str
    reason: str
    step: int = 0
    previous: int | None = None
    started_at_s: float | None = None
    ended_at_s: float | None = None
    report: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a look at an endpoint found.

    Attributes:
        is_reached: Whether everything that was asked for holds.
        reason: What stands there, in words.
        live: The version that is live.
        view: The rollout or the endpoint as the controller shows it.
    """

    is_reached: bool
    reason: str
    live: int | None = None
    view: Mapping[str, Any] = field(default_factory=dict)


def result_of(seen: Mapping[str, Any]) -> RolloutResult:
    """Return the result of a rollout that goes on, promoted its version, or completed its experiment.

    Raises:
        RolloutEndedError: If it ended otherwise, in the class that says how.
    """
    outcome = seen["outcome"] if seen["status"] == "ended" else None
    if outcome is not None and outcome not in PROMOTED and outcome != COMPLETED:
        raise ending(seen)
    winner = seen.get("winner") if outcome in PROMOTED else None
    stays = seen["stable"] if outcome == COMPLETED else None
    return RolloutResult(
        handle=seen["handle"],
        version=winner or stays or seen["version"],
        rollout_id=seen["id"],
        outcome=outcome,
        phase=seen["phase"],
        reason=seen["reason"],
        step=seen["step"],
        previous=seen["stable"],
        started_at_s=seen["started_at_s"],
        ended_at_s=seen["ended_at_s"],
        report={name: seen[name] for name in _REPORTED if seen.get(name)},
    )


def ending(seen: Mapping[str, Any]) -> RolloutEndedError:
    """Return the error that a rollout's bad end is."""
    kind = _ENDINGS.get(seen["outcome"], RolloutEndedError)
    return kind(seen["handle"], seen["version"], seen["outcome"], seen["reason"])


def standing_of(
    endpoint: Mapping[str, Any], rollout: Mapping[str, Any], asked: Mapping[str, bool]
) -> Standing:
    """Return how an endpoint stands.

    Args:
        endpoint: Its view.
        rollout: The view of the rollout that matters; empty if there is none.
        asked: Whether each thing that was asked for holds.
    """
    live = f"version {endpoint['stable']} is live" if endpoint["stable"] else "nothing is live"
    where = f"{rollout['outcome'] or rollout['phase']}: {rollout['reason']}" if rollout else "no rollout yet"
    missing = [name for name, holds in asked.items() if not holds]
    waits = f"; waiting for the {' and the '.join(missing)}" if missing else ""
    return Standing(
        is_reached=not missing,
        reason=f"{live}; {where}{waits}",
        live=endpoint["stable"],
        view=rollout or endpoint,
    )
