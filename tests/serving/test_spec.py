"""What a caller may ask of a rollout: every fault at once, those of the strategy's options included."""

from typing import Any

import pytest

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.rollout.spec import MOST_CANDIDATES, STRATEGIES, RolloutSpec, spec_from_json
from taxiway_serving.rollout.steps import Bake, SetWeight
from taxiway_serving.strategies import plan, rollout_from_json
from tests.serving.rollouts import asked

BASE: dict[str, Any] = {"id": "r1", "handle": "digits", "version": 2}
GROUP = {"name": "all", "handles": ["digits", "other"]}


def _faults(body: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(InvalidSpecError) as caught:
        rollout_from_json({**BASE, **body})
    return caught.value.faults


@pytest.mark.parametrize("kind", STRATEGIES)
def test_every_strategy_needs_no_options(kind: str) -> None:
    assert plan(asked(strategy=kind), 1)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"strategy": {"kind": "bandit", "reward": "click", "half_life_s": 60}, "rivals": [3, 4]},
        {"strategy": {"kind": "shadow", "compare": {"pointer": "/label"}}},
        {"strategy": {"kind": "ab", "by": {"cookie": "c", "values": {"a": 2}}}},
        {"metrics": ["latency", "click"], "max_users": 10, "on_failure": "pause", "deadline_s": 60},
        {"group": GROUP, "on_running": "queue", "reverify": False, "shield": False, "alpha": 0.05},
    ],
    ids=str,
)
def test_specifications_survive_their_json(body: dict[str, Any]) -> None:
    spec = asked(**body)
    assert spec_from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ({"speed": 3}, "speed: unknown"),
        ({"strategy": 7}, "give a name or an object"),
        ({"strategy": "magic"}, "strategy: got 'magic'"),
        ({"strategy": {"kind": ["canary"]}}, "strategy: got"),
        ({"handle": "No"}, "No"),
        ({"version": 0}, "version"),
        ({"id": ""}, "id: got ''"),
        ({"id": 7}, "id: got 7"),
        ({"actor": 7}, "actor: got 7"),
        ({"alpha": 1}, "alpha: got 1"),
        ({"alpha": "0.1"}, "alpha: got '0.1'"),
        ({"alpha": float("nan")}, "alpha"),
        ({"availability": True}, "availability: got True"),
        ({"latency_ms": float("nan")}, "latency_ms"),
        ({"latency_ms": 0}, "latency_ms"),
        ({"warm_s": float("inf")}, "warm_s"),
        ({"warm_s": -1}, "warm_s"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"max_users": 10.5}, "max_users"),
        ({"max_users": 1001}, "max_users"),
        ({"max_users": 10, "strategy": "blue_green"}, "cannot keep to a cap"),
        ({"shield": "no"}, "shield: got 'no'"),
        ({"on_failure": "weep"}, "on_failure"),
        ({"on_running": []}, "on_running"),
        ({"rivals": 3}, "give a list of versions"),
        ({"rivals": [3]}, "canary brings one version"),
        ({"rivals": [2], "strategy": "bandit"}, "each version once"),
        ({"rivals": [[3]], "strategy": "bandit"}, "version"),
        ({"rivals": list(range(3, 4 + MOST_CANDIDATES)), "strategy": "bandit"}, "at most 20"),
        ({"metrics": "latency"}, "give a list of names"),
        ({"metrics": ["click", "click"]}, "a name is there twice"),
        ({"metrics": ["latency_slo"]}, "latency_ms: missing"),
        ({"group": "all"}, "give an object with name and handles"),
        ({"group": {**GROUP, "handles": ["other"]}}, "digits among them"),
        ({"group": {**GROUP, "handles": ["digits", "digits"]}}, "name each once"),
        ({"group": {**GROUP, "handles": ["digits", "No"]}}, "No"),
        ({"group": {**GROUP, "name": ""}}, "group.name"),
        ({"strategy": {"kind": "linear", "steps": [{"setWeight": 100}]}}, "steps of its own"),
        ({"strategy": {"kind": "canary", "step_pct": 5}}, "strategy.step_pct: unknown; canary takes none"),
        ({"strategy": {"kind": "blue_green", "bake_s": 5, "steps": [{"setWeight": 100}]}}, "beside steps"),
        ({"strategy": {"kind": "linear", "step_pct": 0}}, "a number from 1 to 100"),
        ({"strategy": {"kind": "blue_green", "units": 1.5}}, "a whole number"),
        ({"strategy": {"kind": "blue_green", "auto_promote": 1}}, "true or false"),
        ({"strategy": {"kind": "undo", "bake_s": 1}}, "undo takes none"),
        ({"strategy": {"kind": "bandit", "floor": 0.5}, "rivals": [3]}, "together at most 1"),
        ({"strategy": {"kind": "bandit", "floor": 0.2, "max_weight_pct": 10}}, "below the floor"),
        ({"strategy": {"kind": "bandit", "algorithm": "exp3"}}, "one of thompson"),
        ({"strategy": {"kind": "bandit", "reward": "Click rate"}}, "strategy.reward"),
        ({"strategy": {"kind": "bandit", "epsilonn": 0.1}}, "strategy.epsilonn: unknown"),
        ({"strategy": {"kind": "shadow", "sample_pct": 0}}, "sample_pct"),
        ({"strategy": {"kind": "shadow", "compare": "label"}}, "strategy.compare"),
        ({"strategy": {"kind": "shadow", "compare": {"leeway": 0.1}}}, "compare.leeway: unknown"),
        ({"strategy": {"kind": "shadow", "compare": {"bogus": 1}}}, "compare.bogus: unknown"),
        ({"strategy": {"kind": "shadow", "compare": {"samples": 9}}}, "compare.samples: unknown"),
        ({"strategy": {"kind": "shadow", "compare": {"tolerance": -1}}}, "strategy.compare.tolerance"),
        ({"strategy": {"kind": "shadow", "compare": {"tolerance": "small"}}}, "strategy.compare.tolerance"),
        ({"strategy": {"kind": "shadow", "pointer": "/label"}}, "strategy.pointer: belongs into compare"),
        ({"strategy": {"kind": "shadow", "samples": 0}}, "strategy.samples"),
        ({"strategy": {"kind": "ab", "promote": True}}, "name one"),
        (
            {"strategy": {"kind": "ab", "promote": True, "metric": "c", "by": {"header": "h", "values": {}}}},
            "compared with nobody",
        ),
        ({"strategy": {"kind": "ab", "by": "coin"}}, "strategy.by"),
        ({"strategy": {"kind": "ab", "by": {"header": "h", "values": {"a": 9}}}}, "to nobody else"),
        ({"strategy": {"kind": "ab", "by": {"values": {"a": 2}}}}, "the header or the cookie"),
        ({"strategy": {"kind": "ab", "weights": {"3": 5}}}, "a share above 0"),
        ({"strategy": {"kind": "ab", "weights": {"2": 101}}}, "strategy.weights"),
        ({"strategy": {"kind": "ab", "metric": "latency"}, "metrics": ["latency"]}, "no metric of feedback"),
        (
            {
                "strategy": {"kind": "ab", "metric": "click"},
                "metrics": [{"name": "click", "dry_run": True}],
            },
            "a dry run",
        ),
        (
            {
                "strategy": {
                    "steps": [{"setHeaderRoute": {"header": "h", "values": {"a": 3}}}, {"setWeight": 100}]
                }
            },
            "leads to \\[3\\]",
        ),
    ],
    ids=str,
)
def test_specification_with_a_fault_says_which(body: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidSpecError, match=fault):
        rollout_from_json({**BASE, **body})


def test_faults_of_rollout_steps_metrics_and_options_come_together() -> None:
    faults = _faults(
        {
            "alpha": 7,
            "colour": "red",
            "metrics": ["errors", {"name": "x", "kind": "magic"}],
            "rivals": [3],
            "strategy": {"kind": "linear", "step_pct": 0, "interval_s": "long", "steep": True},
        }
    )
    told = "\n".join(faults)
    for word in ("alpha", "colour", "always counted", "magic", "rivals", "step_pct", "interval_s", "steep"):
        assert word in told, told


def test_what_is_missing_is_named_with_everything_else() -> None:
    with pytest.raises(InvalidSpecError) as caught:
        rollout_from_json({"alpha": 7, "strategy": {"kind": "bandit", "floor": 9}})
    told = "\n".join(caught.value.faults)
    for word in ("id: missing", "handle: missing", "version: missing", "alpha", "strategy.floor"):
        assert word in told


def test_python_callers_meet_the_same_faults_when_a_plan_is_made() -> None:
    spec = RolloutSpec(**BASE, strategy="linear", options={"step_pct": 0, "steep": True})
    with pytest.raises(InvalidSpecError) as caught:
        plan(spec, 1)
    assert len(caught.value.faults) == 2


@pytest.mark.parametrize(
    "body",
    [
        {"strategy": "shadow"},
        {"strategy": "ab"},
        {"strategy": "bandit", "rivals": [3]},
        {"strategy": {"steps": [{"setMirrorRoute": {"sample_pct": 5}}, {"setWeight": 100}]}},
    ],
    ids=str,
)
def test_what_compares_needs_a_live_version(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpecError, match="no live version to compare with"):
        plan(asked(**body), None)


def test_first_deployment_sends_all_at_once_whatever_the_steps() -> None:
    own = asked(strategy={"steps": [{"setWeight": 5}, {"pause": {}}, {"setWeight": 100}]})
    assert plan(own, None) == (SetWeight(weight_pct=100), Bake(duration_s=2))
    assert plan(own, 1) == own.steps
