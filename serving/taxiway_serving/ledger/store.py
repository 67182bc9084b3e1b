"""The Protocol of the durable store, and the values that it keeps. No database is touched here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol, TypeVar

from taxiway_serving.ledger.chain import HEAD, Entry
from taxiway_serving.ledger.outbox import Delivery
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import HeaderRoute, RolloutState, Status
from taxiway_serving.rollout.steps import Step
from taxiway_serving.split import Split

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """The desired state of one handle.

    Attributes:
        stable: The version that is live; None before the first deployment.
        previous: The version before it, which an undo goes back to.
        split: Wanted split; None while nothing is live.
        shield: Whether a canary's server error is repeated on stable.
        header: Requests that a header or a cookie sends to a candidate; None for none.
        mirror_pct: Share of the live requests that is mirrored to the comparison.
        closed: Units that keep a candidate, by candidate, while everybody else goes to stable; empty while open.
    """

    handle: str
    stable: int | None = None
    previous: int | None = None
    split: Split | None = None
    shield: bool = True
    header: HeaderRoute | None = None
    mirror_pct: float = 0.0
    closed: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


class Wish(StrEnum):
    """What is wanted of a variant. It leaves the gateway's table before its process is stopped."""

    RUNNING = "running"
    LEAVING = "leaving"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """The desired state of one variant.

    Attributes:
        spec: What the runtime needs to run it, plain JSON.
        retire_at_s: When it may go, once it has no traffic; None keeps it.
        host: Address where it was last seen, so that the table stays whole while the variant restarts.
        port: Port of that address, 0 before it was seen.
        replicas: Host and port of its further replicas, as they were last seen.
        scaled_to: How many replicas its load was last found to need; None before.
        asked_at_s: When it was asked to run: a failure that is older is not of this asking.
        ready_at_s: When it was first seen ready since then; None before that.
        failed_at_s: When it was seen to have failed, which is told once; None while it has not.
    """

    handle: str
    version: int
    spec: Mapping[str, Any]
    wish: Wish = Wish.RUNNING
    retire_at_s: float | None = None
    host: str = ""
    port: int = 0
    asked_at_s: float = 0.0
    ready_at_s: float | None = None
    failed_at_s: float | None = None
    replicas: tuple[tuple[str, int], ...] = ()
    scaled_to: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One run of a strategy: what was asked, what it compiled to, where it stands."""

    spec: RolloutSpec
    plan: tuple[Step, ...]
    state: RolloutState


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A ledger entry to be: the store gives it its place and its hash."""

    at_s: float
    handle: str
    kind: str
    actor: str
    reason: str
    body: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        hidden = sorted(self.body.keys() & set(HEAD))
        if hidden:
            # An entry shows its body beside its head: what one hides of the other, no hash can be checked by.
            raise ValueError(f"the body of a {self.kind} has {', '.join(hidden)}, which an entry has itself")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """All that one decision changes; it is stored whole or not at all.

    Attributes:
        marks: (rollout id, unit, version, metrics it was bad of) of units that are newly seen, or newly bad.
        forgotten: Ids of rollouts whose units need not be remembered any longer.
        cursor: How far the evidence was read that this change has taken in; None leaves it.
        deliveries: What is to be told of it; a store without a webhook keeps none.
    """

    endpoints: tuple[Endpoint, ...] = ()
    variants: tuple[Variant, ...] = ()
    rollouts: tuple[Rollout, ...] = ()
    notes: tuple[Note, ...] = ()
    marks: tuple[tuple[str, str, int, frozenset[str]], ...] = ()
    forgotten: tuple[str, ...] = ()
    cursor: str | None = None
    deliveries: tuple[Delivery, ...] = ()


# Without slots: what is looked up is put in order once, at the first question, and not at each of thousands.
@dataclass(frozen=True, kw_only=True)
class Fleet:
    """The whole desired state."""

    endpoints: tuple[Endpoint, ...] = ()
    variants: tuple[Variant, ...] = ()
    rollouts: tuple[Rollout, ...] = ()
    cursor: str = ""

    def endpoint(self, handle: str) -> Endpoint | None:
        """Return the endpoint of a handle, or None."""
        return self._endpoints.get(handle)

    def variant(self, handle: str, version: int) -> Variant | None:
        """Return a variant, or None."""
        return next((each for each in self.variants_of(handle) if each.version == version), None)

    def variants_of(self, handle: str) -> tuple[Variant, ...]:
        """Return the variants of a handle, in order."""
        return self._variants.get(handle, ())

    def active(self, handle: str) -> Rollout | None:
        """Return the rollout that runs on a handle, or None; one that waits for its turn does not run."""
        return self._active.get(handle)

    @cached_property
    def running(self) -> tuple[Rollout, ...]:
        """The rollouts that run, in the order in which they began."""
        return tuple(rollout for rollout in self.rollouts if rollout.state.status is not Status.QUEUED)

    @cached_property
    def queued(self) -> tuple[Rollout, ...]:
        """The rollouts that wait for their turn, in the order in which they were asked for."""
        return tuple(rollout for rollout in self.rollouts if rollout.state.status is Status.QUEUED)

    def queued_of(self, handle: str) -> tuple[Rollout, ...]:
        """Return the rollouts of a handle that wait for their turn, in the order in which they were asked for."""
        return self._queued.get(handle, ())

    @cached_property
    def _endpoints(self) -> Mapping[str, Endpoint]:
        return {endpoint.handle: endpoint for endpoint in self.endpoints}

    @cached_property
    def _variants(self) -> Mapping[str, tuple[Variant, ...]]:
        return _by_handle((variant.handle, variant) for variant in self.variants)

    @cached_property
    def _active(self) -> Mapping[str, Rollout]:
        return {rollout.spec.handle: rollout for rollout in reversed(self.running)}

    @cached_property
    def _queued(self) -> Mapping[str, tuple[Rollout, ...]]:
        return _by_handle((rollout.spec.handle, rollout) for rollout in self.queued)


def _by_handle(items: Iterable[tuple[str, T]]) -> dict[str, tuple[T, ...]]:
    found: dict[str, list[T]] = {}
    for handle, item in items:
        found.setdefault(handle, []).append(item)
    return {handle: tuple(own) for handle, own in found.items()}


class Store(Protocol):
    """Keeps state, ledger and evidence marks. A commit that returned survives a crash of machine and process.

    Safe to call from several threads; one controller at a time owns a store.
    """

    def fleet(self) -> Fleet:
        """Return the desired state, with the rollouts that have not ended."""
        ...

    def commit(self, change: Change) -> None:
        """Store a change whole, its notes appended to the ledger in their order."""
        ...

    def rollout(self, rollout_id: str) -> Rollout | None:
        """Return a rollout by its id, ended ones too."""
        ...

    def latest(self, handle: str) -> Rollout | None:
        """Return the rollout that began last on a handle."""
        ...

    def recent(self, handle: str, *, limit: int) -> Sequence[Rollout]:
        """Return a handle's rollouts, the one that began last first; at most so many."""
        ...

    def lived(self, handle: str) -> Sequence[tuple[float, int]]:
        """Return since when which version was live on a handle, in order."""
        ...

    def group(self, name: str) -> Sequence[Rollout]:
        """Return the rollouts of a group, ended ones too, in the order in which they began."""
        ...

    def marked(self, rollout_id: str, units: Sequence[str]) -> Mapping[str, Mapping[int, frozenset[str]]]:
        """Return of these units the ones that the rollout has seen: on which versions, and bad by which metrics."""
        ...

    def met(self, rollout_id: str, version: int) -> Sequence[str]:
        """Return the units that have met a version in a rollout that has not ended."""
        ...

    def entries(self, handle: str | None, *, after: int, limit: int) -> Sequence[Entry]:
        """Return ledger entries in order, of one handle or of all.

        Args:
            handle: None for the whole ledger.
            after: Only places above it; 0 for the beginning.
            limit: At most so many, 1 to 10,000.
        """
        ...
