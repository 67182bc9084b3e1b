"""The fakes that Taxiway ships keep the contracts, and do what a test tells them."""

from collections.abc import Callable

import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.contracts import (
    Crash,
    RouterContract,
    Running,
    RuntimeContract,
    SourceContract,
    Until,
)
from taxiway_serving.errors import TransportError
from taxiway_serving.names import VariantId
from taxiway_serving.routing.router import Backend, Route, Table
from taxiway_serving.runtimes.runtime import VariantSpec
from taxiway_serving.split import Split
from taxiway_serving.testing import FakeRouter, FakeRuntime, FakeSource

FIRST = VariantId(handle="digits", version=1)


def stepping(step: Callable[[], None]) -> Until:
    def until(condition: Callable[[], bool]) -> None:
        for _ in range(100):
            if condition():
                return
            step()
        raise AssertionError("still not so after 100 steps")

    return until


def backend(version: int) -> Backend:
    return Backend(version=version, host="127.0.0.1", port=20_000 + version, model=f"digits/{version}")


def table(version: int) -> Table:
    route = Route(handle="digits", split=Split.whole(version), backends=(backend(version),))
    return Table(routes=(route,))


class TestFakeRuntime(RuntimeContract):
    @pytest.fixture
    def runtime(self) -> FakeRuntime:
        return FakeRuntime()

    takes_requests = False

    @pytest.fixture
    def until(self, runtime: FakeRuntime) -> Until:
        return stepping(runtime.step)

    @pytest.fixture
    def heir(self, runtime: FakeRuntime) -> Callable[[], FakeRuntime]:
        return lambda: runtime

    @pytest.fixture
    def never_ready(self, runtime: FakeRuntime) -> Callable[[VariantSpec], VariantSpec]:
        def broken(spec: VariantSpec) -> VariantSpec:
            runtime.break_(spec.variant, misses_deadline=True)
            return spec

        return broken

    @pytest.fixture
    def running(self, runtime: FakeRuntime) -> Running:
        return runtime.running

    @pytest.fixture
    def crash(self, runtime: FakeRuntime) -> Crash:
        return runtime.kill_replica

    @pytest.fixture
    def limits_of(self, runtime: FakeRuntime) -> Callable[[VariantId], tuple[float | None, int | None]]:
        return lambda variant: (runtime.specs[variant].cpus, runtime.specs[variant].memory_bytes)

    @pytest.fixture
    def ask(self) -> None:
        return None


class TestFakeRouter(RouterContract):
    @pytest.fixture(params=[True, False], ids=["at_once", "stepped"])
    def router(self, request: pytest.FixtureRequest) -> FakeRouter:
        return FakeRouter(applies_at_once=request.param)

    @pytest.fixture
    def make_backend(self) -> Callable[[int], Backend]:
        return backend

    @pytest.fixture
    def until(self, router: FakeRouter) -> Until:
        return stepping(router.step)


class TestFakeSource(SourceContract):
    @pytest.fixture
    def source(self) -> FakeSource:
        return FakeSource()

    @pytest.fixture
    def add(self, source: FakeSource) -> Callable[..., None]:
        return source.add

    @pytest.fixture
    def lose(self, source: FakeSource) -> Callable[[], None]:
        return source.lose


def test_fake_runtime_starts_a_killed_variant_again(make_spec: Callable[..., VariantSpec]) -> None:
    runtime = FakeRuntime(starts_in_steps=0)
    runtime.ensure(make_spec(1))
    runtime.kill(FIRST)
    assert runtime.ready(FIRST) is Answer.NO
    runtime.ensure(make_spec(1))
    assert runtime.observe()[FIRST].restarts == 1
    assert runtime.ready(FIRST) is Answer.YES


def test_fake_runtime_knows_what_cannot_be_found_out(make_spec: Callable[..., VariantSpec]) -> None:
    runtime = FakeRuntime(starts_in_steps=0)
    runtime.ensure(make_spec(1))
    runtime.unreachable.add(FIRST)
    assert runtime.ready(FIRST) is Answer.UNKNOWN


def test_fake_runtime_keeps_a_broken_variant_from_getting_ready(
    make_spec: Callable[..., VariantSpec],
) -> None:
    runtime = FakeRuntime()
    runtime.break_(FIRST)
    runtime.ensure(make_spec(1))
    runtime.step()
    runtime.step()
    assert runtime.observe()[FIRST].phase == "starting"


def test_fake_router_keeps_what_it_has_when_it_refuses() -> None:
    router = FakeRouter()
    router.publish(table(1))
    router.refuse_next("bad address")
    refused = router.publish(table(2))
    assert router.rejection(refused) == "bad address"
    assert router.applied(refused) is Answer.NO
    assert router.observed("digits") == Split.whole(1)


def test_fake_router_that_is_unreachable_knows_nothing() -> None:
    router = FakeRouter()
    revision = router.publish(table(1))
    router.is_reachable = False
    assert {router.applied(revision), router.warm(FIRST), router.drained(FIRST)} == {Answer.UNKNOWN}
    with pytest.raises(TransportError):
        router.observed("digits")


def test_fake_source_that_is_unreachable_is_not_an_empty_batch() -> None:
    source = FakeSource()
    source.is_reachable = False
    with pytest.raises(TransportError):
        source.read("")
