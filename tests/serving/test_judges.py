"""Who judges a rollout: each strategy's guards, and alpha shared out among them for good."""

from dataclasses import replace
from typing import Any

import pytest

from taxiway_serving.rollout.guard import EProcess
from taxiway_serving.rollout.judges import Judge, candidates_of, interval_of, judges_of
from taxiway_serving.rollout.learning import has_settled
from taxiway_serving.rollout.machine import begin
from taxiway_serving.rollout.state import HeaderRoute, RolloutState
from taxiway_serving.rollout.weighing import SETTLED_S, reweighed
from taxiway_serving.rollout.worth import Threshold
from taxiway_serving.strategies import plan
from tests.serving.rollouts import asked, seen, units

QUERY = {"name": "cpu", "kind": "prometheus", "query": "up", "limit": 1.0}
METRICS = ["latency", "latency_slo", "schema", "click", QUERY]
BANDIT = {"kind": "bandit"}
CASES: dict[str, dict[str, Any]] = {
    "canary": {},
    "canary, metrics": {"metrics": METRICS, "latency_ms": 50},
    "linear": {"strategy": "linear"},
    "all at once": {"strategy": "all_at_once", "metrics": METRICS, "latency_ms": 50},
    "blue-green": {"strategy": "blue_green", "metrics": METRICS, "latency_ms": 50},
    "bandit": {"strategy": BANDIT, "rivals": [3, 4], "metrics": METRICS, "latency_ms": 50},
    "ab": {"strategy": {"kind": "ab", "metric": "click"}, "rivals": [3]},
    "shadow": {"strategy": "shadow"},
    "undo": {"strategy": "undo"},
}
START = begin(stable=1, now_s=0)


def _judges(state: RolloutState = START, **body: Any) -> tuple[Judge, ...]:
    spec = asked(**body)
    return judges_of(spec, plan(spec, 1), state)


def _names(judges: tuple[Judge, ...], *, is_harm: bool = True) -> set[str]:
    return {judge.guard.name for judge in judges if judge.is_harm is is_harm}


def _alpha(judges: tuple[Judge, ...]) -> float:
    return sum(
        judge.guard.alpha
        for judge in judges
        if judge.is_harm and judge.acts and isinstance(judge.guard, EProcess)
    )


@pytest.mark.parametrize("body", CASES.values(), ids=CASES)
def test_alpha_of_all_guards_is_the_alpha_that_was_asked_for(body: dict[str, Any]) -> None:
    whole = 0.02 if "rivals" not in body else 0.018
    assert _alpha(_judges(**body, alpha=0.02)) == pytest.approx(whole)


@pytest.mark.parametrize("body", CASES.values(), ids=CASES)
def test_judges_keep_their_evidence_apart(body: dict[str, Any]) -> None:
    judges = _judges(**body)
    assert len({judge.key for judge in judges}) == len(judges)


def test_alpha_holds_whoever_joins_and_leaves() -> None:
    body: dict[str, Any] = {"strategy": BANDIT, "rivals": [3], "alpha": 0.02}
    joined = replace(START, added=(4, 5, 6, 7, 8))
    gone = replace(joined, dropped={2: "harm", 5: "removed"})
    assert _alpha(_judges(joined, **body)) <= 0.02
    before = {judge.key: judge.guard for judge in _judges(**body)}
    for state in (joined, gone):
        kept = {judge.key: judge.guard for judge in _judges(state, **body)}
        assert {key: kept[key] for key in kept.keys() & before.keys()}.items() <= before.items()


def test_dry_run_is_shown_takes_no_alpha_and_never_acts() -> None:
    dry = {"name": "click", "kind": "feedback", "dry_run": True}
    judges = _judges(metrics=[dry])
    (click,) = [judge for judge in judges if judge.metric == "click"]
    assert not click.acts
    assert _alpha(judges) == pytest.approx(_alpha(_judges()))


def test_threshold_takes_no_alpha() -> None:
    with_query = {judge.key: judge.guard for judge in _judges(metrics=[QUERY])}
    for judge in _judges():
        assert with_query[judge.key] == judge.guard
    assert isinstance(with_query["2/cpu_limit"], Threshold)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("canary", {"error_ratio", "client_error_ratio", "error_budget", "client_error_frozen"}),
        ("shadow", {"difference"}),
        ("undo", {"error_budget", "client_error_frozen"}),
    ],
)
def test_plan_says_which_guards_can_act(name: str, harm: set[str]) -> None:
    assert _names(_judges(**CASES[name])) == harm


def test_plan_with_a_preview_holds_those_who_chose_it_to_the_budget() -> None:
    steps = [{"setHeaderRoute": {"header": "x-beta", "value": "1"}}, {"setWeight": 5}, {"setWeight": 100}]
    assert "error_budget" in _names(_judges(strategy={"steps": steps}))
    by_header = {"kind": "ab", "by": {"cookie": "segment", "values": {"b": 2}}}
    assert _names(_judges(strategy=by_header)) == {"error_budget"}


def test_experiment_asks_who_earns_more_even_if_nobody_listed_its_metric() -> None:
    assert "click_gain" in _names(_judges(**CASES["ab"]), is_harm=False)
    assert "click_drop" not in _names(_judges(**CASES["ab"]))


def test_winner_is_the_only_candidate() -> None:
    spec = asked(strategy=BANDIT, rivals=[3, 4])
    assert candidates_of(spec, START) == (2, 3, 4)
    assert candidates_of(spec, replace(START, winner=3)) == (3,)
    assert candidates_of(spec, replace(START, winner=1)) == ()
    assert candidates_of(spec, replace(START, winner=3, dropped={3: "harm"})) == ()


def _share(state: RolloutState, *, is_harm: bool, is_settled: bool) -> float:
    judge = next(judge for judge in _judges() if judge.is_harm is is_harm and judge.metric == "errors")
    interval = interval_of(judge, state, seen(errors=units()), is_settled=is_settled)
    assert interval is not None
    return interval.share


def test_settling_weights_err_on_the_side_of_silence() -> None:
    at_half = replace(START, weights={2: 50.0}, weighed_at_s=10)
    lowered = reweighed(at_half, {2: 20.0}, 100)
    raised_again = reweighed(lowered, {2: 30.0}, 101)
    for state, now, least, most in [(lowered, 0.2, 0.2, 0.5), (raised_again, 0.3, 0.2, 0.5)]:
        assert _share(state, is_harm=True, is_settled=True) == pytest.approx(now)
        assert _share(state, is_harm=True, is_settled=False) == pytest.approx(most)
        assert _share(state, is_harm=False, is_settled=False) == pytest.approx(least)


def test_weights_settle_after_they_were_read_back_and_slow_requests_are_through() -> None:
    state = replace(START, weights={2: 50.0}, weighed_at_s=100)
    look = seen()
    assert not has_settled(state, look, 100 + SETTLED_S / 2)
    assert has_settled(state, look, 100 + SETTLED_S)
    assert not has_settled(state, replace(look, since_s=100.5), 130)
    assert has_settled(state, replace(look, since_s=102.0), 130)


def test_split_of_rivals_leaves_each_its_share_beside_stable() -> None:
    shared = replace(START, weights={2: 40.0, 3: 40.0})
    assert _share(shared, is_harm=True, is_settled=True) == pytest.approx(40 / 60)


def test_those_who_chose_a_header_are_held_to_the_promise_alone() -> None:
    previewed = replace(START, header=HeaderRoute(header="x-beta", versions={"1": 2}))
    judge = next(judge for judge in _judges() if judge.is_harm)
    interval = interval_of(judge, previewed, seen(errors=units()), is_settled=True)
    assert interval is not None
    assert (interval.share, interval.is_chosen, interval.is_alone) == (1.0, True, True)
