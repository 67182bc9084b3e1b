"""The timeline: what each version was given and did, without a request lost or counted twice."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.ledger.timeline import SqlTimeline
from taxiway_serving.timeline import Served, Span, bin_of, latency_ms

DAY_S = 86_400
NOW_S = 1_000_000_005.0
START_S = 1_000_000_000


@pytest.fixture
def timeline(url: str) -> Iterator[SqlTimeline]:
    with closing(SqlTimeline(url)) as made:
        yield made


def served(number: int, *, version: int = 1, at_s: float = NOW_S, **changes: object) -> Served:
    usual: dict[str, object] = {"is_bad": False, "is_client_error": False, "latency_ms": 5.0}
    return Served(
        request_id=f"r{number}",
        at_s=at_s,
        handle="digits",
        version=version,
        **(usual | changes),  # type: ignore[arg-type]
    )


def rows(
    timeline: SqlTimeline, *, step_s: int = 10, since_s: float = 0.0, until_s: float = 2e9
) -> list[Span]:
    return timeline.rows("digits", since_s=since_s, until_s=until_s, step_s=step_s)


def test_timeline_has_what_each_version_was_given_and_did(timeline: SqlTimeline) -> None:
    batch = [served(n) for n in range(98)]
    batch += [
        served(200, version=2, is_bad=True, latency_ms=None),
        served(201, version=2, is_client_error=True),
    ]
    timeline.record(batch, {"digits": {1: 95.0, 2: 5.0}}, now_s=NOW_S)
    one, two = rows(timeline)
    assert (one.at_s, one.width_s, one.version, one.requests, one.weight_pct) == (START_S, 10, 1, 98, 95.0)
    assert (two.requests, two.bad, two.client_errors, two.weight_pct) == (2, 1, 1, 5.0)
    assert two.to_json()["p50_ms"] == pytest.approx(5.0, rel=0.08)


def test_timeline_counts_a_request_once_however_often_it_is_read(url: str, timeline: SqlTimeline) -> None:
    timeline.record([served(1), served(2)], {}, now_s=NOW_S)
    with closing(SqlTimeline(url)) as after_a_crash:
        after_a_crash.record([served(2), served(3)], {}, now_s=NOW_S)
        assert rows(after_a_crash)[0].requests == 3


def test_timeline_shows_a_version_that_has_a_weight_and_no_request(timeline: SqlTimeline) -> None:
    timeline.record([], {"digits": {1: 100.0}}, now_s=NOW_S)
    assert [(row.requests, row.weight_pct) for row in rows(timeline)] == [(0, 100.0)]


def test_timeline_keeps_the_last_weight_of_a_span_and_the_mean_of_longer_ones(timeline: SqlTimeline) -> None:
    for second, weight in ((0, 5.0), (5, 10.0), (10, 30.0)):
        timeline.record([], {"digits": {2: weight}}, now_s=START_S + second)
    assert [row.weight_pct for row in rows(timeline)] == [10.0, 30.0]
    assert [row.weight_pct for row in rows(timeline, step_s=20)] == [20.0]


def test_timeline_without_a_weight_read_back_says_so(timeline: SqlTimeline) -> None:
    timeline.record([served(1)], {}, now_s=NOW_S)
    assert rows(timeline)[0].weight_pct is None


def test_timeline_is_cut_to_the_time_asked_for(timeline: SqlTimeline) -> None:
    timeline.record([served(n, at_s=START_S + n) for n in range(60)], {}, now_s=NOW_S)
    found = rows(timeline, since_s=START_S + 15, until_s=START_S + 40)
    assert [row.at_s - START_S for row in found] == [10, 20, 30]


def test_old_spans_become_longer_and_no_request_is_lost(timeline: SqlTimeline) -> None:
    ages_s = [100 * DAY_S, 95 * DAY_S, 10 * DAY_S, 7 * 3600, 6 * 3600 + 400, 60, 0]
    for number, age_s in enumerate(ages_s):
        at_s = NOW_S - age_s
        timeline.record([served(number, at_s=at_s, is_bad=True)], {"digits": {1: 50.0}}, now_s=at_s)
    for round_ in range(5):
        timeline.tidy(now_s=NOW_S + round_ * 10)
    found = rows(timeline)
    assert [row.width_s for row in found] == [DAY_S, DAY_S, 300, 300, 300, 10, 10]
    assert (sum(row.requests for row in found), sum(row.bad for row in found)) == (7, 7)
    assert all(row.weight_pct == 50.0 for row in found)


def test_requests_of_one_old_span_add_up(timeline: SqlTimeline) -> None:
    at_s = NOW_S - DAY_S
    timeline.record([served(1, at_s=at_s, latency_ms=1.0)], {}, now_s=at_s)
    timeline.tidy(now_s=NOW_S)
    timeline.record([served(2, at_s=at_s, latency_ms=100.0)], {}, now_s=NOW_S)
    timeline.tidy(now_s=NOW_S + 10)
    (row,) = rows(timeline)
    assert (row.width_s, row.requests, sum(row.bins.values())) == (300, 2, 2)


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({"step_s": 15}, "multiple of 10, got 15"),
        ({"step_s": 0}, "multiple of 10, got 0"),
        ({"since_s": 5.0, "until_s": 5.0}, "must be before until_s"),
    ],
)
def test_timeline_refuses(timeline: SqlTimeline, asked: dict[str, float], fault: str) -> None:
    with pytest.raises(InvalidSpecError, match=fault):
        rows(timeline, **asked)  # type: ignore[arg-type]


def test_timeline_refuses_too_many_spans(timeline: SqlTimeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taxiway_serving.ledger.timeline.MOST_SPANS", 2)
    timeline.record([served(n, at_s=START_S + n * 10) for n in range(3)], {}, now_s=NOW_S)
    with pytest.raises(InvalidSpecError, match="larger step_s"):
        rows(timeline)
    assert sum(row.requests for row in rows(timeline, step_s=300)) == 3


@pytest.mark.parametrize("value_ms", [0.0, 0.02, 1.0, 47.11, 2500.0, 9e6])
def test_latency_is_read_back_within_eight_per_cent(value_ms: float) -> None:
    assert latency_ms({bin_of(value_ms): 7}, 0.99) == pytest.approx(max(value_ms, 0.01), rel=0.08)


def test_latency_percentiles_are_those_of_the_requests() -> None:
    bins = {bin_of(1.0): 98, bin_of(1000.0): 2}
    assert latency_ms({}, 0.5) is None
    assert latency_ms(bins, 0.5) == pytest.approx(1.0, rel=0.08)
    assert latency_ms(bins, 0.99) == pytest.approx(1000.0, rel=0.08)
