"""What the controller says of the endpoint, looked at all the time: the split over time, and the rollouts.

Only what was read back counts: a split is in the samples when Envoy has it. A controller that does not answer says
nothing, and nothing is noted.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from taxiway_serving.errors import TaxiwayError

_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The split at one moment: version to share in per cent, of those that have any."""

    at_s: float
    shares: Mapping[int, float]


class Watch:
    """Looks at one endpoint from `start` to `stop`, in a thread of its own.

    Args:
        look: Returns the endpoint as the controller describes it.
        on_split: Called with each split that is not the one before.
    """

    def __init__(
        self,
        look: Callable[[], Mapping[str, Any]],
        *,
        on_split: Callable[[Mapping[int, float]], None] = lambda _: None,
    ) -> None:
        self._look, self._on_split = look, on_split
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._rollouts: dict[str, Mapping[str, Any]] = {}
        self.samples: list[Sample] = []
        self.live: int | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def look_once(self) -> None:
        """Note the endpoint as it stands."""
        try:
            endpoint = self._look()
        except TaxiwayError:
            return
        rollout, observed = endpoint["rollout"], endpoint["split"]["observed"]
        self.live = endpoint["stable"]
        if rollout is not None:
            self._rollouts[rollout["id"]] = rollout
        if observed is not None:
            self._note({int(version): float(share) for version, share in observed.items() if share > 0})

    def _note(self, shares: Mapping[int, float]) -> None:
        is_other = shares != self.shares
        self.samples.append(Sample(at_s=time.time(), shares=shares))
        if is_other:
            self._on_split(shares)

    @property
    def shares(self) -> Mapping[int, float]:
        """The split that was read back last; empty while there is no live traffic."""
        return self.samples[-1].shares if self.samples else {}

    @property
    def unfinished_rollout(self) -> Mapping[str, Any] | None:
        """The rollout that is on its way, None when there is none."""
        return next((rollout for rollout in self._rollouts.values() if rollout["status"] != "ended"), None)

    def rollout_of(self, version: int, *, since_s: float) -> Mapping[str, Any] | None:
        """Return the last rollout of a version that began after a moment."""
        found = [
            rollout
            for rollout in self._rollouts.values()
            if rollout["version"] == version and rollout["started_at_s"] >= since_s
        ]
        return max(found, key=lambda rollout: float(rollout["started_at_s"]), default=None)

    def weights_pct(self, version: int) -> tuple[float, ...]:
        """Return the shares that a version had, one after the other, until it had all of the traffic or none again."""
        weights: list[float] = []
        for sample in self.samples:
            share = sample.shares.get(version, 0.0)
            if share != (weights[-1] if weights else 0.0):
                weights.append(share)
            if weights and share in {0.0, 100.0}:
                break
        return tuple(weights)

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            self.look_once()
