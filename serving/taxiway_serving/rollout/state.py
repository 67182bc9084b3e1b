"""The state of one rollout: what is stored, the transition table, and the phase that is derived from it.

Values and their JSON form only; what moves a state is in `machine.py`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from taxiway_serving.rollout.guard import Terms
from taxiway_serving.rollout.observation import Compared, Rewards
from taxiway_serving.statistics.label import Counts
from taxiway_serving.statistics.posterior import Arm


class Status(StrEnum):
    """Where a rollout stands."""

    QUEUED = "queued"
    PREPARING = "preparing"
    PROGRESSING = "progressing"
    PAUSED = "paused"
    ROLLING_BACK = "rolling_back"
    ENDED = "ended"


class Outcome(StrEnum):
    """How a rollout ended, in Argo Rollouts' words; `Completed` is an experiment that left the stable version live."""

    PROMOTED = "Promoted"
    FAST_PROMOTED = "FastPromoted"
    COMPLETED = "Completed"
    ABORTED = "Aborted"
    SUPERSEDED = "Superseded"
    ROLLED_BACK = "RolledBack"


PROMOTIONS = (Outcome.PROMOTED, Outcome.FAST_PROMOTED)


class Verdict(StrEnum):
    """What the evidence says at one look."""

    ADVANCE = "advance"
    HOLD = "hold"
    SHIFT = "shift"
    PROMOTE = "promote"
    COMPLETE = "complete"
    ROLL_BACK = "roll back"
    INCONCLUSIVE = "inconclusive"


TRANSITIONS: Mapping[Status, frozenset[Status]] = MappingProxyType(
    {
        Status.QUEUED: frozenset({Status.PREPARING, Status.ENDED}),
        Status.PREPARING: frozenset({Status.PROGRESSING, Status.PAUSED, Status.ENDED}),
        Status.PROGRESSING: frozenset({Status.PAUSED, Status.ROLLING_BACK, Status.ENDED}),
        Status.PAUSED: frozenset({Status.PREPARING, Status.PROGRESSING, Status.ROLLING_BACK, Status.ENDED}),
        Status.ROLLING_BACK: frozenset({Status.ENDED}),
        Status.ENDED: frozenset(),
    }
)
"""What may follow what. A rollback is never left but by its end: it outranks every pause and every gate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderRoute:
    """Requests that go to a candidate whatever the weights say.

    Attributes:
        header: Name of the header, or "".
        cookie: Name of the cookie, or "".
        versions: Value to candidate.
    """

    header: str = ""
    cookie: str = ""
    versions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutState:
    """Everything that a decision depends on, beside the specification and the plan.

    Attributes:
        stable: The version that served when the rollout began; None on a first deployment.
        step: Index of the current step.
        entered_at_s: When the current step, or the way back, began.
        weights: Wanted share of each candidate in per cent; one that is absent has none.
        spans: Least and most of the share of each candidate and stable together that requests under way may follow,
            since the weights last changed.
        weighed_at_s: When the weights last changed, or since then were last seen not to be read back yet.
        header: Requests routed by a header or a cookie.
        mirror_pct: Share of the live requests that are mirrored.
        is_closed: Whether the cap on users is reached: who has met the candidate keeps it, nobody else does.
        is_open: Whether a person has lifted that cap, or a certificate has.
        outcome: Set when the end is decided; final once the status is `ended`.
        dropped: Candidates that are out, and why, while others go on.
        added: Candidates that joined in mid-run.
        winner: The version that the experiment names.
        guards: Accumulated evidence by judge.
        totals: Units since the rollout began, by candidate and metric.
        at_step: New units of each candidate since the current step began.
        arms: What each arm is thought to earn, aged; stable's too.
        rewards: What each arm had earned at the last update.
        compared: Mirrored answers so far, by candidate.
        updated_at_s: When the weights of an exploration were last thought over.
        baseline_ms: The stable version's own p99, frozen when it was first known.
        cursors: How far the sources beside the access log were read.
        failed: What has paused the rollout, by judge; a person who resumes it begins those anew.
        said: Names that callers gave their latest commands, so that one that is sent twice is done once.
        first_bad_at_s: When a candidate first failed a request.
        rolled_back_at_s: When the candidates' shares were read back as 0 %.
        unsure_since_s: Since when the rollout waits for something that cannot be seen; None when all can.
        restarts: Of each candidate's process when it was first ready; one more is a death that was not seen.
        is_resumed: Whether somebody ended the wait of a `pause` step.
        is_waived: Whether somebody ended the wait of the last step: the next look at which all is seen ends it.
        is_overdue: Whether the rollout's own deadline has passed, and was told.
        is_fast: Whether a person skipped steps.
        is_ready: Whether only its group keeps it from its end.
        is_frozen: Whether rewards have fallen silent, so that an exploration's split stays as it is.
        is_stuck: Whether 0 % was not read back in time on the way back; it goes on being tried.
    """

    started_at_s: float
    entered_at_s: float
    stable: int | None = None
    status: Status = Status.PREPARING
    step: int = 0
    weights: Mapping[int, float] = field(default_factory=dict)
    spans: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    weighed_at_s: float = 0.0
    header: HeaderRoute | None = None
    mirror_pct: float = 0.0
    is_closed: bool = False
    is_open: bool = False
    outcome: Outcome | None = None
    reason: str = "the candidate is being made ready"
    dropped: Mapping[int, str] = field(default_factory=dict)
    added: tuple[int, ...] = ()
    winner: int | None = None
    guards: Mapping[str, Terms] = field(default_factory=dict)
    totals: Mapping[str, Counts] = field(default_factory=dict)
    at_step: Mapping[int, int] = field(default_factory=dict)
    arms: Mapping[int, Arm] = field(default_factory=dict)
    rewards: Mapping[int, Rewards] = field(default_factory=dict)
    compared: Mapping[int, Compared] = field(default_factory=dict)
    updated_at_s: float = 0.0
    baseline_ms: float | None = None
    cursors: Mapping[str, str] = field(default_factory=dict)
    failed: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    first_bad_at_s: float | None = None
    rolled_back_at_s: float | None = None
    ended_at_s: float | None = None
    unsure_since_s: float | None = None
    restarts: Mapping[int, int] = field(default_factory=dict)
    is_resumed: bool = False
    is_waived: bool = False
    is_overdue: bool = False
    is_fast: bool = False
    is_ready: bool = False
    is_frozen: bool = False
    is_stuck: bool = False

    @property
    def weight_pct(self) -> float:
        """The candidates' share together, in per cent."""
        return sum(self.weights.values())

    @property
    def exposed(self) -> int:
        """Distinct units that have met a candidate."""
        return sum(counts.met for key, counts in self.totals.items() if key.endswith("/errors"))

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain JSON values; `state_from_json` is the way back."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in _BY_VERSION:
            data[name] = {str(version): value for version, value in data[name].items()}
        for name in _VALUES:
            data[name] = {key: asdict(value) for key, value in data[name].items()}
        for name in _TUPLES:
            data[name] = {key: list(value) for key, value in data[name].items()}
        data["header"] = asdict(self.header) if self.header else None
        for name in _LISTS:
            data[name] = list(data[name])
        return data


_BY_VERSION = ("weights", "spans", "dropped", "at_step", "arms", "rewards", "compared", "restarts")
_VALUES: Mapping[str, Any] = {"totals": Counts, "arms": Arm, "rewards": Rewards, "compared": Compared}
_TUPLES = ("guards", "spans")
_LISTS = ("added", "failed", "said")


def state_from_json(data: Mapping[str, Any]) -> RolloutState:
    """Read a stored state back. What an earlier Taxiway did not write takes its default."""
    known = {item.name for item in fields(RolloutState)}
    read = {name: value for name, value in data.items() if name in known}
    for name in _VALUES.keys() & read.keys():
        read[name] = {key: _VALUES[name](**value) for key, value in read[name].items()}
    for name in _TUPLES:
        read[name] = {key: tuple(value) for key, value in read.get(name, {}).items()}
    for name in read.keys() & set(_BY_VERSION):
        read[name] = {int(version): value for version, value in read[name].items()}
    read["header"] = HeaderRoute(**read["header"]) if read.get("header") else None
    read["status"] = Status(read["status"])
    read["outcome"] = Outcome(read["outcome"]) if read.get("outcome") else None
    for name in _LISTS:
        read[name] = tuple(read.get(name, ()))
    return RolloutState(**read)


ROLLBACK_DEADLINE_S = 30.0
"""A rollback that is not read back by then is called failed. It goes on being tried."""


def phase(state: RolloutState, now_s: float) -> str:
    """Return the phase in Argo Rollouts' words.

    Progressing, Paused, RollingBack, RollbackFailed, Healthy or Degraded.
    """
    if state.status is Status.ENDED:
        is_well = state.outcome in (*PROMOTIONS, Outcome.COMPLETED, Outcome.SUPERSEDED)
        return "Healthy" if is_well else "Degraded"
    if state.status is Status.ROLLING_BACK:
        return "RollbackFailed" if now_s - state.entered_at_s > ROLLBACK_DEADLINE_S else "RollingBack"
    return "Paused" if state.status is Status.PAUSED else "Progressing"
