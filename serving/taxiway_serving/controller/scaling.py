"""How many replicas a variant has, by the requests in flight on it: the decision, which is pure, and who acts on it.

Load that is there counts within seconds; that it is gone is believed after a minute without a doubt. What is not known
says nothing: it never takes a replica away. Each change begins a new history, so that it is seen what it did before the
next one is made.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Final

from taxiway_serving.errors import TransportError
from taxiway_serving.ledger.store import Change, Note, Store, Variant, Wish
from taxiway_serving.names import VariantId
from taxiway_serving.runtimes.runtime import VariantSpec

UP_S: Final = 5.0
DOWN_S: Final = 60.0
SLACK: Final = 0.7
"""Fewer replicas must bear the highest load of the last minute at this share of what each is meant to bear."""
LOOK_S: Final = 1.0
_LONGEST_GAP_S: Final = 5.0
_FEWEST_LOOKS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How many requests were in flight on a variant at one moment; None if that could not be found out."""

    at_s: float
    in_flight: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Between how many replicas, and how many requests in flight each is meant to bear; above 0."""

    fewest: int
    most: int
    per_replica: float


def wanted(looks: Sequence[Look], current: int, bounds: Bounds) -> int:
    """Return how many replicas are wanted now.

    Args:
        looks: Since the last change, in order; the last one is now.
        current: How many are wanted so far.
        bounds: What may be wanted.
    """
    current = min(max(current, bounds.fewest), bounds.most)
    if not looks:
        return current
    now_s = looks[-1].at_s
    fresh = [each.in_flight for each in looks if each.at_s > now_s - UP_S and each.in_flight is not None]
    if len(fresh) >= _FEWEST_LOOKS:
        needed = math.ceil(sum(fresh) / len(fresh) / bounds.per_replica)
        if needed > current:
            return min(needed, bounds.most)
    peak = _peak(looks, now_s)
    if peak is None:
        return current
    return max(bounds.fewest, min(current, math.ceil(peak / (SLACK * bounds.per_replica))))


def _peak(looks: Sequence[Look], now_s: float) -> int | None:
    """Return the highest load of the last minute; None if not all of that minute is known."""
    before = [each for each in looks if each.at_s <= now_s - DOWN_S]
    minute = [*before[-1:], *(each for each in looks if each.at_s > now_s - DOWN_S)]
    times_s = [each.at_s for each in minute]
    gaps_s = [later - sooner for sooner, later in itertools.pairwise(times_s)]
    known = [each.in_flight for each in minute if each.in_flight is not None]
    is_whole = bool(before) and len(known) == len(minute) and max(gaps_s, default=0.0) <= _LONGEST_GAP_S
    return max(known) if is_whole else None


def sized(variant: Variant) -> VariantSpec:
    """Return what of a variant shall run, with as many replicas as its load was last found to need."""
    spec = VariantSpec.from_json(variant.spec)
    if variant.scaled_to is None or spec.most_replicas is None:
        return spec
    return replace(spec, replicas=min(max(variant.scaled_to, spec.replicas), spec.most_replicas))


class Scaler:
    """Looks at the load of every variant that may have more replicas, and writes down how many it shall have.

    Args:
        store: Where that is wished; the controller's tick carries it out, as any other wish.
        in_flight: Returns how many requests are in flight on a variant, over all gateways; raises TransportError.
        clock: Seconds since the epoch.
        per_replica: Requests in flight that one replica is meant to bear.
    """

    def __init__(
        self,
        store: Store,
        in_flight: Callable[[VariantId], int],
        clock: Callable[[], float],
        *,
        per_replica: float,
    ) -> None:
        self._store, self._in_flight, self._clock = store, in_flight, clock
        self._per_replica = per_replica
        self._looks: dict[VariantId, list[Look]] = {}
        self._looked_s = 0.0

    def look(self, lock: AbstractContextManager[object]) -> None:
        """Look once a second at most, and change what should change.

        Args:
            lock: Held by whoever commits to the store.
        """
        now_s = self._clock()
        if 0 <= now_s - self._looked_s < LOOK_S:
            return
        self._looked_s = now_s
        growing = dict(self._growing())
        self._looks = {name: self._looks.get(name, []) for name in growing}
        for name, spec in growing.items():
            looks = [each for each in self._looks[name] if each.at_s > now_s - 2 * DOWN_S]
            self._looks[name] = [*looks, Look(at_s=now_s, in_flight=self._asked(name))]
            with lock:
                self._decide(name, spec)

    def _growing(self) -> Iterator[tuple[VariantId, VariantSpec]]:
        for variant in self._store.fleet().variants:
            if variant.wish is Wish.RUNNING and variant.spec.get("most_replicas"):
                yield (
                    VariantId(handle=variant.handle, version=variant.version),
                    VariantSpec.from_json(variant.spec),
                )

    def _asked(self, name: VariantId) -> int | None:
        try:
            return self._in_flight(name)
        except TransportError:
            # A look that saw nothing counts for neither more replicas nor fewer.
            return None

    def _decide(self, name: VariantId, spec: VariantSpec) -> None:
        variant = self._store.fleet().variant(name.handle, name.version)
        if variant is None or variant.wish is not Wish.RUNNING:
            return
        looks, current = self._looks[name], sized(variant).replicas
        most = spec.most_replicas or spec.replicas
        bounds = Bounds(fewest=spec.replicas, most=most, per_replica=self._per_replica)
        count = wanted(looks, current, bounds)
        if count != current:
            note = _note(name, looks, current, count, bounds)
            self._store.commit(Change(variants=(replace(variant, scaled_to=count),), notes=(note,)))
            self._looks[name] = []


def _note(name: VariantId, looks: Sequence[Look], before: int, after: int, bounds: Bounds) -> Note:
    seconds = UP_S if after > before else DOWN_S
    now_s = looks[-1].at_s
    seen = [each.in_flight for each in looks if each.at_s > now_s - seconds and each.in_flight is not None]
    mean, peak = sum(seen) / max(1, len(seen)), max(seen, default=0)
    body = {
        "version": name.version,
        "from": before,
        "to": after,
        "fewest": bounds.fewest,
        "most": bounds.most,
        "per_replica": bounds.per_replica,
        "looked_s": seconds,
        "in_flight_mean": round(mean, 2),
        "in_flight_peak": peak,
    }
    figures = f"{mean:.1f} requests in flight at the mean of {seconds:g} s, {peak} at most"
    reason = f"from {before} to {after} replicas: {figures}, {bounds.per_replica:g} meant for each"
    return Note(at_s=now_s, handle=name.handle, kind="scaled", actor="controller", reason=reason, body=body)
