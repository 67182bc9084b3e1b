"""What a rollout is judged by beside the access log: rewards, queries, mirrored answers, contracts proven again.

The Protocol and its value are here, and the form that has none of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from taxiway_serving.answers import Answer
from taxiway_serving.evidence.source import Attempt
from taxiway_serving.ledger.store import Fleet, Rollout
from taxiway_serving.rollout.observation import Compared, Rewards, Value
from taxiway_serving.statistics.label import Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensed:
    """What was learned about one rollout since the last look; the fields are those of `Observation`."""

    counts: Mapping[str, Counts] = field(default_factory=dict)
    values: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)
    rewards: Mapping[int, Rewards] = field(default_factory=dict)
    compared: Mapping[int, Compared] = field(default_factory=dict)
    verified: Mapping[int, Answer] = field(default_factory=dict)
    baseline_ms: float | None = None
    cursors: Mapping[str, str] = field(default_factory=dict)


class Senses(Protocol):
    """Asks whoever knows. It never waits: what takes time is asked in the background, and answered at a later look."""

    def take(self, attempts: Sequence[Attempt], fleet: Fleet) -> None:
        """Keep what is new in the access log, durably, before the cursor moves on."""
        ...

    def sense(self, rollout: Rollout, now_s: float) -> Sensed:
        """Return what was learned about a rollout since its cursors."""
        ...


class NoSenses:
    """Knows nothing but the access log. A `Senses`."""

    def take(self, attempts: Sequence[Attempt], fleet: Fleet) -> None:
        """Keep nothing."""

    def sense(self, rollout: Rollout, now_s: float) -> Sensed:
        """Return nothing."""
        return Sensed()
