"""The rules of rewards: what counts, for whom, whatever the order in which a product reports it."""

import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.feedback import Event, Exposure, Metric, conflicts, events_from_json
from taxiway_serving.rewards import Rewards, percentile, summarise

NOW_S = 10_000.0
CLICK = Metric(name="click", window_s=60)


def exposure(number: int, *, version: int = 1, at_s: float = 100.0, unit: str = "") -> Exposure:
    return Exposure(
        request_id=f"r{number}",
        handle="digits",
        version=version,
        unit=unit or f"request:r{number}",
        at_s=at_s,
        share=0.5,
    )


def event(number: int, value: float = 1.0, *, after_s: float = 5.0, **changes: object) -> Event:
    usual = Event(request_id=f"r{number}", metric="click", value=value, event_at_s=100.0 + after_s)
    return replace(usual, **changes)  # type: ignore[arg-type]


def one(
    exposures: list[Exposure], events: list[Event], metric: Metric = CLICK, now_s: float = NOW_S
) -> Rewards:
    return summarise(exposures, events, metric, versions=[1], since_s=0.0, now_s=now_s)[1]


def test_silence_is_a_zero_once_the_window_is_over() -> None:
    found = one([exposure(1), exposure(2)], [event(1)])
    assert (found.exposures, found.credited, found.successes, found.mean) == (2, 2.0, 1, 0.5)
    assert (found.pending, found.last_at_s, found.delay_p50_s) == (0, 105.0, 5.0)


@pytest.mark.parametrize(
    ("after_s", "counts"),
    [(-61.0, False), (-60.0, True), (0.0, True), (60.0, True), (60.5, False)],
    ids=["before its request", "a clock behind", "at once", "at the end", "too late"],
)
def test_event_counts_inside_its_window_only(after_s: float, counts: bool) -> None:
    found = one([exposure(1)], [event(1, after_s=after_s)])
    assert (found.successes, found.late) == ((1, 0) if counts else (0, 1))


@pytest.mark.parametrize(("how", "total"), [("first", 2.0), ("max", 5.0), ("sum", 10.0)])
def test_events_of_one_exposure_become_one_value(how: str, total: float) -> None:
    events = [
        event(1, 3.0, after_s=9, event_id="c"),
        event(1, 2.0, after_s=1, event_id="b"),
        event(1, 5.0, after_s=4, event_id="a"),
    ]
    found = one([exposure(1)], events, replace(CLICK, how=how))  # type: ignore[arg-type]
    assert (found.rewarded, found.total, found.squares) == (1, total, total**2)


def test_first_of_events_at_the_same_time_does_not_depend_on_their_order() -> None:
    events = [event(1, 3.0, event_id="b"), event(1, 2.0, event_id="a")]
    assert one([exposure(1)], events).total == one([exposure(1)], events[::-1]).total == 2.0


def test_events_of_unknown_requests_and_other_metrics_do_not_count() -> None:
    assert one([exposure(1)], [event(7), event(1, metric="revenue")]).rewarded == 0


def test_user_who_asks_again_within_a_session_is_one_exposure() -> None:
    requests = [exposure(n, at_s=100.0 + n * 10, unit="user:ada") for n in range(9)]
    events = [event(n, after_s=n * 10 + 1) for n in range(9)]
    found = one(requests, events)
    assert (found.exposures, found.rewarded, found.total) == (2, 2, 2.0)


def test_session_on_another_version_is_another_exposure() -> None:
    moved = [exposure(1, unit="user:ada"), exposure(2, unit="user:ada", version=2)]
    found = summarise(moved, [event(2)], CLICK, versions=[1, 2], since_s=0.0, now_s=NOW_S)
    assert (found[1].successes, found[2].successes) == (0, 1)
    assert (found[1].exposures, found[2].exposures) == (1, 1)


def test_exposures_before_the_rollout_do_not_count() -> None:
    requests = [exposure(1, at_s=50.0), exposure(2, at_s=100.0)]
    assert summarise(requests, [], CLICK, versions=[1], since_s=60.0, now_s=NOW_S)[1].exposures == 1


def test_version_without_exposures_is_in_the_answer() -> None:
    assert summarise([], [], CLICK, versions=[3], since_s=0.0, now_s=NOW_S)[3] == Rewards(
        version=3, mode="mature"
    )


def test_young_exposures_count_by_the_delays_seen_before() -> None:
    old = [exposure(n, at_s=100.0) for n in range(40)]
    young = [exposure(n, at_s=990.0) for n in range(100, 120)]
    events = [event(n, after_s=5.0 if n % 2 else 30.0) for n in range(40)]
    found = one([*old, *young], events, now_s=1000.0)
    assert found.mode == "partial"
    assert found.credited == pytest.approx(40 + 20 * 0.5)
    assert found.pending == 20


def test_exposures_wait_while_no_delay_is_known() -> None:
    found = one([exposure(n) for n in range(10)], [], now_s=110.0)
    assert (found.mode, found.credited, found.successes, found.mean) == ("mature", 0.0, 0, None)
    assert (found.exposures, found.pending) == (10, 10)


def test_first_window_is_credited_by_the_delays_that_were_seen_in_it() -> None:
    """Rewards come after 2 s or after 20 s: of the exposures that are 10 s old, half of the rewards are there."""
    exposures = [exposure(n, at_s=100.0) for n in range(100)]
    exposures += [exposure(n, at_s=130.0) for n in range(100, 200)]
    events = [event(n, after_s=2.0 if n % 4 else 20.0) for n in range(0, 100, 2)]
    events += [event(n, event_at_s=132.0) for n in range(100, 200) if n % 4 == 2]
    found = one(exposures, events, now_s=140.0)
    assert found.mode == "partial"
    assert found.credited == pytest.approx(100 + 100 * 0.5, abs=8)
    assert found.mean == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("how", ["max", "sum"])
def test_value_that_may_still_grow_counts_once_its_window_is_over(how: str) -> None:
    metric = replace(CLICK, how=how)  # type: ignore[arg-type]
    exposures = [*(exposure(n) for n in range(40)), *(exposure(n, at_s=990.0) for n in range(100, 120))]
    events = [*(event(n) for n in range(40)), *(event(n, event_at_s=995.0) for n in range(100, 120))]
    found = one(exposures, events, metric, now_s=1000.0)
    assert (found.mode, found.credited, found.total, found.exposures) == ("mature", 40.0, 40.0, 60)


def test_late_rewards_of_a_young_arm_are_not_taken_for_failures() -> None:
    """An arm that was added later has shown its short delays alone; the older arm's tell of the long ones."""
    exposures = [exposure(n, version=1, at_s=100.0) for n in range(400)]
    exposures += [exposure(n, version=2, at_s=135.0) for n in range(400, 600)]
    events = [event(n, after_s=2.0 if n % 4 else 20.0) for n in range(0, 400, 2)]
    events += [event(n, event_at_s=137.0) for n in range(400, 600) if n % 4 == 2]
    found = summarise(exposures, events, CLICK, versions=[1, 2], since_s=0.0, now_s=140.0)
    assert found[1].mean == pytest.approx(0.5, abs=0.05)
    assert found[2].mean == pytest.approx(0.5, abs=0.1)


def test_same_log_under_another_reward_has_another_winner() -> None:
    """Version 1 is clicked more; version 2 sells more."""
    exposures = [exposure(n, version=1 + n % 2) for n in range(200)]
    clicks = [event(n) for n in range(200) if n % 10 in (0, 2, 4, 1)]
    sales = [event(n, 30.0, metric="revenue", event_id="s") for n in range(200) if n % 20 in (0, 1, 3, 5)]

    def winner(metric: Metric) -> int:
        found = summarise(exposures, [*clicks, *sales], metric, versions=[1, 2], since_s=0.0, now_s=NOW_S)
        return max(found, key=lambda version: found[version].mean or 0.0)

    assert (winner(CLICK), winner(Metric(name="revenue", window_s=60, how="sum"))) == (1, 2)


EXPOSURES = st.lists(
    st.builds(
        lambda number, version, at_s, who: exposure(
            number, version=version, at_s=at_s, unit=f"user:{who}" if who else ""
        ),
        number=st.integers(0, 15),
        version=st.integers(1, 3),
        at_s=st.floats(100, 400),
        who=st.integers(0, 3),
    ),
    max_size=20,
    unique_by=lambda made: made.request_id,
)
EVENTS = st.lists(
    st.builds(
        lambda number, value, after_s, metric, name: event(
            number, value, after_s=after_s, metric=metric, event_id=name
        ),
        number=st.integers(0, 18),
        value=st.floats(-1e6, 1e6),
        after_s=st.floats(-100, 400),
        metric=st.sampled_from(["click", "revenue"]),
        name=st.sampled_from(["", "a", "b"]),
    ),
    max_size=40,
    unique_by=lambda made: made.key,
)
HOWS = st.sampled_from(["first", "max", "sum"])


@given(exposures=EXPOSURES, events=EVENTS, how=HOWS, now_s=st.floats(100, 1000), data=st.data())
def test_any_order_and_any_repetition_give_the_same_rewards(
    exposures: list[Exposure], events: list[Event], how: str, now_s: float, data: st.DataObject
) -> None:
    metric = replace(CLICK, how=how)  # type: ignore[arg-type]
    again = data.draw(st.lists(st.sampled_from(events), max_size=10)) if events else []
    shuffled = data.draw(st.permutations([*events, *again]))
    requests = data.draw(st.permutations(exposures))

    def counted(exposures: list[Exposure], events: list[Event]) -> dict[int, Rewards]:
        return summarise(exposures, events, metric, versions=[1, 2, 3], since_s=0.0, now_s=now_s)

    assert counted(requests, shuffled) == counted(exposures, events)


def test_conflicts_name_each_event_that_changed_its_value() -> None:
    known = {("r1", "click", ""): 1.0}
    found = conflicts([event(1, 0.0), event(2, 3.0), event(2, 3.0), event(2, 4.0)], known)
    assert [fault.split(",")[0] for fault in found] == ["click of request r1", "click of request r2"]


def test_events_from_json_take_one_or_several() -> None:
    row = {"request_id": "r1", "metric": "click", "value": True}
    (made,) = events_from_json(row, 7.0)
    assert made == Event(request_id="r1", metric="click", value=1.0, event_at_s=7.0)
    assert events_from_json([row, {**row, "event_id": "x"}], 7.0)[1].event_id == "x"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"request_id": ""}, "request_id: must be 1 to 128"),
        ({"request_id": 5}, "request_id: must be 1 to 128"),
        ({"event_id": "a b"}, "event_id: must be 0 to 128"),
        ({"metric": "Click!"}, "metric: must match"),
        ({"metric": "errors"}, "choose another name"),
        ({"value": "1"}, "value: must be a number"),
        ({"value": float("nan")}, "value: must be a number from"),
        ({"value": 10**400}, "value: must be a number"),
        ({"event_at_s": 9_000}, "set the sender's clock"),
        ({"event_at_s": None}, "event_at_s: must be a number"),
        ({"colour": "red"}, "colour: no such field"),
    ],
)
def test_events_from_json_refuse(changes: dict[str, object], fault: str) -> None:
    row = {"request_id": "r1", "metric": "click", "value": 1, **changes}
    with pytest.raises(InvalidSpecError) as caught:
        events_from_json(row, 100.0)
    assert len(caught.value.faults) == 1
    assert fault in caught.value.faults[0]


def test_events_from_json_name_every_fault_of_every_event() -> None:
    with pytest.raises(InvalidSpecError) as caught:
        events_from_json(
            [{"metric": "X", "value": "y"}, 5, {"request_id": "r1", "metric": "a", "value": 1}], 1.0
        )
    assert [fault.split(":")[:2] for fault in caught.value.faults] == [
        ["event 1", " value"],
        ["event 1", " request_id"],
        ["event 1", " metric"],
        ["event 2", " must be an object with request_id, metric, value, event_id, event_at_s, got 5"],
    ]


@pytest.mark.parametrize("count", [0, 1001])
def test_events_from_json_take_no_more_than_a_thousand(count: int) -> None:
    with pytest.raises(InvalidSpecError, match="1,000 events"):
        events_from_json([{"request_id": "r1", "metric": "click", "value": 1}] * count, 1.0)


def test_metric_names_every_fault_at_once() -> None:
    with pytest.raises(InvalidSpecError) as caught:
        Metric(name="No", window_s=0, how="last")  # type: ignore[arg-type]
    assert len(caught.value.faults) == 3
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_percentile_is_by_nearest_rank() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.95), percentile([], 0.5)) == (50.0, 95.0, None)
