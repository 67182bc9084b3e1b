"""The state of one rollout: what is stored, the transition table, and the phase that is derived from it.

Values and their JSON form only; what moves a state is in `machine.py`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from taxiway_serving.rollout.guard import Terms
from taxiway_serving.statistics.label import NOTHING, Counts


class Status(StrEnum):
    """Where a rollout stands."""

    PREPARING = "preparing"
    PROGRESSING = "progressing"
    PAUSED = "paused"
    ROLLING_BACK = "rolling_back"
    ENDED = "ended"


class Outcome(StrEnum):
    """How a rollout ended, in Argo Rollouts' words."""

    PROMOTED = "Promoted"
    ABORTED = "Aborted"
    ROLLED_BACK = "RolledBack"


class Verdict(StrEnum):
    """What the evidence says at one look."""

    ADVANCE = "advance"
    HOLD = "hold"
    PROMOTE = "promote"
    ROLL_BACK = "roll back"
    INCONCLUSIVE = "inconclusive"


TRANSITIONS: Mapping[Status, frozenset[Status]] = MappingProxyType(
    {
        Status.PREPARING: frozenset({Status.PROGRESSING, Status.PAUSED, Status.ENDED}),
        Status.PROGRESSING: frozenset({Status.PAUSED, Status.ROLLING_BACK, Status.ENDED}),
        Status.PAUSED: frozenset({Status.PREPARING, Status.PROGRESSING, Status.ROLLING_BACK, Status.ENDED}),
        Status.ROLLING_BACK: frozenset({Status.ENDED}),
        Status.ENDED: frozenset(),
    }
)
"""What may follow what. A rollback is never left but by its end: it outranks every pause and every gate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutState:
    """Everything that a decision depends on, beside the specification and the plan.

    Attributes:
        stable: The version that served when the rollout began; None on a first deployment.
        step: Index of the current step.
        entered_at_s: When the current step, or the way back, began.
        weight_pct: The candidate's share that is wanted now.
        outcome: Set when the end is decided; final once the status is `ended`.
        guards: Accumulated evidence by guard.
        total: Units since the rollout began; `at_step`, since the current step began.
        first_bad_at_s: When the candidate first failed a request.
        rolled_back_at_s: When the candidate's share was read back as 0 %.
        unsure_since_s: Since when the rollout waits for something that cannot be seen; None when all can.
        restarts: Of the candidate's process when it was first ready; one more is a death that was not seen.
        is_resumed: Whether somebody ended the wait of a `pause` step.
    """

    started_at_s: float
    entered_at_s: float
    stable: int | None = None
    status: Status = Status.PREPARING
    step: int = 0
    weight_pct: float = 0.0
    outcome: Outcome | None = None
    reason: str = "the candidate is being made ready"
    guards: Mapping[str, Terms] = field(default_factory=dict)
    total: Counts = NOTHING
    at_step: Counts = NOTHING
    first_bad_at_s: float | None = None
    rolled_back_at_s: float | None = None
    ended_at_s: float | None = None
    unsure_since_s: float | None = None
    restarts: int | None = None
    is_resumed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain JSON values; `state_from_json` is the way back."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        data["guards"] = {name: list(terms) for name, terms in self.guards.items()}
        data["total"], data["at_step"] = asdict(self.total), asdict(self.at_step)
        return data


def state_from_json(data: Mapping[str, Any]) -> RolloutState:
    """Read a stored state back."""
    outcome = data["outcome"]
    return RolloutState(
        **{
            **data,
            "status": Status(data["status"]),
            "outcome": Outcome(outcome) if outcome else None,
            "guards": {name: tuple(terms) for name, terms in data["guards"].items()},
            "total": Counts(**data["total"]),
            "at_step": Counts(**data["at_step"]),
        }
    )


ROLLBACK_DEADLINE_S = 30.0
"""A rollback that is not read back by then is called failed. It goes on being tried."""


def phase(state: RolloutState, now_s: float) -> str:
    """Return the phase in Argo Rollouts' words.

    Progressing, Paused, RollingBack, RollbackFailed, Healthy or Degraded.
    """
    if state.status is Status.ENDED:
        return "Healthy" if state.outcome is Outcome.PROMOTED else "Degraded"
    if state.status is Status.ROLLING_BACK:
        return "RollbackFailed" if now_s - state.entered_at_s > ROLLBACK_DEADLINE_S else "RollingBack"
    return "Paused" if state.status is Status.PAUSED else "Progressing"
