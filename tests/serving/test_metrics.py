"""Metrics of a rollout: what a caller may ask for, and what each does to a rollout."""

from typing import Any

import pytest

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.rollout.machine import readings_of
from taxiway_serving.rollout.metrics import KINDS, Metric, metric_from_json
from taxiway_serving.rollout.state import Outcome
from taxiway_serving.statistics.label import Counts
from tests.serving.rollouts import GOOD, Walk, asked, seen, units

QUERY: dict[str, Any] = {"name": "cpu", "kind": "prometheus", "query": "up", "limit": 0.8}


@pytest.mark.parametrize("kind", ["latency", "latency_slo", "schema"])
def test_bare_name_of_a_kind_is_that_kind(kind: str) -> None:
    assert metric_from_json(kind) == Metric(name=kind, kind=kind)  # type: ignore[arg-type]


def test_bare_name_of_anything_else_is_feedback() -> None:
    assert metric_from_json("click") == Metric(name="click", kind="feedback")


@pytest.mark.parametrize(
    "item",
    ["click", "latency", QUERY, {**QUERY, "direction": "up", "dry_run": True, "failure_limit": 3}],
    ids=str,
)
def test_metrics_survive_their_json(item: Any) -> None:
    metric = metric_from_json(item)
    assert metric_from_json(metric.to_json()) == metric


def test_query_is_best_low_and_feedback_best_high_unless_told() -> None:
    assert metric_from_json(QUERY).direction == "down"
    assert metric_from_json("click").direction == "up"
    assert metric_from_json({**QUERY, "direction": "up"}).direction == "up"


@pytest.mark.parametrize(
    ("item", "fault"),
    [
        (7, "give a name, or an object"),
        ({"kind": "latency"}, "give a name, or an object"),
        ("errors", "always counted"),
        ("error", "always counted"),
        ("client_errors", "always counted"),
        ("Click rate", "must match"),
        ("a/errors", "must match"),
        ({"name": "latency", "kind": "feedback"}, "is of that kind alone"),
        ({"name": "x", "kind": "magic"}, f"one of {', '.join(KINDS)}"),
        ({"name": "x", "heading": "up"}, "heading: unknown"),
        ({"name": "x", "low": 1, "high": 1}, "must be below high"),
        ({"name": "x", "low": True}, "must be a number"),
        ({"name": "x", "high": float("nan")}, "must be a number"),
        ({"name": "x", "dry_run": "yes"}, "must be true or false"),
        ({"name": "x", "window_s": 0}, "window_s above 0"),
        ({"name": "x", "limit": 3}, "must lie in 0 to 1"),
        ({"name": "x", "interval_s": 3}, "feedback has none"),
        ({"name": "x", "failure_limit": 3}, "failure_limit: given without a limit"),
        ({"name": "latency", "min_units": 3}, "min_units: given without a limit"),
        ({"name": "latency", "limit": 0.1, "min_units": 0}, "min_units: got 0"),
        ({"name": "latency", "limit": 200}, "a share of the units"),
        ({"name": "errors", "limit": 1}, "a share of the units"),
        ({"name": "errors", "kind": "latency", "limit": 0.1}, "always counted"),
        ({**QUERY, "min_units": 3}, "prometheus has none"),
        ({"name": "latency", "low": 3}, "latency has none"),
        ({**QUERY, "query": ""}, "needs its text"),
        ({**QUERY, "limit": None}, "a number as limit"),
        ({**QUERY, "failure_limit": 1.5}, "must be a whole number"),
        ({**QUERY, "interval_s": 0}, "at least 1"),
    ],
    ids=str,
)
def test_metric_with_a_fault_says_which(item: Any, fault: str) -> None:
    with pytest.raises(InvalidSpecError, match=fault):
        metric_from_json(item)


def test_metric_names_all_its_faults_at_once() -> None:
    with pytest.raises(InvalidSpecError) as caught:
        metric_from_json({"name": "x", "low": 2, "dry_run": 1, "query": "up", "speed": 9})
    assert len(caught.value.faults) == 4


def _walk(*metrics: Any, **body: Any) -> Walk:
    walk = Walk(asked(metrics=[*metrics], **body))
    walk.look(GOOD, times=3)
    return walk


@pytest.mark.parametrize(
    ("metric", "key"),
    [(None, "client_errors"), ("latency", "latency"), ("latency_slo", "latency_slo"), ("schema", "schema")],
    ids=["client_errors", "latency", "latency_slo", "schema"],
)
def test_bad_units_of_each_metric_take_a_candidate_back(metric: str | None, key: str) -> None:
    walk = _walk(*([metric] if metric else []), latency_ms=50)
    walk.look(seen(counts={f"2/{key}": units(bad=20)}), times=2)
    assert walk.state.outcome is Outcome.ROLLED_BACK


@pytest.mark.parametrize("metric", ["latency", "latency_slo", "schema"])
def test_bad_units_at_full_traffic_take_a_candidate_back(metric: str) -> None:
    walk = Walk(asked(metrics=[metric], latency_ms=50, strategy={"kind": "all_at_once", "bake_s": 60}))
    walk.look(seen(counts={f"2/{metric}": units(canary=0, control=2000, bad_control=10)}))
    walk.look(GOOD, times=2)
    walk.look(seen(counts={f"2/{metric}": units(canary=60, control=0, bad=30)}), times=2)
    assert walk.state.outcome is Outcome.ROLLED_BACK


def test_what_both_versions_do_alike_is_nobodys_harm() -> None:
    walk = _walk("latency")
    alike = Counts(canary=30, control=70, bad_canary=3, bad_control=57, requests=30)
    walk.look(seen(counts={"2/latency": alike, "2/client_errors": alike}), times=30)
    assert walk.state.outcome is None


def _earned(mine: float, control: float) -> Any:
    pairs = [(True, mine, 0.05)] * 10 + [(False, control, 0.05)] * 190
    return seen(values={"2/click": tuple(pairs)})


@pytest.mark.parametrize(
    ("metric", "mine", "control", "is_harm"),
    [
        ("click", 0.1, 0.9, True),
        ("click", 0.9, 0.1, False),
        ({"name": "click", "direction": "down"}, 0.9, 0.1, True),
        ({"name": "click", "direction": "down"}, 0.1, 0.9, False),
        ({"name": "click", "dry_run": True}, 0.1, 0.9, False),
    ],
    ids=["less", "more", "more cost", "less cost", "dry run"],
)
def test_reward_that_drops_takes_a_candidate_back(
    metric: Any, mine: float, control: float, is_harm: bool
) -> None:
    walk = _walk(metric)
    walk.look(_earned(mine, control), times=20)
    assert (walk.state.outcome is Outcome.ROLLED_BACK) is is_harm


def test_query_acts_at_one_failure_more_than_it_bears() -> None:
    walk = _walk({**QUERY, "failure_limit": 1})
    for value in (0.9, 0.5, 0.7):
        walk.look(seen(measured={"2/cpu": value}))
    assert walk.state.outcome is None
    walk.look(seen(measured={"2/cpu": 0.81}))
    assert walk.look(GOOD).outcome is Outcome.ROLLED_BACK
    assert "cpu: 2 of 4 values above 0.8" in walk.state.reason


def test_dry_run_is_scored_and_shown_and_never_acts() -> None:
    walk = _walk({**QUERY, "dry_run": True}, {"name": "schema", "kind": "schema", "dry_run": True})
    look = seen(measured={"2/cpu": 0.9}, counts={"2/schema": units(bad=25)})
    walk.look(look, times=10)
    assert walk.state.outcome is None
    walk.say("abort")
    ended = walk.decisions[0].readings
    shown = {reading.name: reading for reading in ended}
    assert not shown["cpu_limit"].acts
    assert not shown["schema_ratio"].acts
    assert walk.state.guards["2/cpu_limit"] == (10.0, 10.0)


COUNTED = ("errors", "client_errors", "latency", "latency_slo", "schema")


@pytest.mark.parametrize("name", COUNTED)
def test_limit_on_what_is_counted_acts_on_each_so_many_units(name: str) -> None:
    """Both versions fail alike, so no guard would: the limit is the user's own rule."""
    walk = _walk({"name": name, "limit": 0.1, "min_units": 60, "failure_limit": 1}, latency_ms=50)
    alike = seen(counts={f"2/{name}": units(control=600, bad=4, bad_control=80)})
    walk.look(alike, times=3)
    assert (walk.state.outcome, walk.state.guards[f"2/{name}_limit"]) == (None, (1, 1, 30, 4))
    walk.look(alike)
    assert walk.look(GOOD).outcome is Outcome.ROLLED_BACK
    assert f"{name}: 2 of 2 values above 0.1; 1 are borne" in walk.state.reason


def test_limit_on_errors_leaves_a_version_within_it_alone() -> None:
    walk = _walk({"name": "errors", "limit": 0.2, "min_units": 60})
    walk.look(seen(errors=units(control=600, bad=4, bad_control=80)), times=5)
    assert walk.state.outcome is None
    assert walk.state.guards["2/errors_limit"][:2] == (0, 2)


@pytest.mark.parametrize(
    ("direction", "mine", "is_harm"), [("up", 0.2, True), ("up", 0.4, False), ("down", 0.4, True)]
)
def test_limit_on_feedback_is_on_the_mean_of_the_candidates_rewards(
    direction: str, mine: float, is_harm: bool
) -> None:
    """On the metric's own scale: 0 to 10, so a value of 0.2 stands for 2."""
    metric = {
        "name": "click",
        "high": 10,
        "limit": 3,
        "min_units": 20,
        "direction": direction,
        "dry_run": False,
    }
    walk = _walk(metric)
    walk.look(_earned(mine, mine), times=3)
    walk.look(GOOD)
    assert (walk.state.outcome is Outcome.ROLLED_BACK) is is_harm
    shown = {reading.name: reading for reading in readings_of(walk.spec, walk.steps, walk.state)}
    assert {"click_drop", "click_limit"} <= shown.keys()


def test_limit_takes_no_part_of_alpha() -> None:
    alone, limited = _walk("latency"), _walk("latency", {"name": "errors", "limit": 0.1})
    thresholds = [
        {each.name: each.threshold for each in readings_of(walk.spec, walk.steps, walk.state)}
        for walk in (alone, limited)
    ]
    assert thresholds[1] == {**thresholds[0], "errors_limit": 1.0}
