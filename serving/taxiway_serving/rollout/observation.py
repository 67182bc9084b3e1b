"""What was seen of a rollout since the last look, and its JSON form for the ledger. Values only.

Unknown never promotes, and never raises a weight. Where something is kept by judge or by metric, the key is the
candidate and the name: `2/errors`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from taxiway_serving.answers import Answer
from taxiway_serving.statistics.label import NOTHING, Counts

ERRORS = "errors"

Value = tuple[bool, float, float]
"""A reward: whether it is the candidate's, its size in [0, 1], the candidate's share of the pair when it was drawn."""


def key_of(version: int, name: str) -> str:
    """Return the key under which something of a candidate is kept."""
    return f"{version}/{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewards:
    """What one arm has earned since the rollout began; sums that only grow.

    Attributes:
        exposures: Requests that were answered by the arm.
        credited: Part of them whose reward would have come by now, if there were one.
        total: Sum of the rewards; squares, of their squares.
        pending: Exposures whose window is still open, without a reward.
        last_at_s: When the last reward came.
    """

    exposures: int = 0
    credited: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    pending: int = 0
    last_at_s: float | None = None


NO_REWARDS = Rewards()


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Mirrored requests of an interval, or of many added up.

    Attributes:
        samples: Requests that were compared.
        only_candidate: The candidate differed or failed, the second copy of stable agreed with itself.
        only_noise: The second copy of stable disagreed with itself or failed, the candidate agreed.
        failed: How many of them the candidate did not answer.
    """

    samples: int = 0
    only_candidate: int = 0
    only_noise: int = 0
    failed: int = 0

    def __add__(self, other: "Compared") -> "Compared":
        return Compared(
            samples=self.samples + other.samples,
            only_candidate=self.only_candidate + other.only_candidate,
            only_noise=self.only_noise + other.only_noise,
            failed=self.failed + other.failed,
        )


NO_COMPARISON = Compared()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSeen:
    """The other rollouts of the group.

    Attributes:
        waits_for: Handles that are not ready to be promoted.
        failed: A handle that was not promoted, with its reason; "" for none.
    """

    waits_for: tuple[str, ...] = ()
    failed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was seen since the last look.

    Attributes:
        candidates: Of each: YES ready and healthy at the gateway, NO it has failed, UNKNOWN it starts or is not seen.
        applied: YES the wanted split and routes were read back from every gateway.
        evidence: YES the access log was read up to now; anything else means that counts may be missing.
        counts: Units of the interval, by candidate and metric.
        values: Rewards that were attributed in the interval, by candidate and metric.
        measured: New measurements of queries, by candidate and metric.
        assigned: Units that were seen for the first time, by version; only while the split stood still.
        rewards: What each arm has earned so far, stable's too.
        compared: Answers to mirrored requests, by candidate.
        verified: Whether a candidate's contract holds at this step; candidates without one are absent.
        unverified: Where that is unknown though it was asked: why, in words.
        restarts: Of each candidate's process so far.
        baseline_ms: The stable version's own p99, once enough of its answers were seen.
        group: The other rollouts of the group; None without one.
        first_bad_at_s: When a candidate's first bad event in the interval happened.
        since_s: When the earliest request of the interval began; None takes it that none was long under way.
        cursors: How far each other source was read.
        rejection: Why the gateway refused the split; None if it did not.
    """

    candidates: Mapping[int, Answer]
    applied: Answer
    evidence: Answer
    counts: Mapping[str, Counts] = field(default_factory=dict)
    values: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)
    assigned: Mapping[int, int] = field(default_factory=dict)
    rewards: Mapping[int, Rewards] = field(default_factory=dict)
    compared: Mapping[int, Compared] = field(default_factory=dict)
    verified: Mapping[int, Answer] = field(default_factory=dict)
    unverified: Mapping[int, str] = field(default_factory=dict)
    restarts: Mapping[int, int] = field(default_factory=dict)
    baseline_ms: float | None = None
    group: GroupSeen | None = None
    first_bad_at_s: float | None = None
    since_s: float | None = None
    cursors: Mapping[str, str] = field(default_factory=dict)
    rejection: str | None = None

    def health(self, version: int) -> Answer:
        """Return what is known of a candidate; UNKNOWN if nothing is."""
        return self.candidates.get(version, Answer.UNKNOWN)

    def errors(self, version: int) -> Counts:
        """Return the interval's units of one candidate."""
        return self.counts.get(key_of(version, ERRORS), NOTHING)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, what is empty left out; `observation_from_json` is the way back."""
        whole: dict[str, Any] = {
            "applied": self.applied.name,
            "evidence": self.evidence.name,
            "candidates": _answers(self.candidates),
            "verified": _answers(self.verified),
            "unverified": _texts(self.unverified),
            "counts": {
                key: _short(asdict(counts)) for key, counts in self.counts.items() if counts != NOTHING
            },
            "values": {key: [list(value) for value in values] for key, values in self.values.items()},
            "measured": dict(self.measured),
            "assigned": _texts(self.assigned),
            "rewards": {str(version): _short(asdict(rewards)) for version, rewards in self.rewards.items()},
            "compared": {str(version): _short(asdict(seen)) for version, seen in self.compared.items()},
            "restarts": {str(version): number for version, number in self.restarts.items() if number},
            "baseline_ms": self.baseline_ms,
            "group": asdict(self.group) if self.group else None,
            "first_bad_at_s": self.first_bad_at_s,
            "since_s": self.since_s,
            "cursors": dict(self.cursors),
            "rejection": self.rejection,
        }
        return {name: value for name, value in whole.items() if value not in ({}, None)}


def _answers(answers: Mapping[int, Answer]) -> dict[str, str]:
    return {str(version): answer.name for version, answer in answers.items()}


def _texts(numbers: Mapping[int, Any]) -> dict[str, Any]:
    return {str(version): number for version, number in numbers.items()}


def _short(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """A look is written twice a second: zeros need no ink. A time of zero is a time."""
    times = {
        name: number for name, number in numbers.items() if name.endswith("_at_s") and number is not None
    }
    return {**{name: number for name, number in numbers.items() if number}, **times}


def observation_from_json(data: Mapping[str, Any]) -> Observation:
    """Read an observation back from the ledger."""
    group = data.get("group")
    return Observation(
        applied=Answer[data["applied"]],
        evidence=Answer[data["evidence"]],
        candidates=_read_answers(data.get("candidates", {})),
        verified=_read_answers(data.get("verified", {})),
        unverified={int(version): reason for version, reason in data.get("unverified", {}).items()},
        counts={key: Counts(**counts) for key, counts in data.get("counts", {}).items()},
        values={
            key: tuple(_value(each) for each in values) for key, values in data.get("values", {}).items()
        },
        measured=data.get("measured", {}),
        assigned={int(version): number for version, number in data.get("assigned", {}).items()},
        rewards={int(version): Rewards(**each) for version, each in data.get("rewards", {}).items()},
        compared={int(version): Compared(**each) for version, each in data.get("compared", {}).items()},
        restarts={int(version): number for version, number in data.get("restarts", {}).items()},
        baseline_ms=data.get("baseline_ms"),
        group=GroupSeen(waits_for=tuple(group["waits_for"]), failed=group["failed"]) if group else None,
        first_bad_at_s=data.get("first_bad_at_s"),
        since_s=data.get("since_s"),
        cursors=data.get("cursors", {}),
        rejection=data.get("rejection"),
    )


def _read_answers(data: Mapping[str, str]) -> dict[int, Answer]:
    return {int(version): Answer[name] for version, name in data.items()}


def _value(items: Any) -> Value:
    is_candidate, size, share = items
    return bool(is_candidate), float(size), float(share)
