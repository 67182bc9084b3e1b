"""The lease and its fence on a real PostgreSQL: one leads, who slept cannot write, no clock of a host is trusted."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from starlette.applications import Starlette
from starlette.types import ASGIApp

from taxiway_serving.controller.leading import Candidacy
from taxiway_serving.errors import InvalidSpecError, NotLeaderError, TransportError
from taxiway_serving.feedback import Event
from taxiway_serving.ledger.chain import broken_at
from taxiway_serving.ledger.database import Database
from taxiway_serving.ledger.lease_sql import SqlLease
from taxiway_serving.ledger.outbox_sql import SqlOutbox
from taxiway_serving.ledger.rewards import SqlRewards
from taxiway_serving.ledger.sql import SqlStore
from taxiway_serving.ledger.store import Change, Note
from taxiway_serving.ledger.term import Term
from taxiway_serving.ledger.timeline import SqlTimeline
from taxiway_serving.timeline import Served
from tests.postgres import PASSWORD, Postgres
from tests.serving.conftest import tamper, wait_until

pytestmark = pytest.mark.slow
LEASE_S = 30.0
"""Longer than any test: what is over before is over by a hand that the test can see."""


@dataclass(slots=True)
class Clock:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


Stand = Callable[[str], SqlLease]


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.database()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stand(url: str, clock: Clock) -> Iterator[Stand]:
    with ExitStack() as stack:

        def made(name: str) -> SqlLease:
            lease = SqlLease(url, holder=name, address=f"http://{name}", lease_s=LEASE_S, clock=clock)
            return stack.enter_context(closing(lease))

        yield made


def taken(lease: SqlLease) -> Term:
    term = lease.take()
    assert term is not None
    return term


def expire(url: str) -> None:
    """Let the database's clock pass the lease's end."""
    tamper(url, "UPDATE lease SET expires_at_s = 1")


def note(number: int) -> Change:
    text = f"number {number}"
    return Change(notes=(Note(at_s=float(number), handle="digits", kind="verb", actor="ann", reason=text),))


def test_one_leads_and_the_other_knows_who(stand: Stand) -> None:
    one, two = stand("one"), stand("two")
    term = taken(one)
    assert two.take() is None
    assert (one.leader, two.leader, term.fence) == ("http://one", "http://one", 1)


def test_lease_that_is_released_is_taken_at_once(stand: Stand) -> None:
    one, two = stand("one"), stand("two")
    one.release(taken(one))
    assert taken(two).fence == 2


def test_lease_that_is_renewed_goes_on(stand: Stand, url: str, clock: Clock) -> None:
    one, two = stand("one"), stand("two")
    term = taken(one)
    expire(url)
    clock.now_s += LEASE_S - 1
    one.renew(term)
    assert two.take() is None
    clock.now_s += LEASE_S - 1
    assert not term.is_over


def test_old_leader_can_write_nothing_once_another_leads(stand: Stand, url: str) -> None:
    one, two = stand("one"), stand("two")
    old = taken(one)
    with ExitStack() as stack:
        store = stack.enter_context(closing(SqlStore(url, keeps_deliveries=True, term=old)))
        rewards = stack.enter_context(closing(SqlRewards(url, term=old)))
        timeline = stack.enter_context(closing(SqlTimeline(url, term=old)))
        outbox = stack.enter_context(closing(SqlOutbox(url, term=old)))
        store.commit(note(1))
        expire(url)
        new = taken(two)
        event = Event(request_id="r", metric="click", value=1.0, event_at_s=1.0)
        served = Served(
            request_id="r",
            at_s=1.0,
            handle="digits",
            version=1,
            is_bad=False,
            is_client_error=False,
            latency_ms=1.0,
        )
        writes: dict[str, Callable[[], object]] = {
            "state": lambda: store.commit(note(2)),
            "feedback": lambda: rewards.accept([event], now_s=1.0),
            "times": lambda: timeline.record([served], {}, now_s=1.0),
            "messages": lambda: outbox.given_up("id"),
        }
        for what, write in writes.items():
            with pytest.raises(NotLeaderError):
                write()
            assert old.ended.is_set(), what
            old.ended.clear()
        newer = stack.enter_context(closing(SqlStore(url, term=new)))
        newer.commit(note(3))
        told = newer.entries(None, after=0, limit=9)
        assert [entry.reason for entry in told] == ["number 1", "number 3"]
        assert broken_at(told) is None


def test_term_is_over_for_its_holder_before_anybody_else_may_lead(stand: Stand, clock: Clock) -> None:
    """A process that slept finds its term over by a clock that nobody sets, without asking anybody."""
    term = taken(stand("one"))
    clock.now_s += LEASE_S
    assert term.is_over
    with pytest.raises(NotLeaderError):
        term.check()


def test_renewal_that_comes_too_late_ends_the_term(stand: Stand, url: str) -> None:
    one, two = stand("one"), stand("two")
    term = taken(one)
    expire(url)
    taken(two)
    one.renew(term)
    assert term.ended.is_set()
    one.release(term)
    assert one.take() is None


def test_database_clock_that_was_set_back_keeps_nobody_from_leading(
    stand: Stand, url: str, clock: Clock
) -> None:
    one, two = stand("one"), stand("two")
    taken(one)
    tamper(url, "UPDATE lease SET expires_at_s = expires_at_s + 1e9")
    assert two.take() is None
    clock.now_s += 2 * LEASE_S
    assert two.take() is None
    clock.now_s += 1
    assert taken(two).fence == 2


def take_all_at_once(leases: list[SqlLease]) -> list[Term]:
    found: list[Term | None] = []
    threads = [threading.Thread(target=lambda lease=lease: found.append(lease.take())) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(leases)
    return [term for term in found if term is not None]


def test_many_candidates_make_one_leader(stand: Stand, url: str) -> None:
    leases = [stand(f"c{number}") for number in range(6)]
    for fence in (1, 2, 3):
        assert [term.fence for term in take_all_at_once(leases)] == [fence]
        expire(url)


def test_takeover_waits_for_a_commit_under_way_and_refuses_the_next(stand: Stand, url: str) -> None:
    """The transaction that has begun is whole before the new term begins, so that the new leader reads it."""
    one, two = stand("one"), stand("two")
    term = taken(one)
    with closing(Database(url, term=term)) as database:
        with database.writing():
            expire(url)
            thread = threading.Thread(target=two.take)
            thread.start()
            thread.join(timeout=0.3)
            assert thread.is_alive()
        thread.join()
        assert two.leader == "http://two"
        with pytest.raises(NotLeaderError), database.writing():
            pass


def test_leader_that_stops_in_the_middle_of_a_commit_is_not_waited_for_for_ever(
    stand: Stand, url: str
) -> None:
    """As under SIGSTOP: PostgreSQL ends the transaction in which nothing is said, and what it wrote is gone."""
    one, two = stand("one"), stand("two")
    term = taken(one)
    term.lease_s = 0.5
    with closing(Database(url, term=term)) as database:

        def write_and_stop() -> None:
            with database.writing() as connection:
                connection.exec_driver_sql("INSERT INTO cursors VALUES ('attempts', 'half')")
                expire(url)
                assert taken(two).fence == 2
                connection.exec_driver_sql("SELECT 1")

        with pytest.raises(TransportError):
            write_and_stop()
        assert term.ended.is_set()
    with closing(SqlStore(url)) as store:
        assert store.fleet().cursor == ""


def test_leader_that_stops_in_the_middle_of_many_rows_is_not_waited_for_for_ever(
    stand: Stand, url: str
) -> None:
    """They are one message to PostgreSQL, which ends no transaction while it waits for the rest."""
    one = stand("one")
    term = taken(one)
    term.lease_s = 0.5
    with closing(Database(url, term=term)) as database, ExitStack() as sending:

        def write_and_stop() -> None:
            with database.writing() as connection:
                driver: Any = connection.connection.driver_connection
                sending.enter_context(suppress(psycopg.OperationalError))
                sending.enter_context(driver.pipeline())
                cursor = driver.execute("INSERT INTO cursors VALUES ('attempts', 'half') RETURNING 1")
                assert cursor.fetchone() == (1,)
                expire(url)
                with closing(SqlLease(url, holder="two", address="http://two", lease_s=1.0)) as two:
                    assert taken(two).fence == 2
                connection.exec_driver_sql("SELECT 1")

        with pytest.raises(TransportError):
            write_and_stop()
    with closing(SqlStore(url)) as store:
        assert store.fleet().cursor == ""


def test_database_that_went_away_ends_the_term(stand: Stand, url: str) -> None:
    """Whether the last commit was stored, nobody knows: the next term reads it from the tables."""
    term = taken(stand("one"))
    with closing(SqlStore(url, term=term)) as store:
        store.commit(note(1))

        def write_and_lose() -> None:
            with store._database.writing() as connection:
                pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
                tamper(url, f"SELECT pg_terminate_backend({pid})")
                connection.exec_driver_sql("SELECT 1")

        with pytest.raises(TransportError) as caught:
            write_and_lose()
        assert term.ended.is_set()
        assert PASSWORD not in f"{caught.value} {caught.value.__cause__}"


def test_connections_that_went_away_at_rest_are_made_anew(url: str) -> None:
    """As after a restart of PostgreSQL: nobody was in the middle of anything, and nobody notices."""
    with closing(SqlStore(url)) as store:
        store.commit(note(1))
        tamper(
            url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        store.commit(note(2))
        assert len(store.entries(None, after=0, limit=9)) == 2


def test_host_of_the_database_that_says_nothing_is_given_up(url: str) -> None:
    asked = "tcp_user_timeout=7000"
    for address, patience_ms in ((url, "10000"), (f"{url}?{asked}", "7000")):
        with closing(Database(address)) as database, database.reading() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            told = driver.info.get_parameters()
        assert told["tcp_user_timeout"] == patience_ms
        assert (told["keepalives_idle"], told["keepalives_count"]) == ("3", "3")


def test_database_that_is_closed_leaves_no_connection_open(url: str) -> None:
    """A thread that is in the middle of a question when its controller ends gives its connection back too late."""
    database = Database(url)
    with database.reading() as connection:
        driver = connection.connection.driver_connection
        connection.exec_driver_sql("SELECT 1")
        database.close()
        assert driver is not None
        assert not driver.closed
    assert driver.closed


def test_database_without_a_free_connection_is_told_as_trouble(url: str) -> None:
    with closing(Database(url)) as database, ExitStack() as stack:
        pool: Any = database._pool
        pool._timeout = 0.0
        for _ in range(pool.size() + pool._max_overflow):
            stack.enter_context(database.reading())
        with pytest.raises(TransportError, match="every connection is in use"), database.reading():
            pass


def test_wrong_password_and_wrong_address_show_no_password(url: str) -> None:
    for broken in (url.replace(PASSWORD, "wr0ng-one"), url.replace("127.0.0.1", "127.0.0.1:x")):
        with pytest.raises((TransportError, InvalidSpecError)) as caught:
            SqlStore(broken)
        told = f"{caught.value!r} {caught.value} {caught.value.__cause__}"
        assert "wr0ng-one" not in told
        assert PASSWORD not in told


def test_candidates_take_turns_and_begin_anew(stand: Stand) -> None:
    """Who stops gives way at once, and what leading is is made again for every term."""
    reigns: list[str] = []
    nobody = Starlette()

    def candidate(name: str) -> Candidacy:
        @contextmanager
        def reign(term: Term) -> Iterator[ASGIApp]:
            reigns.append(f"{name} {term.fence}")
            yield Starlette()

        return Candidacy(stand(name), reign, nobody, lease_s=LEASE_S)

    with candidate("two"):
        assert reigns == ["two 1"]
        one = candidate("one")
        one.__enter__()
        assert reigns == ["two 1"]
    wait_until(lambda: reigns == ["two 1", "one 2"])
    one.__exit__(None, None, None)


def test_candidate_whose_parts_cannot_be_wired_ends(stand: Stand) -> None:
    @contextmanager
    def reign(term: Term) -> Iterator[ASGIApp]:
        if term.fence == 1:
            raise InvalidSpecError(("broken",), "settings")
        yield Starlette()

    with (
        pytest.raises(InvalidSpecError, match="broken"),
        Candidacy(stand("one"), reign, Starlette(), lease_s=LEASE_S),
    ):
        pass
    assert taken(stand("two")).fence == 2
