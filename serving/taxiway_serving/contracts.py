"""The contracts of the Protocols: classes of tests that every implementation runs, the shipped fakes first.

A test module subclasses one and gives the fixtures that its docstring names. Nothing of pytest is imported here.
"""

# ruff: noqa: S101  # a contract is made of assertions

from collections.abc import Callable

from taxiway_serving.answers import Answer
from taxiway_serving.errors import ConflictError
from taxiway_serving.evidence.source import Source
from taxiway_serving.names import VariantId
from taxiway_serving.routing.router import Backend, Route, Router, Table
from taxiway_serving.routing.side_routes import HeaderRoute, Members, Mirror, SideRoutes
from taxiway_serving.runtimes.runtime import Runtime, VariantSpec
from taxiway_serving.split import Split
from taxiway_serving.testing import attempt

MakeSpec = Callable[..., VariantSpec]
MakeBackend = Callable[[int], Backend]
Until = Callable[[Callable[[], bool]], None]
Add = Callable[..., None]


class RuntimeContract:
    """What every `Runtime` keeps to.

    Fixtures: `runtime`; `make_spec`, which returns a specification of a version that can run, with changes; `until`,
    which lets time pass until a condition holds and fails if it never does.
    """

    def test_a_variant_that_is_ensured_becomes_ready(
        self, runtime: Runtime, make_spec: MakeSpec, until: Until
    ) -> None:
        spec = make_spec(1)
        runtime.ensure(spec)
        until(lambda: runtime.ready(spec.variant) is Answer.YES)
        state = runtime.observe()[spec.variant]
        assert (state.phase, state.restarts) == ("ready", 0)
        assert state.host
        assert state.port
        assert runtime.logs(spec.variant, tail=5)

    def test_ensuring_twice_runs_one(self, runtime: Runtime, make_spec: MakeSpec, until: Until) -> None:
        spec = make_spec(1)
        runtime.ensure(spec)
        first = runtime.observe()[spec.variant].pid
        until(lambda: runtime.ready(spec.variant) is Answer.YES)
        runtime.ensure(spec)
        assert runtime.observe()[spec.variant].pid == first

    def test_a_changed_specification_replaces(
        self, runtime: Runtime, make_spec: MakeSpec, until: Until
    ) -> None:
        runtime.ensure(make_spec(1))
        first = runtime.observe()[make_spec(1).variant].pid
        changed = make_spec(1, environment={"MODE": "other"})
        runtime.ensure(changed)
        until(lambda: runtime.ready(changed.variant) is Answer.YES)
        assert runtime.observe()[changed.variant].pid != first

    def test_a_stopped_variant_is_not_ready(
        self, runtime: Runtime, make_spec: MakeSpec, until: Until
    ) -> None:
        spec = make_spec(1)
        runtime.ensure(spec)
        until(lambda: runtime.ready(spec.variant) is Answer.YES)
        runtime.stop(spec.variant, grace_s=5)
        runtime.stop(spec.variant, grace_s=5)
        assert runtime.ready(spec.variant) is Answer.NO
        assert runtime.observe()[spec.variant].phase == "stopped"

    def test_a_stopped_variant_can_run_again(
        self, runtime: Runtime, make_spec: MakeSpec, until: Until
    ) -> None:
        spec = make_spec(1)
        runtime.ensure(spec)
        runtime.stop(spec.variant, grace_s=5)
        runtime.ensure(spec)
        until(lambda: runtime.ready(spec.variant) is Answer.YES)
        assert runtime.observe()[spec.variant].restarts == 0

    def test_a_copy_runs_beside_the_original(
        self, runtime: Runtime, make_spec: MakeSpec, until: Until
    ) -> None:
        original, copy = make_spec(1), make_spec(1, copy=1)
        for spec in (original, copy):
            runtime.ensure(spec)
            until(lambda spec=spec: runtime.ready(spec.variant) is Answer.YES)  # type: ignore[misc]
        seen = runtime.observe()
        assert seen[original.variant].port != seen[copy.variant].port
        runtime.stop(copy.variant, grace_s=5)
        assert runtime.ready(copy.variant) is Answer.NO
        assert runtime.ready(original.variant) is Answer.YES

    def test_an_unknown_variant_is_already_stopped(self, runtime: Runtime, make_spec: MakeSpec) -> None:
        stranger = make_spec(99).variant
        runtime.stop(stranger, grace_s=5)
        assert runtime.ready(stranger) is Answer.NO
        assert runtime.logs(stranger, tail=5) == ""
        assert stranger not in runtime.observe()


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
