"""The Protocol of what waits to be told to others, and its values. No database and no network is touched here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message for the webhook. It is stored with the decision that it tells of, or not at all.

    Attributes:
        id: What the receiver tells repetitions by.
        event: What happened, such as `rolled_back`.
        at_s: When, in seconds since the epoch.
        body: What is posted, plain JSON.
    """

    id: str
    event: str
    at_s: float
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A delivery that may be tried now, and how often it was tried in vain."""

    delivery: Delivery
    tries: int


class Outbox(Protocol):
    """Hands out deliveries until they are said to be delivered: each at least once.

    What a call stored survives a crash of process and machine. Safe to call from several threads; one worker empties
    it.
    """

    def due(self, now_s: float, *, limit: int) -> Sequence[Due]:
        """Return what may be tried now, the oldest first.

        Args:
            now_s: Seconds since the epoch.
            limit: At most so many.
        """
        ...

    def delivered(self, ids: Sequence[str]) -> None:
        """Forget what has arrived."""
        ...

    def postponed(self, delivery_id: str, *, until_s: float) -> None:
        """Count a try that failed, and keep the delivery until its next one."""
        ...

    def given_up(self, delivery_id: str) -> None:
        """Count a try that failed, and keep the delivery as failed: it is not due again."""
        ...

    def failed(self) -> Sequence[Delivery]:
        """Return what was given up, the oldest first."""
        ...
