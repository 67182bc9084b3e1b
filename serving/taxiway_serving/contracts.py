"""The contracts of the Protocols: classes of tests that every implementation runs, the shipped fakes first.

A test module subclasses one and gives the fixtures that its docstring names. Nothing of pytest is imported here.
"""

# ruff: noqa: S101  # a contract is made of assertions

from collections.abc import Callable

from taxiway_serving.answers import Answer
from taxiway_serving.errors import ConflictError, InvalidSpecError
from taxiway_serving.evidence.source import Source
from taxiway_serving.names import VariantId
from taxiway_serving.routing.router import Backend, Route, Router, Table
from taxiway_serving.routing.side_routes import HeaderRoute, Members, Mirror, SideRoutes
from taxiway_serving.runtimes.runtime import Runtime, VariantSpec, VariantState
from taxiway_serving.split import Split
from taxiway_serving.testing import attempt

MakeSpec = Callable[..., VariantSpec]
MakeBackend = Callable[[int], Backend]
Until = Callable[[Callable[[], bool]], None]
Add = Callable[..., None]
Running = Callable[[VariantId], set[str]]
Crash = Callable[[VariantId], None]
Ask = Callable[[VariantState], Callable[[], int]]


class RuntimeContract:
    """What every `Runtime` keeps to; `docs/runtimes.md` says it in words.

    Fixtures, the last five of which look at the world past the runtime:
        runtime: The runtime.
        make_spec: Returns a specification of a version that can run, with changes.
        until: Lets time pass until a condition holds and fails if it never does.
        heir: Returns a further runtime over the same home, as a controller that starts again has.
        never_ready: Returns a specification changed so that it runs, says something in its log and is never ready.
        running: Returns the names of what runs for a variant, one for each replica.
        crash: Ends one replica of a variant, as `kill -9` would.
        limits_of: Returns the processors and the bytes of memory that the first replica of a variant is held to.
        ask: Begins a request that is under way until the variant is to end, and returns a function that waits for its
            status.

    Attributes:
        has_limits: Whether the runtime holds limits; one that does not refuses a specification with any.
        takes_requests: Whether its variants can be asked something.
    """

    has_limits = True
    takes_requests = True

    def test_a_variant_that_is_ensured_becomes_ready(
        self, runtime: Runtime, make_spec: MakeSpec, until: Until
    ) -> None:
        spec = make_spec(1)
        runtime.ensure(spec)
        assert runtime.observe()[spec.variant].phase in {"starting", "ready"}
        ensured_until_ready(runtime, spec, until)
        state = runtime.observe()[spec.variant]
        assert (state.phase, state.restarts, state.replicas) == ("ready", 0, ())
        assert state.host
        assert state.port
        assert runtime.logs(spec.variant, tail=5)

    def test_a_variant_runs_once_however_often_it_is_ensured_and_whoever_does_it(
        self,
        runtime: Runtime,
        make_spec: MakeSpec,
        until: Until,
        heir: Callable[[], Runtime],
        running: Running,
    ) -> None:
        spec = make_spec(1)
        ensured_until_ready(runtime, spec, until)
        first = running(spec.variant)
        runtime.ensure(spec)
        runtime.close()
        adopter = heir()
        assert adopter.observe()[spec.variant].phase == "ready"
        adopter.ensure(spec)
        assert answered(adopter, spec.variant, until) is Answer.YES
        assert len(first) == 1
        assert running(spec.variant) == first
        adopter.stop(spec.variant, grace_s=5)
        assert running(spec.variant) == set()

    def test_a_changed_specification_replaces(
        self, runtime: Runtime, make_spec: MakeSpec, until: Until, running: Running
    ) -> None:
        ensured_until_ready(runtime, make_spec(1), until)
        variant = make_spec(1).variant
        first = running(variant)
        ensured_until_ready(
            runtime, make_spec(1, environment={"MODE": "other"}), until, but_not=first, running=running
        )
        assert len(running(variant)) == 1
        assert running(variant) != first

    def test_a_stopped_variant_is_not_ready_and_can_run_again(
        self, runtime: Runtime, make_spec: MakeSpec, until: Until, running: Running
    ) -> None:
        spec = make_spec(1)
        ensured_until_ready(runtime, spec, until)
        for _ in range(2):
            runtime.stop(spec.variant, grace_s=5)
            assert runtime.ready(spec.variant) is Answer.NO
            assert runtime.observe()[spec.variant].phase == "stopped"
        assert running(spec.variant) == set()
        assert runtime.logs(spec.variant, tail=50)
        ensured_until_ready(runtime, spec, until)
        assert runtime.observe()[spec.variant].restarts == 0

    def test_a_copy_runs_beside_the_original(
        self, runtime: Runtime, make_spec: MakeSpec, until: Until
    ) -> None:
        original, copy = make_spec(1), make_spec(1, copy=1)
        for spec in (original, copy):
            ensured_until_ready(runtime, spec, until)
        seen = runtime.observe()
        addresses = {(seen[spec.variant].host, seen[spec.variant].port) for spec in (original, copy)}
        assert len(addresses) == 2
        runtime.stop(copy.variant, grace_s=5)
        assert runtime.ready(copy.variant) is Answer.NO
        assert answered(runtime, original.variant, until) is Answer.YES

    def test_replicas_have_addresses_and_follow_their_number(
        self, runtime: Runtime, make_spec: MakeSpec, until: Until, running: Running
    ) -> None:
        spec = make_spec(1, replicas=2)
        ensured_until_ready(runtime, spec, until)
        until(lambda: len(addresses_of(runtime, spec.variant)) == 2)
        first = running(spec.variant)
        assert len(first) == 2
        more = make_spec(1, replicas=3)
        until(lambda: ensured(runtime, more) and len(addresses_of(runtime, spec.variant)) == 3)
        assert first < running(spec.variant)
        runtime.ensure(make_spec(1, replicas=1))
        until(lambda: len(running(spec.variant)) == 1)
        until(lambda: len(addresses_of(runtime, spec.variant)) == 1)
        assert answered(runtime, spec.variant, until) is Answer.YES

    def test_a_crashed_replica_is_replaced_while_the_other_answers(
        self, runtime: Runtime, make_spec: MakeSpec, until: Until, running: Running, crash: Crash
    ) -> None:
        spec = make_spec(1, replicas=2)
        ensured_until_ready(runtime, spec, until)
        until(lambda: len(addresses_of(runtime, spec.variant)) == 2)
        before = running(spec.variant)
        crash(spec.variant)
        until(lambda: running(spec.variant) < before)
        assert answered(runtime, spec.variant, until) is Answer.YES
        until(lambda: ensured(runtime, spec) and len(addresses_of(runtime, spec.variant)) == 2)
        assert len(running(spec.variant)) == 2
        assert len(running(spec.variant) - before) == 1
        state = runtime.observe()[spec.variant]
        assert (state.phase, state.restarts) == ("ready", 1)

    def test_a_crashed_variant_comes_back(
        self, runtime: Runtime, make_spec: MakeSpec, until: Until, crash: Crash
    ) -> None:
        spec = make_spec(1)
        ensured_until_ready(runtime, spec, until)
        crash(spec.variant)
        until(lambda: runtime.ready(spec.variant) is Answer.NO)
        until(lambda: ensured(runtime, spec) and runtime.ready(spec.variant) is Answer.YES)
        assert runtime.observe()[spec.variant].restarts == 1

    def test_a_variant_that_misses_its_deadline_has_failed_and_its_log_says_more(
        self,
        runtime: Runtime,
        make_spec: MakeSpec,
        until: Until,
        never_ready: Callable[[VariantSpec], VariantSpec],
    ) -> None:
        spec = never_ready(make_spec(1, ready_deadline_s=2.0))
        runtime.ensure(spec)
        until(lambda: ensured(runtime, spec) and runtime.observe()[spec.variant].phase == "failed")
        assert "not ready within 2 s" in runtime.observe()[spec.variant].reason
        assert answered(runtime, spec.variant, until) is Answer.NO
        until(lambda: bool(runtime.logs(spec.variant, tail=5)))
        runtime.stop(spec.variant, grace_s=5)
        assert runtime.observe()[spec.variant].phase == "stopped"

    def test_limits_are_held_or_refused(
        self,
        runtime: Runtime,
        make_spec: MakeSpec,
        until: Until,
        limits_of: Callable[[VariantId], tuple[float, int]],
    ) -> None:
        spec = make_spec(1, cpus=0.5, memory_bytes=256 * 2**20)
        if self.has_limits:
            ensured_until_ready(runtime, spec, until)
            assert limits_of(spec.variant) == (0.5, 256 * 2**20)
            return
        refused: tuple[str, ...] = ()
        try:
            runtime.ensure(spec)
        except InvalidSpecError as error:
            refused = error.faults
        assert any("cpus" in fault for fault in refused)
        assert spec.variant not in runtime.observe()

    def test_a_request_under_way_is_answered_before_the_end(
        self, runtime: Runtime, make_spec: MakeSpec, until: Until, ask: Ask
    ) -> None:
        if not self.takes_requests:
            return
        spec = make_spec(1)
        ensured_until_ready(runtime, spec, until)
        status = ask(runtime.observe()[spec.variant])
        runtime.stop(spec.variant, grace_s=60)
        assert status() == 200

    def test_an_unknown_variant_is_already_stopped(self, runtime: Runtime, make_spec: MakeSpec) -> None:
        stranger = make_spec(99).variant
        runtime.stop(stranger, grace_s=5)
        assert runtime.ready(stranger) is Answer.NO
        assert runtime.logs(stranger, tail=5) == ""
        assert stranger not in runtime.observe()


def answered(runtime: Runtime, variant: VariantId, until: Until) -> Answer:
    """Return whether a variant is ready; asked again while a slow machine keeps that from being found out in time."""
    answers: list[Answer] = []

    def is_known() -> bool:
        answers.append(runtime.ready(variant))
        return answers[-1] is not Answer.UNKNOWN

    until(is_known)
    return answers[-1]


def ensured(runtime: Runtime, spec: VariantSpec) -> bool:
    """Ensure a variant once more, as every tick of the controller does, and return True."""
    runtime.ensure(spec)
    return True


def ensured_until_ready(
    runtime: Runtime,
    spec: VariantSpec,
    until: Until,
    *,
    but_not: frozenset[str] | set[str] = frozenset(),
    running: Callable[[VariantId], set[str]] = lambda _variant: set(),
) -> None:
    """Ensure a variant as the controller does, tick by tick, until it is ready and none of some replicas is left."""

    def is_so() -> bool:
        runtime.ensure(spec)
        return runtime.ready(spec.variant) is Answer.YES and not (but_not and running(spec.variant) & but_not)

    until(is_so)
    until(lambda: runtime.observe()[spec.variant].phase == "ready")


def addresses_of(runtime: Runtime, variant: VariantId) -> set[tuple[str, int]]:
    """Return where the replicas of a variant take requests."""
    state = runtime.observe()[variant]
    return {(state.host, state.port), *state.replicas} if state.phase == "ready" else set()


class RouterContract:
    """What every `Router` keeps to.

    Fixtures: `router`, with nothing published; `make_backend`, which returns a healthy backend of a version; `until`,
    which lets time pass until a condition holds and fails if it never does.
    """

    def test_weights_read_back(self, router: Router, make_backend: MakeBackend, until: Until) -> None:
        for canary_pct in (5, 25, 100):
            split = Split.of(1, {2: canary_pct})
            revision = router.publish(_table(split, make_backend(1), make_backend(2)))
            until(lambda revision=revision: router.applied(revision) is Answer.YES)  # type: ignore[misc]
            assert router.observed("digits") == split

    def test_equal_tables_have_one_revision(
        self, router: Router, make_backend: MakeBackend, until: Until
    ) -> None:
        revision = router.publish(_table(Split.whole(1), make_backend(1)))
        until(lambda: router.applied(revision) is Answer.YES)
        assert router.publish(_table(Split.whole(1), make_backend(1))) == revision
        assert router.applied(revision) is Answer.YES
        assert router.rejection(revision) is None

    def test_a_table_that_was_not_published_is_not_applied(
        self, router: Router, make_backend: MakeBackend
    ) -> None:
        assert router.applied(_table(Split.whole(1), make_backend(1)).revision()) is Answer.NO

    def test_a_handle_that_is_not_live_has_no_split(
        self, router: Router, make_backend: MakeBackend, until: Until
    ) -> None:
        revision = router.publish(_table(None, make_backend(1)))
        until(lambda: router.applied(revision) is Answer.YES)
        assert router.observed("digits") is None
        assert router.observed("stranger") is None

    def test_side_routes_read_back_and_go(
        self, router: Router, make_backend: MakeBackend, until: Until
    ) -> None:
        by_header = HeaderRoute(header="X-Beta", value="a|b (c)", version=2)
        by_cookie = HeaderRoute(cookie="segment", value="new", version=1)
        wished = SideRoutes(
            headers=(by_header, by_cookie),
            mirror=Mirror(host="127.0.0.1", port=9, sample_pct=0.07),
            members=Members(version=2, units=("user:ann", "user:a.b|c\\d e", "cookie:8e3a6c1e-0f5d")),
        )
        for side in (wished, SideRoutes(headers=(by_cookie,)), SideRoutes()):
            revision = router.publish(_table(Split.whole(1), make_backend(1), make_backend(2), side=side))
            until(lambda revision=revision: router.applied(revision) is Answer.YES)  # type: ignore[misc]
            assert router.observed_routes("digits") == side
            assert router.observed("digits") == Split.whole(1)
        assert router.observed_routes("stranger") == SideRoutes()

    def test_a_backend_gets_warm(self, router: Router, make_backend: MakeBackend, until: Until) -> None:
        router.publish(_table(None, make_backend(1)))
        until(lambda: router.warm(VariantId(handle="digits", version=1)) is Answer.YES)
        assert router.warm(VariantId(handle="digits", version=2)) is Answer.NO

    def test_an_idle_variant_is_drained(
        self, router: Router, make_backend: MakeBackend, until: Until
    ) -> None:
        revision = router.publish(_table(Split.whole(1), make_backend(1)))
        until(lambda: router.applied(revision) is Answer.YES)
        assert router.drained(VariantId(handle="digits", version=1)) is Answer.YES

    def test_an_empty_table_needs_a_word(
        self, router: Router, make_backend: MakeBackend, until: Until
    ) -> None:
        first = router.publish(_table(Split.whole(1), make_backend(1)))
        until(lambda: router.applied(first) is Answer.YES)
        refused = False
        try:
            router.publish(Table(routes=()))
        except ConflictError:
            refused = True
        assert refused
        assert router.observed("digits") == Split.whole(1)
        empty = router.publish(Table(routes=()), allow_empty=True)
        until(lambda: router.applied(empty) is Answer.YES)
        assert router.observed("digits") is None


class SourceContract:
    """What every `Source` keeps to.

    Fixtures: `source`, with nothing in it; `add`, which lets attempts happen; `lose`, which lets something happen that
    the source can no longer tell.
    """

    def test_nothing_is_an_empty_batch(self, source: Source) -> None:
        batch = source.read("")
        assert batch.attempts == ()
        assert batch.is_complete

    def test_each_attempt_comes_once_and_in_order(self, source: Source, add: Add) -> None:
        add(attempt(number=1), attempt(number=2))
        first = source.read("")
        add(attempt(status=500))
        second = source.read(first.cursor)
        assert [a.number for a in first.attempts] == [1, 2]
        assert second.attempts == (attempt(status=500),)
        assert source.read(second.cursor).attempts == ()

    def test_the_same_cursor_gives_the_same_again(self, source: Source, add: Add) -> None:
        add(attempt(), attempt(status=500))
        cursor = source.read("").cursor
        add(attempt(status=503))
        assert source.read(cursor) == source.read(cursor)
        assert len(source.read("").attempts) == 3

    def test_what_is_lost_is_told_once(self, source: Source, add: Add, lose: Callable[[], None]) -> None:
        add(attempt())
        lose()
        first = source.read("")
        assert not first.is_complete
        assert source.read(first.cursor).is_complete


def _table(split: Split | None, *backends: Backend, side: SideRoutes = SideRoutes()) -> Table:  # noqa: B008
    route = Route(
        handle="digits",
        split=split,
        backends=backends,
        headers=side.headers,
        mirror=side.mirror,
        members=side.members,
    )
    return Table(routes=(route,))
