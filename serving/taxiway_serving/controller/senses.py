"""What a rollout is judged by beside the access log: rewards, queries, mirrored answers, contracts proven again.

The Protocol and its value are here, and the form that has none of them; `sensing.py` holds the real one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from taxiway_serving.answers import Answer
from taxiway_serving.controller.looking import World
from taxiway_serving.ledger.store import Fleet, Rollout
from taxiway_serving.rollout.observation import Compared, Rewards, Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensed:
    """What was learned about one rollout since the last look; the fields are those of `Observation`."""

    values: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)
    rewards: Mapping[int, Rewards] = field(default_factory=dict)
    compared: Mapping[int, Compared] = field(default_factory=dict)
    verified: Mapping[int, Answer] = field(default_factory=dict)
    unverified: Mapping[int, str] = field(default_factory=dict)
    baseline_ms: float | None = None
    cursors: Mapping[str, str] = field(default_factory=dict)


class Senses(Protocol):
    """Asks whoever knows. It never waits: what takes time is asked in the background, and answered at a later look."""

    def take(self, world: World, now_s: float) -> None:
        """Keep what is new in the world, durably, before the cursor moves on."""
        ...

    def sense(self, rollout: Rollout, fleet: Fleet, now_s: float) -> Sensed:
        """Return what was learned about a rollout since its cursors."""
        ...

    def follow(self, fleet: Fleet, world: World) -> None:
        """Do what the rollouts that run now ask for, so that there is something to learn."""
        ...


class NoSenses:
    """Knows nothing but the access log. A `Senses`."""

    def take(self, world: World, now_s: float) -> None:
        """Keep nothing."""

    def sense(self, rollout: Rollout, fleet: Fleet, now_s: float) -> Sensed:
        """Return nothing."""
        return Sensed()

    def follow(self, fleet: Fleet, world: World) -> None:
        """Do nothing."""
