"""A serving plane in memory: the real controller and store over the shipped fakes, with clock and traffic."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.replaying import differences
from taxiway_serving.controller.commands import Commands
from taxiway_serving.controller.senses import NoSenses, Senses
from taxiway_serving.controller.tick import Reconciler
from taxiway_serving.evidence.source import Attempt
from taxiway_serving.ledger.outbox_sql import SqlOutbox
from taxiway_serving.ledger.sql import SqlStore
from taxiway_serving.ledger.store import Rollout
from taxiway_serving.names import VariantId, Via
from taxiway_serving.rollout.spec import RolloutSpec, spec_from_json
from taxiway_serving.rollout.state import RolloutState
from taxiway_serving.routing.router import Route
from taxiway_serving.runtimes.runtime import VariantSpec
from taxiway_serving.settings import MOST_ROLLOUTS, ROLLBACK_WINDOW
from taxiway_serving.split import TOTAL_PARTS, Split
from taxiway_serving.testing import FakeRouter, FakeRuntime, FakeSource

HANDLE = "digits"
Fails = Callable[[int, int], bool]
"""Whether this version fails request number n."""


def _never(_version: int, _number: int) -> bool:
    return False


class Plane:
    """The controller over fakes.

    Attributes:
        fails: Which requests which version fails; the traffic of `tick` asks it.
        users: So many users send the requests in turn, each with an id; 0 is nobody that can be known again.
        headers: What the next requests carry, as the gateway's header routes ask for it.
        most_rollouts: Rollouts that may run at once, from the next `restart` on.
        rollback_window: So many versions that were live before may be gone back to, from the next `restart` on.
        was_bad_from_its_first_request: Whether a test let the candidate fail before it had traffic.
    """

    def __init__(self, home: Path, *, applies_at_once: bool = True) -> None:
        self.home = home
        for name in ("bento", "model", "python"):
            (home / name).mkdir(parents=True, exist_ok=True)
        self.runtime, self.source = FakeRuntime(), FakeSource()
        self.router = FakeRouter(applies_at_once=applies_at_once, healthy=self.is_healthy)
        self.fails: Fails = _never
        self.requests = self.users = 0
        self.headers: dict[str, str] = {}
        self.most_rollouts, self.rollback_window = MOST_ROLLOUTS, ROLLBACK_WINDOW
        self.senses: Senses = NoSenses()
        self.was_bad_from_its_first_request = False
        self._url = f"sqlite:///{home / 'controller.db'}"
        self.store, self.outbox = SqlStore(self._url, keeps_deliveries=True), SqlOutbox(self._url)
        self.restart()

    def close(self) -> None:
        """Close the store, and decide everything again that its ledger says was decided."""
        self.store.close()
        self.outbox.close()
        assert [*differences(self._url)] == []

    @property
    def now_s(self) -> float:
        return self.runtime.now_s

    def restart(self) -> None:
        """Put a new controller in the place of the old one, as after `kill -9`: only the store is left of it."""
        self.reconciler = Reconciler(
            store=self.store,
            runtime=self.runtime,
            router=self.router,
            source=self.source,
            clock=lambda: self.now_s,
            senses=self.senses,
            most_rollouts=self.most_rollouts,
        )
        self.commands = Commands(
            store=self.store,
            lock=self.reconciler.lock,
            home=self.home,
            clock=lambda: self.now_s,
            most_rollouts=self.most_rollouts,
            rollback_window=self.rollback_window,
            settle=self.reconciler.settle,
        )

    def spec(self, version: int, *, handle: str = HANDLE, **options: str) -> VariantSpec:
        return VariantSpec(
            handle=handle,
            version=version,
            model=f"{handle}/{version}",
            bento_dir=self.home / "bento",
            python=self.home / "python",
            model_dir=self.home / "model",
            environment=options,
        )

    def deploy(self, version: int, *, handle: str = HANDLE) -> None:
        self.commands.deploy(self.spec(version, handle=handle), actor="ann")

    def roll_out(self, version: int, *, rollout_id: str | None = None, strategy: str = "canary") -> Rollout:
        return self.commands.start(
            RolloutSpec(
                id=rollout_id or f"to-{version}", handle=HANDLE, version=version, strategy=strategy, warm_s=60
            )
        )

    def begin(self, version: int, *, name: str, handle: str = HANDLE, **body: Any) -> Rollout:
        """Start a rollout as a caller does, from plain JSON."""
        usual = {"id": name, "handle": handle, "version": version, "actor": "ann", "warm_s": 60}
        return self.commands.start(spec_from_json({**usual, **body}))

    def act(self, name: str, verb: str, *, version: int | None = None) -> Rollout:
        """Do one of the verbs, as a person does."""
        handle = self.rollout(name).spec.handle
        return self.commands.act(handle, name, verb, actor="ann", version=version)

    def tick(self, times: int = 1, *, requests: int = 0) -> None:
        """Let a second pass with this many requests, then let the controller look; so many times."""
        for _ in range(times):
            self.runtime.step()
            self._traffic(requests)
            self.reconciler.tick()

    def go_live(self, version: int, *, handle: str = HANDLE) -> None:
        """Deploy a version and give it all the traffic."""
        self.deploy(version, handle=handle)
        self.tick(3)
        name = f"to-{version}" if handle == HANDLE else f"{handle}-to-{version}"
        self.begin(version, name=name, handle=handle)
        for _ in range(200):
            self.tick(requests=100)
            if self.live(handle) == version and self.router.observed(handle) == Split.whole(version):
                return
        raise AssertionError(f"version {version} did not go live: {self.rollout(name).state}")

    def is_healthy(self, variant: VariantId) -> bool:
        # The gateway asks this of each variant at each look: to read every state each time would cost their square.
        return self.runtime.is_ready(variant)

    def phase(self, version: int, *, handle: str = HANDLE) -> str:
        state = self.runtime.observe().get(VariantId(handle=handle, version=version))
        return state.phase if state else "absent"

    @property
    def stable(self) -> int | None:
        return self.live(HANDLE)

    def live(self, handle: str) -> int | None:
        endpoint = self.store.fleet().endpoint(handle)
        return endpoint.stable if endpoint else None

    def weight_pct(self, version: int = 2, *, handle: str = HANDLE) -> float:
        """Return the share of a version that is read back from the gateway."""
        split = self.router.observed(handle)
        return split.weight_pct(version) if split else 0.0

    def state(self, name: str) -> RolloutState:
        return self.rollout(name).state

    def told(self, name: str | None = None) -> list[str]:
        """Return the events that the webhook would be told, of one rollout or of all."""
        due = self.outbox.due(float("inf"), limit=10_000)
        return [each.delivery.event for each in due if name in (None, each.delivery.body["rollout"])]

    def rollout(self, rollout_id: str) -> Rollout:
        found = self.store.rollout(rollout_id)
        assert found is not None
        return found

    def _traffic(self, requests: int) -> None:
        for route in self.router.running.routes:
            if route.split is not None:
                for _ in range(requests):
                    self._request(route, route.split)

    def _request(self, route: Route, split: Split) -> None:
        self.requests += 1
        version, via = self._routed(route, split)
        is_bad = self.fails(version, self.requests)
        self._attempt(route.handle, version, version, 1, 500 if is_bad else 200, via)
        if is_bad and version != split.stable:
            self._attempt(route.handle, version, split.stable, 2, 200, via)

    def _routed(self, route: Route, split: Split) -> tuple[int, Via]:
        for header in route.headers:
            if self.headers.get(header.header or header.cookie) == header.value:
                return header.version, "header"
        if route.members is not None and self._unit in route.members.units:
            return route.members.version, "member"
        place = (self.requests % self.users if self.users else self.requests) * 7919 % TOTAL_PARTS
        for candidate, parts in split.parts.items():
            if place < parts:
                return candidate, "split"
            place -= parts
        return split.stable, "split"

    @property
    def _unit(self) -> str:
        if self.users:
            return f"user:{self.requests % self.users}"
        return f"request:request-{self.requests}"

    def _attempt(self, handle: str, assigned: int, answered: int, number: int, status: int, via: Via) -> None:
        self.source.add(
            Attempt(
                at_s=self.now_s,
                handle=handle,
                request_id=f"request-{self.requests}",
                unit=self._unit,
                assigned=assigned,
                answered=answered,
                status=status,
                flags="",
                duration_ms=2.0,
                number=number,
                via=via,
            )
        )
