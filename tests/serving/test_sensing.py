"""The controller with all its senses over the shipped fakes: rewards move weights, late ones count, silence freezes.

What queries and proofs say is told by the test; how they are asked is tested in `test_queries.py` and `test_live_*.py`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.controller.reverifying import Proof, Reverifier
from taxiway_serving.controller.sensing import Sensing
from taxiway_serving.evidence.queries import Queries, Query, Sources
from taxiway_serving.feedback import Event
from taxiway_serving.ledger.rewards import SqlRewards
from taxiway_serving.ledger.timeline import SqlTimeline
from taxiway_serving.rollout.spec import spec_from_json
from taxiway_serving.rollout.state import Outcome, RolloutState, Status
from taxiway_serving.statistics.counterfactual import counterfactual
from tests.serving.plane import HANDLE, Plane

BANDIT = {"kind": "bandit", "reward": "click", "update_s": 5, "window_s": 5, "min_units": 30, "min_s": 20}


@pytest.fixture
def sensing(tmp_path: Path) -> Iterator[Sensing]:
    url = f"sqlite:///{tmp_path / 'senses.db'}"
    made = Sensing(rewards=SqlRewards(url), timeline=SqlTimeline(url))
    yield made
    made.close()


@pytest.fixture
def market(plane: Plane, sensing: Sensing) -> Plane:
    """A plane with version 1 live, and versions 2 and 3 deployed."""
    plane.senses = sensing
    plane.restart()
    plane.go_live(1)
    for version in (2, 3):
        plane.deploy(version)
    plane.tick(3)
    return plane


def _begin(plane: Plane, rollout_id: str, **spec: Any) -> None:
    plane.commands.start(
        spec_from_json({"id": rollout_id, "handle": HANDLE, "version": 2, "warm_s": 60, **spec})
    )


def _reward(plane: Plane, sensing: Sensing, metric: str, rates: dict[int, int], since: int) -> int:
    """Let every n-th request of a version bring a reward; return where the log ends."""
    attempts = plane.source.read("").attempts[since:]
    events, counts = [], dict.fromkeys(rates, 0)
    for attempt in attempts:
        if attempt.number == 1 and attempt.assigned in rates:
            counts[attempt.assigned] += 1
            if counts[attempt.assigned] % rates[attempt.assigned] == 0:
                events.append(
                    Event(request_id=attempt.request_id, metric=metric, value=1.0, event_at_s=attempt.at_s)
                )
    if events:
        sensing.rewards.accept(events, now_s=plane.now_s)
    return since + len(attempts)


def _run(
    plane: Plane, sensing: Sensing, rollout_id: str, *, ticks: int, metric: str = "click", **rates: int
) -> RolloutState:
    every = {int(name.removeprefix("v")): n for name, n in rates.items()}
    place = len(plane.source.read("").attempts)
    for _ in range(ticks):
        plane.tick(requests=100)
        place = _reward(plane, sensing, metric, every, place)
        if plane.rollout(rollout_id).state.outcome is not None:
            break
    return plane.rollout(rollout_id).state


@pytest.mark.slow
def test_bandit_sends_more_to_the_version_that_earns_more_and_makes_it_live(
    market: Plane, sensing: Sensing
) -> None:
    _begin(market, "earn", rivals=[3], strategy=BANDIT)
    state = _run(market, sensing, "earn", ticks=400, v1=3, v2=3, v3=1)
    market.tick(20, requests=100)
    assert (state.outcome, state.winner) == (Outcome.PROMOTED, 3)
    assert market.stable == 3


@pytest.mark.slow
def test_bandit_keeps_its_split_when_rewards_fall_silent(market: Plane, sensing: Sensing) -> None:
    _begin(market, "silent", rivals=[3], strategy={**BANDIT, "silence_s": 15, "min_s": 9999})
    before = _run(market, sensing, "silent", ticks=60, v1=20, v2=20, v3=4)
    market.tick(20, requests=100)
    frozen = market.rollout("silent").state.weights
    market.tick(60, requests=100)
    after = market.rollout("silent").state
    assert after.weights == frozen
    assert after.weights[3] > 50
    assert before.outcome is after.outcome is None
    assert "no reward for" in after.reason


def test_feedback_that_falls_rolls_a_canary_back(market: Plane, sensing: Sensing) -> None:
    steps = [{"setWeight": 50}, {"analysis": {"units": 100_000}}, {"setWeight": 100}]
    _begin(market, "worse", strategy={"kind": "canary", "steps": steps}, metrics=["click"])
    state = _run(market, sensing, "worse", ticks=120, v1=2, v2=10)
    assert state.outcome is Outcome.ROLLED_BACK
    assert "click" in state.reason


@pytest.mark.slow
def test_experiment_names_the_winner_and_leaves_stable_live(market: Plane, sensing: Sensing) -> None:
    strategy = {"kind": "ab", "metric": "click", "units": 1500, "window_s": 5}
    _begin(market, "ab", strategy=strategy, metrics=["click"])
    state = _run(market, sensing, "ab", ticks=200, v1=10, v2=2)
    assert (state.outcome, state.winner, market.stable) == (Outcome.COMPLETED, 2, 1)
    assert state.arms[2].mean > 2 * state.arms[1].mean


def test_timeline_joins_requests_and_rewards_of_each_version(market: Plane, sensing: Sensing) -> None:
    _run(market, sensing, "to-1", ticks=1)
    since_s = market.now_s
    place = len(market.source.read("").attempts)
    for _ in range(20):
        market.tick(requests=10)
    _reward(market, sensing, "click", {1: 4}, place)
    rows = sensing.timeline.rows(HANDLE, since_s=since_s - 10, until_s=market.now_s + 10)
    assert sum(row.requests for row in rows if row.version == 1) >= 200
    earned = sensing.rewards.history(HANDLE, since_s=since_s - 10, until_s=market.now_s + 10, step_s=10)
    assert sum(metrics["click"]["n"] for metrics in earned.values()) == 50


HEADER = {"x-tester": "yes"}
ROUTED = [{"setHeaderRoute": {"header": "x-tester", "value": "yes"}}, {"setWeight": 5}]


@pytest.mark.slow
def test_who_came_by_a_header_is_not_compared_with_those_whom_chance_assigned(
    market: Plane, sensing: Sensing
) -> None:
    """Thirty testers beside a hundred others complain alike: as draws of a 5 % share they would be far too many."""
    steps = [*ROUTED, {"analysis": {"units": 100_000}}, {"setWeight": 100}]
    metric = {"name": "complaint", "kind": "feedback", "direction": "down"}
    _begin(market, "tested", strategy={"kind": "canary", "steps": steps}, metrics=[metric])
    place = len(market.source.read("").attempts)
    for _ in range(25):
        for market.headers, requests in ((HEADER, 30), ({}, 100)):
            market.tick(requests=requests)
            place = _reward(market, sensing, "complaint", {1: 2, 2: 2}, place)
    state = market.state("tested")
    assert (state.status, state.outcome) == (Status.PROGRESSING, None)
    rewards = sensing.rewards.values(HANDLE, sensing.rewards.metric(HANDLE, "complaint"))
    drawn = {a.request_id for a in market.source.read("").attempts if a.via == "split"}
    assert {each.request_id for each in rewards} <= drawn
    by_header = [a for a in market.source.read("").attempts if a.via == "header"]
    account = sensing.rewards.account(by_header[1].request_id, now_s=market.now_s)
    assert account is not None
    assert account.exposure is not None
    assert (account.exposure.version, [one.status for one in account.receipts]) == (2, ["attributed"])


@pytest.mark.slow
def test_experiment_by_header_reports_what_each_version_earned_and_compares_nothing(
    market: Plane, sensing: Sensing
) -> None:
    by = {"header": "x-arm", "values": {"b": 2, "c": 3}}
    strategy = {"kind": "ab", "by": by, "metric": "click", "units": 200, "window_s": 5}
    _begin(market, "by-header", rivals=[3], strategy=strategy)
    place = len(market.source.read("").attempts)
    for _ in range(40):
        for arm in ("b", "c", "a"):
            market.headers = {"x-arm": arm}
            market.tick(requests=10)
            place = _reward(market, sensing, "click", {1: 10, 2: 2, 3: 5}, place)
    state = market.state("by-header")
    assert (state.outcome, state.winner, market.stable) == (Outcome.COMPLETED, 1, 1)
    assert state.guards.get("2/click_gain") is state.guards.get("3/click_gain") is None
    assert min(arm.exposures for arm in state.arms.values()) > 150
    means = {version: arm.mean for version, arm in state.arms.items()}
    assert means == pytest.approx({1: 0.1, 2: 0.5, 3: 0.2}, abs=0.05)


def _sell(market: Plane, sensing: Sensing, times: Mapping[int, int], *, ticks: int, requests: int) -> None:
    """Let time pass, with sales of the same size, so many for each request of a version."""
    place = len(market.source.read("").attempts)
    for _ in range(ticks):
        market.tick(requests=requests)
        attempts = market.source.read("").attempts[place:]
        place += len(attempts)
        sales = [
            Event(
                request_id=each.request_id, metric="revenue", value=3.0, event_id=f"{n}", event_at_s=each.at_s
            )
            for each in attempts
            if each.number == 1
            for n in range(times.get(each.assigned, 0))
        ]
        sensing.rewards.accept(sales, now_s=market.now_s)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "outcome"), [("first", None), ("max", None), ("sum", Outcome.ROLLED_BACK)])
def test_several_events_of_a_request_become_one_value_as_the_metric_says(
    market: Plane, sensing: Sensing, how: str, outcome: Outcome | None
) -> None:
    """Each sale is as large on both versions; version 1 sells three times for each request, version 2 once."""
    metric = {"name": "revenue", "kind": "feedback", "how": how, "high": 10, "window_s": 5}
    steps = [{"setWeight": 50}, {"analysis": {"units": 100_000}}, {"setWeight": 100}]
    _begin(market, "sales", strategy={"kind": "canary", "steps": steps}, metrics=[metric])
    _sell(market, sensing, {1: 3, 2: 1}, ticks=70, requests=30)
    assert market.state("sales").outcome is outcome


@pytest.mark.slow
def test_experiment_waits_until_the_sums_of_its_last_units_are_whole(market: Plane, sensing: Sensing) -> None:
    strategy = {"kind": "ab", "metric": "revenue", "how": "sum", "units": 400, "window_s": 5}
    metric = {"name": "revenue", "kind": "feedback", "how": "sum", "high": 10, "window_s": 5}
    _begin(market, "ab", strategy=strategy, metrics=[metric])
    _sell(market, sensing, {1: 1, 2: 3}, ticks=90, requests=50)
    assert (market.state("ab").outcome, market.state("ab").winner) == (Outcome.COMPLETED, 2)


@pytest.mark.parametrize(("how", "mean"), [("first", 3.0), ("sum", 9.0)])
def test_bandit_earns_as_its_option_says(market: Plane, sensing: Sensing, how: str, mean: float) -> None:
    strategy = {**BANDIT, "reward": "revenue", "reward_kind": "continuous", "how": how, "min_s": 9999}
    _begin(market, "earn", strategy=strategy)
    _sell(market, sensing, {1: 3, 2: 3}, ticks=40, requests=20)
    assert market.state("earn").arms[2].mean == pytest.approx(mean, rel=0.1)


class ToldQueries(Queries):
    """Answers what a test says; a value that was told is no news until it is told again."""

    def __init__(self) -> None:
        super().__init__(Sources({}))
        self.value: float | None = None
        self.asked: list[Query] = []
        self.kept: set[str] = set()

    def news(self, query: Query, *, interval_s: float, now_s: float) -> float | None:
        self.asked.append(query)
        return self.value

    def keep(self, rollouts: Any) -> None:
        self.kept = set(rollouts)


class ToldProofs(Reverifier):
    """Finds each contract as a test says."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9")
        self.holds = Answer.YES
        self.asked: list[tuple[Proof, bool]] = []

    def answer(self, proof: Proof, *, now_s: float, is_repeated: bool) -> Answer:
        self.asked.append((proof, is_repeated))
        return self.holds


CPU = {"name": "cpu", "kind": "prometheus", "query": "cpu", "limit": 0.8}
GATES = {
    "running": [{"setWeight": 50}, {"bake": {"duration_s": 900}}, {"setWeight": 100}],
    "pause step": [{"setWeight": 50}, {"pause": {}}, {"setWeight": 100}],
}


@pytest.fixture
def queries(market: Plane, sensing: Sensing) -> ToldQueries:
    sensing.queries = ToldQueries()
    return sensing.queries


@pytest.fixture
def proofs(market: Plane, sensing: Sensing, tmp_path: Path) -> ToldProofs:
    """Version 2 has a contract."""
    contract = market.home / "bento" / "contract.json"
    contract.write_text("{}")
    market.commands.deploy(replace(market.spec(2), contract=contract), actor="ann")
    sensing.reverifier = ToldProofs()
    return sensing.reverifier


@pytest.mark.parametrize("gate", GATES)
def test_query_beyond_its_limit_takes_the_candidate_back_behind_a_gate_too(
    market: Plane, queries: ToldQueries, gate: str
) -> None:
    """flagger#1432, #1801: rollback was not checked while the rollout waited for an approval."""
    _begin(market, "r", strategy={"kind": "canary", "steps": GATES[gate]}, metrics=[CPU])
    queries.value = 0.5
    market.tick(10, requests=20)
    assert (market.state("r").outcome, market.weight_pct(2)) == (None, 50)
    assert {(each.rollout, each.metric, each.version) for each in queries.asked} == {("r", "cpu", 2)}
    queries.value = 0.9
    market.tick(4, requests=20)
    assert (market.state("r").outcome, market.weight_pct(2)) == (Outcome.ROLLED_BACK, 0)
    assert queries.kept == set()


@pytest.mark.parametrize("gate", GATES)
def test_contract_that_no_longer_holds_takes_the_candidate_back_behind_a_gate_too(
    market: Plane, proofs: ToldProofs, gate: str
) -> None:
    _begin(market, "r", strategy={"kind": "canary", "steps": GATES[gate]}, metrics=["schema"])
    market.tick(10, requests=20)
    assert (market.state("r").outcome, market.weight_pct(2)) == (None, 50)
    assert {(proof.version, is_repeated) for proof, is_repeated in proofs.asked} == {(2, True)}
    proofs.holds = Answer.NO
    market.tick(4, requests=20)
    assert (market.state("r").outcome, market.weight_pct(2)) == (Outcome.ROLLED_BACK, 0)


def test_contract_that_cannot_be_proven_now_neither_promotes_nor_takes_back(
    market: Plane, proofs: ToldProofs
) -> None:
    proofs.holds = Answer.UNKNOWN
    steps = [{"setWeight": 50}, {"bake": {"duration_s": 10}}, {"setWeight": 100}]
    _begin(market, "r", strategy={"kind": "canary", "steps": steps})
    market.tick(40, requests=20)
    assert (market.state("r").outcome, market.weight_pct(2)) == (None, 50)


def test_latency_is_held_against_the_stable_versions_own(market: Plane) -> None:
    market.tick(10, requests=50)
    _begin(market, "r", strategy={"kind": "canary", "steps": GATES["running"]}, metrics=["latency"])
    market.tick(10, requests=50)
    state = market.state("r")
    assert state.baseline_ms == 2.0
    assert state.totals["2/latency"].canary > 0
    assert state.totals["2/latency"].bad_canary == 0


@pytest.mark.slow
def test_foretelling_leaves_out_the_time_between_two_rollouts(market: Plane, sensing: Sensing) -> None:
    steps = [{"setWeight": 10}, {"bake": {"duration_s": 900}}, {"setWeight": 100}]
    for name in ("first", "second"):
        _begin(market, name, strategy={"kind": "canary", "steps": steps})
        market.tick(20, requests=50)
        market.act(name, "abort")
        market.tick(40, requests=50)
    metric = sensing.rewards.metric(HANDLE, "click")
    rows = sensing.rewards.drawn(HANDLE, metric, version=2, since_s=0.0, now_s=market.now_s + 9999)
    found = counterfactual(rows, 2)
    assert (found.reason, 1500 < found.decisions < 2200) == ("", True)
