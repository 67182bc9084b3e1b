"""A serving plane in memory: the real controller and store over the shipped fakes, with clock and traffic."""

from collections.abc import Callable
from pathlib import Path

from taxiway_serving.controller.commands import Commands
from taxiway_serving.controller.senses import NoSenses, Senses
from taxiway_serving.controller.tick import Reconciler
from taxiway_serving.evidence.source import Attempt
from taxiway_serving.ledger.sql import SqlStore
from taxiway_serving.ledger.store import Rollout
from taxiway_serving.names import VariantId
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.runtimes.runtime import VariantSpec
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
        was_bad_from_its_first_request: Whether a test let the candidate fail before it had traffic.
    """

    def __init__(self, home: Path, *, applies_at_once: bool = True) -> None:
        self.home = home
        for name in ("bento", "model", "python"):
            (home / name).mkdir(parents=True, exist_ok=True)
        self.runtime, self.source = FakeRuntime(), FakeSource()
        self.router = FakeRouter(
            applies_at_once=applies_at_once, healthy=lambda variant: self.phase(variant.version) == "ready"
        )
        self.fails: Fails = _never
        self.requests = 0
        self.senses: Senses = NoSenses()
        self.was_bad_from_its_first_request = False
        self.store = SqlStore(f"sqlite:///{home / 'controller.db'}")
        self.restart()

    def close(self) -> None:
        self.store.close()

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
        )
        self.commands = Commands(
            store=self.store, lock=self.reconciler.lock, home=self.home, clock=lambda: self.now_s
        )

    def spec(self, version: int, **options: str) -> VariantSpec:
        return VariantSpec(
            handle=HANDLE,
            version=version,
            model=f"{HANDLE}/{version}",
            bento_dir=self.home / "bento",
            python=self.home / "python",
            model_dir=self.home / "model",
            environment=options,
        )

    def deploy(self, version: int) -> None:
        self.commands.deploy(self.spec(version), actor="ann")

    def roll_out(self, version: int, *, rollout_id: str | None = None, strategy: str = "canary") -> Rollout:
        return self.commands.start(
            RolloutSpec(
                id=rollout_id or f"to-{version}", handle=HANDLE, version=version, strategy=strategy, warm_s=60
            )
        )

    def tick(self, times: int = 1, *, requests: int = 0) -> None:
        """Let a second pass with this many requests, then let the controller look; so many times."""
        for _ in range(times):
            self.runtime.step()
            self._traffic(requests)
            self.reconciler.tick()

    def go_live(self, version: int) -> None:
        """Deploy a version and give it all the traffic."""
        self.deploy(version)
        self.tick(3)
        self.roll_out(version)
        for _ in range(200):
            self.tick(requests=100)
            if self.stable == version and self.router.observed(HANDLE) == Split.whole(version):
                return
        raise AssertionError(f"version {version} did not go live: {self.rollout(f'to-{version}').state}")

    def phase(self, version: int) -> str:
        state = self.runtime.observe().get(VariantId(handle=HANDLE, version=version))
        return state.phase if state else "absent"

    @property
    def stable(self) -> int | None:
        endpoint = self.store.fleet().endpoint(HANDLE)
        return endpoint.stable if endpoint else None

    def rollout(self, rollout_id: str) -> Rollout:
        found = self.store.rollout(rollout_id)
        assert found is not None
        return found

    def _traffic(self, requests: int) -> None:
        route = self.router.running.route(HANDLE)
        split = route.split if route else None
        if split is None:
            return
        for _ in range(requests):
            self.requests += 1
            place, version = self.requests * 7919 % TOTAL_PARTS, split.stable
            for candidate, parts in split.parts.items():
                if place < parts:
                    version = candidate
                    break
                place -= parts
            is_bad = self.fails(version, self.requests)
            self._attempt(version, version, 1, 500 if is_bad else 200)
            if is_bad and version != split.stable:
                self._attempt(version, split.stable, 2, 200)

    def _attempt(self, assigned: int, answered: int, number: int, status: int) -> None:
        request_id = f"request-{self.requests}"
        self.source.add(
            Attempt(
                at_s=self.now_s,
                handle=HANDLE,
                request_id=request_id,
                unit=f"request:{request_id}",
                assigned=assigned,
                answered=answered,
                status=status,
                flags="",
                duration_ms=2.0,
                number=number,
            )
        )
