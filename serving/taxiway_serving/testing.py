"""Fakes of the Protocols, for tests of whatever uses them.

Deterministic and in memory: nothing happens until a test steps them, and their clock is a number. What they and every
other implementation are held to is in `contracts.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from taxiway_serving.answers import Answer
from taxiway_serving.errors import ConflictError, InvalidSpecError, TransportError
from taxiway_serving.evidence.source import Attempt, Batch
from taxiway_serving.names import VariantId
from taxiway_serving.routing.router import Revision, Table
from taxiway_serving.routing.side_routes import SideRoutes
from taxiway_serving.runtimes.runtime import Phase, VariantSpec, VariantState
from taxiway_serving.split import Split


class FakeRuntime:
    """A runtime whose variants start, die and come back when a test says so. A `Runtime`.

    Further replicas come and go with the first one, but for `kill_replica`.

    Attributes:
        now_s: Its clock; `step` moves it.
        specs: What runs or should run, by variant.
        calls: Every `ensure` and `stop`, such as `("ensure", "digits/2")`.
        unreachable: Variants whose readiness cannot be found out.
        is_closed: Whether `close` was called.
    """

    def __init__(self, *, starts_in_steps: int = 1) -> None:
        self.now_s = 1_000_000.0
        self.specs: dict[VariantId, VariantSpec] = {}
        self.calls: list[tuple[str, str]] = []
        self.unreachable: set[VariantId] = set()
        self.is_closed = False
        self._starts_in_steps = starts_in_steps
        self._waits: dict[VariantId, int] = {}
        self._states: dict[VariantId, VariantState] = {}
        self._logs: dict[VariantId, list[str]] = {}
        self._broken: set[VariantId] = set()
        self._overdue: set[VariantId] = set()
        self._further: dict[VariantId, tuple[int, ...]] = {}
        self._last_port = 20_000

    def ensure(self, spec: VariantSpec) -> None:
        """Start the variant if it does not run as specified. See `Runtime.ensure`."""
        variant = spec.variant
        self.calls.append(("ensure", str(variant)))
        state = self._states.get(variant)
        is_same = variant in self.specs and self.specs[variant].digest() == spec.digest()
        self.specs[variant] = spec
        if state is None or not is_same or state.pid is None:
            was_dead = state is not None and is_same and state.phase == "failed"
            self._begin(variant, state.restarts + 1 if state is not None and was_dead else 0)
        self._fill(variant)

    def observe(self) -> Mapping[VariantId, VariantState]:
        """Return a copy of every state. See `Runtime.observe`."""
        return {variant: self._with_further(variant) for variant in self._states}

    def ready(self, variant: VariantId) -> Answer:
        """Answer from the state; unknown if a test made it unreachable. See `Runtime.ready`."""
        if variant in self.unreachable:
            return Answer.UNKNOWN
        return Answer.of(self.is_ready(variant))

    def is_ready(self, variant: VariantId) -> bool:
        """Tell whether a variant's own state is ready, reachable or not."""
        state = self._states.get(variant)
        return state is not None and state.phase == "ready"

    def logs(self, variant: VariantId, *, tail: int) -> str:
        """Return what happened to the variant. See `Runtime.logs`."""
        return "\n".join(self._logs.get(variant, [])[-tail:])

    def stop(self, variant: VariantId, *, grace_s: float) -> None:
        """End the variant. See `Runtime.stop`."""
        self.calls.append(("stop", str(variant)))
        self.specs.pop(variant, None)
        if variant in self._states:
            self._further.pop(variant, None)
            self._set(variant, "stopped", "stopped as asked")

    def close(self) -> None:
        """Remember that nobody needs it any longer. See `Runtime.close`."""
        self.is_closed = True

    def running(self, variant: VariantId) -> set[str]:
        """Return the names of the replicas that run."""
        state = self._states.get(variant)
        first = () if state is None or state.pid is None else (state.pid,)
        return {str(number) for number in (*first, *self._further.get(variant, ()))}

    def step(self, seconds: float = 1.0) -> None:
        """Let time pass: what was starting comes one step nearer to ready."""
        self.now_s += seconds
        for variant, state in list(self._states.items()):
            if state.phase != "starting":
                continue
            if variant in self._broken:
                if variant in self._overdue:
                    self._miss(variant, state)
                continue
            self._waits[variant] -= 1
            if self._waits[variant] <= 0:
                self._set(variant, "ready", "")

    def kill(self, variant: VariantId) -> None:
        """Let the variant's process die, as `kill -9` would, and all further replicas."""
        self._further.pop(variant, None)
        self._states[variant] = replace(self._states[variant], pid=None)
        self._set(variant, "failed", "killed")

    def kill_replica(self, variant: VariantId) -> None:
        """Let one further replica die; without any, the variant's process."""
        further = self._further.get(variant, ())
        if not further:
            self.kill(variant)
            return
        self._further[variant] = further[1:]
        self._states[variant] = replace(self._states[variant], restarts=self._states[variant].restarts + 1)

    def break_(self, variant: VariantId, *, misses_deadline: bool = False) -> None:
        """Let the variant never become ready, from its next start on, and fail only if it misses its deadline."""
        self._broken.add(variant)
        if misses_deadline:
            self._overdue.add(variant)

    def _begin(self, variant: VariantId, restarts: int) -> None:
        self._last_port += 1
        self._waits[variant] = self._starts_in_steps
        pid = self._last_port
        self._states[variant] = VariantState(
            phase="starting",
            host="127.0.0.1",
            port=self._last_port,
            pid=pid,
            since_s=self.now_s,
            restarts=restarts,
        )
        self._logs.setdefault(variant, []).append(f"{self.now_s:.0f} starting as process {pid}")
        if self._starts_in_steps == 0 and variant not in self._broken:
            self._set(variant, "ready", "")

    def _fill(self, variant: VariantId) -> None:
        """Have as many further replicas as are asked for."""
        wanted, further = self.specs[variant].replicas - 1, self._further.get(variant, ())
        lacking = max(0, wanted - len(further))
        fresh = range(self._last_port + 1, self._last_port + 1 + lacking)
        self._last_port += lacking
        self._further[variant] = (*further[:wanted], *fresh)

    def _with_further(self, variant: VariantId) -> VariantState:
        state = self._states[variant]
        if state.phase != "ready":
            return state
        return replace(state, replicas=tuple(("127.0.0.1", port) for port in self._further.get(variant, ())))

    def _miss(self, variant: VariantId, state: VariantState) -> None:
        deadline_s = self.specs[variant].ready_deadline_s
        if self.now_s > state.since_s + deadline_s:
            self._set(variant, "failed", f"not ready within {deadline_s:g} s")

    def _set(self, variant: VariantId, phase: Phase, reason: str) -> None:
        old = self._states[variant]
        # What missed its deadline runs on, and is not started again.
        pid = None if phase == "stopped" else old.pid
        self._states[variant] = replace(old, phase=phase, pid=pid, since_s=self.now_s, reason=reason)
        self._logs[variant].append(f"{self.now_s:.0f} {phase} {reason}".rstrip())


class FakeRouter:
    """A router that takes a table when a test steps it, or at once. A `Router`.

    Attributes:
        published: Every table that was asked for, in order.
        active: Requests under way, by variant; a test sets them to hold `drained` back.
        healthy: Asks whether a variant passes the gateway's health check; by default every one does.
        is_reachable: While false, every question is unknown and `publish` and `observed` raise.
    """

    def __init__(
        self, *, applies_at_once: bool = True, healthy: Callable[[VariantId], bool] | None = None
    ) -> None:
        self.published: list[Table] = []
        self.active: Counter[VariantId] = Counter()
        self.healthy = healthy or (lambda _: True)
        self.is_reachable = True
        self._applies_at_once = applies_at_once
        self._running = Table(routes=())
        self._refuse_next: str | None = None
        self._refused: dict[Revision, str] = {}

    @property
    def running(self) -> Table:
        """The table that traffic follows now."""
        return self._running

    def publish(self, table: Table, *, allow_empty: bool = False) -> Revision:
        """Remember the table. See `Router.publish`."""
        self._check_reachable()
        wished = self.published[-1] if self.published else self._running
        if not table.routes and wished.routes and not allow_empty:
            raise ConflictError("an empty table", "would take every endpoint away", "pass allow_empty=True")
        revision = table.revision()
        if self._refuse_next is not None:
            self._refused[revision], self._refuse_next = self._refuse_next, None
        if revision not in self._refused and (not self.published or self.published[-1] != table):
            self.published.append(table)
        if self._applies_at_once:
            self.step()
        return revision

    def applied(self, revision: Revision) -> Answer:
        """Answer whether the running table has this revision. See `Router.applied`."""
        return Answer.of(self._running.revision() == revision if self.is_reachable else None)

    def rejection(self, revision: Revision) -> str | None:
        """Return the reason that a test gave. See `Router.rejection`."""
        return self._refused.get(revision)

    def observed(self, handle: str) -> Split | None:
        """Return the split of the running table. See `Router.observed`."""
        self._check_reachable()
        route = self._running.route(handle)
        return None if route is None else route.split

    def observed_routes(self, handle: str) -> SideRoutes:
        """Return what the running table has beside the split. See `Router.observed_routes`."""
        self._check_reachable()
        route = self._running.route(handle)
        return SideRoutes() if route is None else route.side_routes

    def warm(self, variant: VariantId) -> Answer:
        """Answer whether the running table has the variant and `healthy` agrees. See `Router.warm`."""
        if not self.is_reachable:
            return Answer.UNKNOWN
        route = self._running.route(variant.handle)
        has_it = route is not None and any(backend.version == variant.version for backend in route.backends)
        return Answer.of(has_it and self.healthy(variant))

    def drained(self, variant: VariantId) -> Answer:
        """Answer whether a test left no request under way. See `Router.drained`."""
        return Answer.of(self.active[variant] == 0 if self.is_reachable else None)

    def in_flight(self, variant: VariantId) -> int:
        """Return what a test left under way. See `Router.in_flight`."""
        self._check_reachable()
        return self.active[variant]

    def step(self) -> None:
        """Let the gateway take the table that was published last."""
        if self.published:
            self._running = self.published[-1]

    def refuse_next(self, reason: str) -> None:
        """Let the gateway refuse the next revision, and keep what it has."""
        self._refuse_next = reason

    def _check_reachable(self) -> None:
        if not self.is_reachable:
            raise TransportError("fake gateway", "a test made it unreachable")


class FakeSource:
    """A source of the attempts that a test adds. A `Source`.

    Attributes:
        is_reachable: While false, `read` raises.
    """

    def __init__(self, attempts: Iterable[Attempt] = ()) -> None:
        self.is_reachable = True
        # None stands for something that happened and is lost.
        self._events: list[Attempt | None] = list(attempts)

    def add(self, *attempts: Attempt) -> None:
        """Let attempts happen."""
        self._events.extend(attempts)

    def lose(self) -> None:
        """Let an attempt happen that nobody will ever know of."""
        self._events.append(None)

    def end(self) -> str:
        """Return the cursor behind the last attempt. See `Source.end`."""
        if not self.is_reachable:
            raise TransportError("fake source", "a test made it unreachable")
        return str(len(self._events))

    def read(self, cursor: str) -> Batch:
        """Return what was added since. See `Source.read`."""
        if not self.is_reachable:
            raise TransportError("fake source", "a test made it unreachable")
        if cursor and not cursor.isdecimal():
            raise InvalidSpecError((f"not a cursor of this source: {cursor!r}",), "cursor")
        events = self._events[int(cursor or 0) :]
        attempts = tuple(event for event in events if event is not None)
        return Batch(
            attempts=attempts,
            cursor=str(len(self._events)),
            is_complete=len(attempts) == len(events),
            broken=len(events) - len(attempts),
        )


def attempt(**changes: object) -> Attempt:
    """Return an attempt of a user on version 1 that went well, with changes."""
    usual = Attempt(
        at_s=1_000_000.0,
        handle="digits",
        request_id="8e3a6c1e-0f5d-4c1e-9d0e-5f6a7b8c9d0e",
        unit="user:ada",
        assigned=1,
        answered=1,
        status=200,
        flags="",
        duration_ms=5.0,
        number=1,
    )
    return replace(usual, **changes)  # type: ignore[arg-type]
