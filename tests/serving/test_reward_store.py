"""The store of rewards: durable, idempotent, and of one mind with the rules however its calls are ordered."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from taxiway_serving.errors import ConflictError, InvalidSpecError, OverloadError, TransportError
from taxiway_serving.feedback import NOT_DRAWN, Event, Exposure, Metric
from taxiway_serving.ledger.reward_receipts import UNKNOWN_AFTER_S
from taxiway_serving.ledger.rewards import SqlRewards
from taxiway_serving.ledger.sql import SqlStore
from taxiway_serving.rewards import Rewards, summarise
from tests.postgres import Postgres
from tests.serving.test_rewards import CLICK, EVENTS, EXPOSURES, HOWS, event, exposure

NOW_S = 1000.0
Open = Callable[[], SqlRewards]


@pytest.fixture
def open_rewards(url: str) -> Iterator[Open]:
    """Open the same file, once or more often, and close it in the end."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(SqlRewards(url)))


@pytest.fixture
def rewards(open_rewards: Open) -> SqlRewards:
    return open_rewards()


def summary(rewards: SqlRewards, metric: Metric = CLICK, *, now_s: float = NOW_S) -> Rewards:
    return rewards.summary("digits", metric, versions=[1], since_s=0.0, now_s=now_s)[1]


def statuses(rewards: SqlRewards, *events: Event, now_s: float = NOW_S) -> list[str]:
    return [receipt.status for receipt in rewards.accept(events, now_s=now_s)]


def test_rewards_credit_the_version_that_answered(rewards: SqlRewards) -> None:
    rewards.record([exposure(1), exposure(2)])
    assert statuses(rewards, event(1)) == ["attributed"]
    assert (summary(rewards).exposures, summary(rewards).successes) == (2, 1)


def test_event_that_overtakes_the_log_waits_for_its_request(rewards: SqlRewards) -> None:
    assert statuses(rewards, event(1)) == ["pending"]
    assert rewards.waiting(now_s=NOW_S) == {"pending": 1, "unknown": 0}
    assert summary(rewards).rewarded == 0
    rewards.record([exposure(1)])
    assert summary(rewards).rewarded == 1
    assert rewards.waiting(now_s=NOW_S) == {"pending": 0, "unknown": 0}


def test_event_of_a_request_that_never_came_is_unknown_and_counted(rewards: SqlRewards) -> None:
    rewards.accept([event(1)], now_s=NOW_S)
    later_s = NOW_S + UNKNOWN_AFTER_S
    account = rewards.account("r1", now_s=later_s)
    assert account is not None
    assert (account.exposure, [one.status for one in account.receipts]) == (None, ["unknown"])
    assert rewards.waiting(now_s=later_s) == {"pending": 0, "unknown": 1}


def test_event_that_comes_again_changes_nothing(rewards: SqlRewards) -> None:
    rewards.record([exposure(1)])
    assert statuses(rewards, event(1), event(1)) == ["attributed", "duplicate"]
    assert statuses(rewards, replace(event(1), event_at_s=130.0)) == ["duplicate"]
    assert (summary(rewards).total, summary(rewards).delay_p50_s) == (1.0, 5.0)


def test_event_with_another_value_is_refused_with_all_that_came_with_it(rewards: SqlRewards) -> None:
    rewards.record([exposure(1), exposure(2)])
    rewards.accept([event(1, 1.0)], now_s=NOW_S)
    with pytest.raises(ConflictError, match=r"is 1\.0 already, got 0\.0.*event_id of its own"):
        rewards.accept([event(2), event(1, 0.0)], now_s=NOW_S)
    assert (summary(rewards).rewarded, summary(rewards).total) == (1, 1.0)


def test_event_with_a_fault_stores_nothing_of_its_call(rewards: SqlRewards) -> None:
    with pytest.raises(InvalidSpecError, match="event 2: metric"):
        rewards.accept([event(1), event(1, metric="Bad")], now_s=NOW_S)
    assert rewards.account("r1", now_s=NOW_S) is None


def test_late_event_is_kept_and_does_not_count(rewards: SqlRewards) -> None:
    rewards.follow("digits", [CLICK])
    rewards.record([exposure(1)])
    assert statuses(rewards, event(1, after_s=61.0)) == ["late"]
    assert (summary(rewards).rewarded, summary(rewards).late) == (0, 1)


def test_exposures_recorded_again_change_nothing(rewards: SqlRewards) -> None:
    batch = [exposure(1), exposure(2, unit="user:ada"), exposure(3, unit="user:ada", at_s=110.0)]
    assert (rewards.record(batch), rewards.record(batch)) == (3, 0)
    assert rewards.record([*batch, exposure(4)]) == 1
    assert summary(rewards).exposures == 3


def test_session_goes_on_from_one_batch_to_the_next(rewards: SqlRewards) -> None:
    for number in range(9):
        rewards.record([exposure(number, at_s=100.0 + number * 10, unit="user:ada")])
    assert summary(rewards).exposures == 2


def test_rewards_are_there_after_reopening(open_rewards: Open) -> None:
    first = open_rewards()
    first.follow("digits", [CLICK])
    first.accept([event(2)], now_s=NOW_S)
    first.record([exposure(1), exposure(2)])
    first.accept([event(1, after_s=61.0)], now_s=NOW_S)
    before = summary(first)
    first.close()
    second = open_rewards()
    assert summary(second) == before
    assert second.metric("digits", "click") == CLICK
    assert [one.place for one in second.values("digits", CLICK)] == [1]
    second.record([exposure(3)])
    second.accept([event(3)], now_s=NOW_S)
    assert [one.place for one in second.values("digits", CLICK)] == [1, 3]


def test_metric_of_a_call_that_was_not_stored_is_named_by_the_next(open_rewards: Open) -> None:
    """What memory says of the table is not ahead of it: a history that nobody follows is found after a restart too."""
    first = open_rewards()
    first.record([exposure(1)])
    engine = first._database._engine

    def fail(_: object) -> None:
        raise OperationalError("COMMIT", None, OSError("the disk is full"))

    sa.event.listen(engine, "commit", fail)
    with pytest.raises(TransportError, match="the disk is full"):
        first.accept([event(1)], now_s=NOW_S)
    sa.event.remove(engine, "commit", fail)
    first.accept([event(1)], now_s=NOW_S)
    found = open_rewards().history("digits", since_s=100, until_s=120, step_s=20)
    assert found == {(1, 100): {"click": {"n": 1, "sum": 1.0}}}


def test_rewards_share_the_file_of_the_controllers_store(url: str, open_rewards: Open) -> None:
    with closing(SqlStore(url)) as store:
        open_rewards().record([exposure(1)])
        assert store.fleet().endpoints == ()


def test_values_come_once_with_their_share_and_mark_a_units_first(rewards: SqlRewards) -> None:
    rewards.record([exposure(n, unit="user:ada", at_s=100.0 + n) for n in range(3)])
    rewards.record([exposure(7, version=2, unit="user:bob")])
    rewards.accept([event(0, 0.0, after_s=1.0), event(7)], now_s=NOW_S)
    rewards.accept([event(1, after_s=70.0), event(2, after_s=9.0)], now_s=NOW_S)
    found = rewards.values("digits", CLICK)
    assert [(one.request_id, one.version, one.share, one.value, one.is_first) for one in found] == [
        ("r0", 1, 0.5, 0.0, True),
        ("r7", 2, 0.5, 1.0, True),
        ("r2", 1, 0.5, 1.0, False),
    ]
    assert rewards.values("digits", CLICK, after=found[-1].place) == []
    assert [one.is_first for one in rewards.values("digits", CLICK, since_s=101.5)] == [True]


def test_values_do_not_miss_an_event_that_was_attributed_later(rewards: SqlRewards) -> None:
    rewards.accept([event(1)], now_s=NOW_S)
    rewards.record([exposure(2)])
    rewards.accept([event(2)], now_s=NOW_S)
    (seen,) = rewards.values("digits", CLICK)
    rewards.record([exposure(1)])
    assert [one.request_id for one in rewards.values("digits", CLICK, after=seen.place)] == ["r1"]


@pytest.mark.parametrize(("how", "value"), [("max", 5.0), ("sum", 7.0)])
def test_whole_values_come_once_their_window_is_over(rewards: SqlRewards, how: str, value: float) -> None:
    metric = replace(CLICK, how=how)  # type: ignore[arg-type]
    rewards.record([exposure(n, unit="user:ada", at_s=100.0 + n) for n in range(2)])
    rewards.record([exposure(7, version=2, unit="user:bob", at_s=150.0)])
    rewards.accept([event(0, 2.0), event(1, 5.0), event(7, 3.0, after_s=55.0)], now_s=NOW_S)

    def whole(*, after_s: float = 0.0, now_s: float) -> list[tuple[float, int, float, bool]]:
        found = rewards.whole_values("digits", metric, after_s=after_s, since_s=0.0, now_s=now_s)
        return [(opened_s, one.version, one.value, one.is_first) for opened_s, one in found]

    assert whole(now_s=219.0) == []
    assert whole(now_s=220.0) == [(100.0, 1, value, True)]
    assert whole(now_s=300.0) == [(100.0, 1, value, True), (150.0, 2, 3.0, True)]
    assert whole(after_s=100.0, now_s=300.0) == [(150.0, 2, 3.0, True)]


def test_whole_values_mark_a_units_first_from_read_to_read(rewards: SqlRewards) -> None:
    metric = replace(CLICK, how="sum")
    rewards.record([exposure(n, unit="user:ada", at_s=100.0 + 70 * n) for n in range(3)])
    rewards.accept([event(n, after_s=70.0 * n + 1) for n in range(3)], now_s=NOW_S)
    first = rewards.whole_values("digits", metric, after_s=0.0, since_s=0.0, now_s=300.0)
    rest = rewards.whole_values("digits", metric, after_s=first[-1][0], since_s=0.0, now_s=NOW_S)
    assert [one.is_first for _, one in (*first, *rest)] == [True, False, False]


def test_who_was_drawn_by_nobody_has_receipts_and_sums_and_is_in_no_comparison(rewards: SqlRewards) -> None:
    rewards.record([replace(exposure(1, unit="user:ada"), share=NOT_DRAWN), exposure(2, version=2)])
    assert statuses(rewards, event(1), event(2)) == ["attributed", "attributed"]
    assert (summary(rewards).exposures, summary(rewards).rewarded) == (1, 1)
    assert [one.request_id for one in rewards.values("digits", CLICK)] == ["r2"]
    whole = rewards.whole_values("digits", replace(CLICK, how="max"), after_s=0.0, since_s=0.0, now_s=NOW_S)
    assert [one.request_id for _, one in whole] == ["r2"]
    assert rewards.drawn("digits", CLICK, version=1, since_s=0.0, now_s=NOW_S) == []
    assert rewards.drawn("digits", CLICK, version=2, since_s=0.0, now_s=NOW_S) == [(2, 0.5, 1.0)]


def test_events_that_wait_have_so_much_room_and_those_of_known_requests_any(url: str) -> None:
    with closing(SqlRewards(url, most_waiting=2)) as rewards:
        rewards.record([exposure(1)])
        rewards.accept([event(7), event(8)], now_s=NOW_S)
        with pytest.raises(
            OverloadError, match=r"2 events wait .* and 1 more came; at most 2; send the x-req"
        ):
            rewards.accept([event(1), event(9)], now_s=NOW_S)
        assert statuses(rewards, event(1), event(8)) == ["attributed", "duplicate"]
        rewards.record([exposure(8)])
        assert statuses(rewards, event(9)) == ["pending"]
    with closing(SqlRewards(url, most_waiting=2)) as again, pytest.raises(OverloadError):
        again.accept([event(10)], now_s=NOW_S)


def test_event_that_nobody_knows_is_forgotten_an_hour_after_its_request_would_have_been(url: str) -> None:
    with closing(SqlRewards(url, retention_s=100.0, most_waiting=1)) as rewards:
        rewards.record([exposure(1)])
        rewards.accept([event(1), event(7)], now_s=NOW_S)
        rewards.prune(now_s=NOW_S + 3699.0)
        assert rewards.waiting(now_s=NOW_S + 3699.0) == {"pending": 0, "unknown": 1}
        rewards.prune(now_s=NOW_S + 3710.0)
        assert rewards.waiting(now_s=NOW_S + 3710.0) == {"pending": 0, "unknown": 0}
        assert summary(rewards).rewarded == 1
        assert statuses(rewards, event(8)) == ["pending"]


def test_pruning_forgets_requests_after_window_and_retention_and_keeps_the_counts(open_rewards: Open) -> None:
    rewards = open_rewards()
    rewards.follow("digits", [replace(CLICK, window_s=500.0)])
    rewards.record([exposure(1), exposure(2)])
    rewards.accept([event(1)], now_s=NOW_S)
    rewards.prune(now_s=100.0 + 500.0 + 3600.0)
    assert statuses(rewards, event(2)) == ["attributed"]
    rewards.prune(now_s=110.0 + 500.0 + 3600.0)
    assert statuses(rewards, event(2, event_id="x")) == ["pending"]
    account = rewards.account("r1", now_s=NOW_S)
    assert account is not None
    assert account.exposure == exposure(1)
    assert (summary(rewards).exposures, summary(rewards).rewarded) == (2, 2)
    rewards.close()
    assert (summary(open_rewards()).exposures, summary(open_rewards()).rewarded) == (2, 2)


def test_following_less_lets_requests_go_earlier(rewards: SqlRewards) -> None:
    rewards.follow("digits", [replace(CLICK, window_s=5000.0)])
    rewards.record([exposure(1)])
    rewards.follow("digits", [])
    rewards.prune(now_s=101.0 + 3600.0)
    assert rewards.account("r1", now_s=NOW_S) is None


def test_history_is_by_the_time_of_the_request(rewards: SqlRewards) -> None:
    rewards.follow("digits", [CLICK])
    rewards.record([exposure(1, at_s=101.0), exposure(2, at_s=119.0), exposure(3, at_s=125.0, version=2)])
    rewards.accept(
        [event(1), event(2, 3.0, after_s=30.0), event(3), event(1, 9.0, metric="revenue")], now_s=NOW_S
    )
    found = rewards.history("digits", since_s=100, until_s=130, step_s=20)
    assert found == {
        (1, 100): {"click": {"n": 2, "sum": 4.0}, "revenue": {"n": 1, "sum": 9.0}},
        (2, 120): {"click": {"n": 1, "sum": 1.0}},
    }
    assert rewards.history("digits", since_s=120, until_s=130, step_s=20) == {
        (2, 120): {"click": {"n": 1, "sum": 1.0}}
    }


def test_summary_reaches_back_further_when_asked(rewards: SqlRewards) -> None:
    rewards.record([exposure(1, at_s=100.0), exposure(2, at_s=200.0)])
    rewards.accept([event(1), event(2, after_s=105.0)], now_s=NOW_S)

    def since(since_s: float) -> Rewards:
        return rewards.summary("digits", CLICK, versions=[1], since_s=since_s, now_s=NOW_S)[1]

    assert [since(since_s).rewarded for since_s in (150.0, 0.0, 150.0)] == [1, 2, 1]


def check_that_store_and_rules_agree(
    url: str, exposures: list[Exposure], events: list[Event], how: str, now_s: float, data: st.DataObject
) -> None:
    """The log hands out requests in order; a product reports before, between and after, and again."""
    metric = replace(CLICK, how=how)  # type: ignore[arg-type]
    ordered = sorted(exposures, key=lambda one: one.at_s)
    again = data.draw(st.lists(st.sampled_from(events), max_size=5)) if events else []
    calls: list[Exposure | Event] = [*ordered]
    for each in data.draw(st.permutations([*events, *again])):
        calls.insert(data.draw(st.integers(0, len(calls))), each)

    with closing(SqlRewards(url)) as rewards:

        def counted() -> dict[int, Rewards]:
            found = rewards.summary("digits", metric, versions=[1, 2, 3], since_s=0.0, now_s=now_s)
            return {version: replace(one, last_at_s=None) for version, one in found.items()}

        for number, call in enumerate(calls):
            if isinstance(call, Exposure):
                rewards.record([call])
            else:
                rewards.accept([call], now_s=now_s)
            if number == len(calls) // 2:
                counted()
        expected = summarise(exposures, events, metric, versions=[1, 2, 3], since_s=0.0, now_s=now_s)
        assert counted() == {version: replace(one, last_at_s=None) for version, one in expected.items()}


@pytest.mark.slow
@settings(max_examples=30)
@given(exposures=EXPOSURES, events=EVENTS, how=HOWS, now_s=st.floats(450, 1000), data=st.data())
def test_store_and_rules_agree_whatever_comes_when(
    exposures: list[Exposure], events: list[Event], how: str, now_s: float, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/r.db"
        check_that_store_and_rules_agree(url, exposures, events, how, now_s, data)


@pytest.mark.slow
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(exposures=EXPOSURES, events=EVENTS, how=HOWS, now_s=st.floats(450, 1000), data=st.data())
def test_postgresql_and_rules_agree_whatever_comes_when(
    postgres: Postgres,
    exposures: list[Exposure],
    events: list[Event],
    how: str,
    now_s: float,
    data: st.DataObject,
) -> None:
    check_that_store_and_rules_agree(postgres.database(), exposures, events, how, now_s, data)


def test_hours_that_are_over_are_counted_as_before(rewards: SqlRewards) -> None:
    """What is held by the hour takes in late, delayed and replayed news as what is held by the second does."""
    exposures = [exposure(n, at_s=n * 400.0, version=1 + n % 2) for n in range(50)]
    events = [replace(event(n, n * 0.1), event_at_s=n * 400.0 + n) for n in range(0, 50, 3)]
    now_s = 40_000.0

    def agree() -> None:
        found = rewards.summary("digits", CLICK, versions=[1, 2], since_s=1000.0, now_s=now_s)
        expected = summarise(exposures, events, CLICK, versions=[1, 2], since_s=1000.0, now_s=now_s)
        for version in (1, 2):
            assert replace(found[version], last_at_s=None, total=0, squares=0) == replace(
                expected[version], last_at_s=None, total=0, squares=0
            )
            assert found[version].total == pytest.approx(expected[version].total)
            assert found[version].squares == pytest.approx(expected[version].squares)

    rewards.record(exposures)
    rewards.accept(events, now_s=now_s)
    agree()
    for news in (
        replace(event(10), event_at_s=4000.0 + 61.0),
        replace(event(11), event_at_s=4400.0 + 30.0),
        replace(event(11, 5.0, event_id="later"), event_at_s=4400.0 + 31.0),
    ):
        events.append(news)
        rewards.accept([news], now_s=now_s)
        agree()
    exposures.append(exposure(60, at_s=5000.0))
    rewards.record(exposures)
    agree()
    events.append(replace(event(60), event_at_s=5001.0))
    rewards.accept(events[-1:], now_s=now_s)
    agree()


def test_handles_do_not_share_rewards(rewards: SqlRewards) -> None:
    rewards.record([exposure(1), replace(exposure(2), handle="letters")])
    rewards.accept([event(1), event(2)], now_s=NOW_S)
    assert (summary(rewards).exposures, summary(rewards).rewarded) == (1, 1)
    assert [one.request_id for one in rewards.values("letters", CLICK)] == ["r2"]
