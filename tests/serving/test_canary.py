"""The canary's walk: each step, both certificates, the cap on users, routes beside the weights, and what stops it."""

from dataclasses import replace
from typing import Any

import pytest

from taxiway_serving.answers import Answer
from taxiway_serving.rollout.cap import CAP
from taxiway_serving.rollout.judges import judges_of
from taxiway_serving.rollout.machine import begin
from taxiway_serving.rollout.observation import Compared, GroupSeen
from taxiway_serving.rollout.state import Outcome, Status, Verdict
from taxiway_serving.rollout.steps import Analysis
from taxiway_serving.rollout.walk import waited
from taxiway_serving.statistics.label import Counts
from taxiway_serving.strategies import plan
from tests.serving.rollouts import BROKEN, GOOD, HEALTHY, Walk, asked, seen, units


def _own(*steps: Any, **body: Any) -> Walk:
    return Walk(asked(strategy={"kind": "canary", "steps": [*steps]}, **body))


def test_canary_walks_its_preset() -> None:
    walk = Walk(asked())
    walk.look(HEALTHY, times=60)
    assert walk.weights == [0, 5, 25, 100]
    assert (walk.state.outcome, walk.state.winner) == (Outcome.PROMOTED, 2)


def test_linear_raises_its_weight_at_its_interval_and_proves_before_the_last() -> None:
    walk = Walk(asked(strategy={"kind": "linear", "step_pct": 30, "interval_s": 5}))
    walk.look(HEALTHY, times=60)
    assert walk.weights == [0, 30, 60, 90, 100]
    assert walk.state.outcome is Outcome.PROMOTED
    raised_at = [place for place, each in enumerate(walk.decisions) if each.state.weight_pct == 30]
    assert len(raised_at) == 6


def test_flawless_canary_is_certified_by_the_budget() -> None:
    walk = Walk(asked())
    walk.look(HEALTHY, times=60)
    assert any("budget_certificate" in each.reason for each in walk.decisions)


def test_canary_over_the_budget_is_certified_by_the_ratio() -> None:
    """Both versions break the SLO, and the candidate breaks it less."""
    walk = Walk(asked())
    walk.look(seen(errors=units(bad=1, bad_control=10)), times=60)
    assert any("ratio_certificate" in each.reason for each in walk.decisions)
    assert walk.state.outcome is Outcome.PROMOTED


def test_certificate_holds_until_its_deadline_then_asks_a_person() -> None:
    steps = [{"setWeight": 5}, {"analysis": {"certify": True, "deadline_s": 10}}, {"setWeight": 100}]
    walk = _own(*steps)
    walk.look(seen(errors=units(canary=1)), times=30)
    assert (walk.state.status, walk.state.weight_pct) == (Status.PAUSED, 5)
    assert "inconclusive after 10 s: not proven yet" in walk.state.reason
    assert [each.verdict for each in walk.decisions].count(Verdict.INCONCLUSIVE) == 1


def test_promotion_by_a_person_goes_on_without_proof() -> None:
    steps = [{"setWeight": 5}, {"analysis": {"certify": True, "deadline_s": 10}}, {"setWeight": 100}]
    walk = _own(*steps)
    walk.look(GOOD, times=30)
    walk.say("promote")
    assert walk.state.weight_pct == 100
    assert walk.look(GOOD).outcome is Outcome.PROMOTED


def test_promotion_ends_the_last_step_at_a_look_that_sees_all() -> None:
    walk = _own({"setWeight": 100}, {"analysis": {"certify": True, "deadline_s": 5}})
    assert walk.look(GOOD, times=12).status is Status.PAUSED
    assert walk.say("promote").status is Status.PROGRESSING
    assert walk.look(seen(Answer.UNKNOWN)).status is Status.PROGRESSING
    assert walk.look(GOOD).outcome is Outcome.PROMOTED


def test_too_few_new_users_hold_a_step() -> None:
    walk = _own({"setWeight": 5}, {"analysis": {"units": 50}}, {"setWeight": 100})
    again = seen(errors=Counts(canary=30, control=70, requests=30))
    walk.look(HEALTHY, times=2)
    walk.look(again, times=20)
    assert "too little evidence: 0 of 50" in walk.state.reason
    walk.look(HEALTHY, times=2)
    assert walk.state.weight_pct == 100


def test_waits_of_a_bake_and_a_pause_are_told_without_a_clock() -> None:
    walk = _own({"setWeight": 5}, {"pause": {"duration_s": 20}}, {"setWeight": 100}, {"bake": 20})
    walk.look(GOOD, times=10)
    assert {each.reason for each in walk.decisions[3:]} == {"pauses for 20 s, guards quiet"}
    assert walk.decisions[-1].state == walk.decisions[-2].state


@pytest.mark.parametrize("weight_pct", [0, 5, 100])
def test_dead_candidate_is_taken_back_wherever_it_stands(weight_pct: int) -> None:
    walk = _own({"setWeight": weight_pct}, {"bake": 60}, {"setWeight": 100})
    walk.look(GOOD, times=3)
    walk.look(seen(Answer.NO), times=2)
    assert (walk.state.outcome, walk.state.weight_pct) == (Outcome.ROLLED_BACK, 0)


def test_failure_pauses_where_it_was_told_to_and_the_guard_begins_anew() -> None:
    walk = Walk(asked(on_failure="pause"))
    walk.look(GOOD, times=2)
    walk.look(BROKEN, times=3)
    assert (walk.state.status, walk.state.weight_pct) == (Status.PAUSED, 5)
    assert walk.state.failed == ("2/error_ratio",)
    walk.say("resume")
    assert walk.look(HEALTHY).status is Status.PROGRESSING
    walk.look(BROKEN, times=2)
    assert walk.state.status is Status.PAUSED
    walk.say("abort")
    assert walk.look(GOOD).outcome is Outcome.ABORTED


def test_dead_candidate_is_taken_back_even_where_failures_pause() -> None:
    walk = Walk(asked(on_failure="pause"))
    walk.look(GOOD, times=2)
    walk.look(BROKEN, times=2)
    walk.look(seen(Answer.NO), times=2)
    assert walk.state.outcome is Outcome.ROLLED_BACK


def test_broken_contract_is_a_failure_and_pauses_where_failures_do() -> None:
    broken = seen(verified={2: Answer.NO})
    taken_back, paused = Walk(asked()), Walk(asked(on_failure="pause"))
    for walk in (taken_back, paused):
        walk.look(GOOD, times=3)
        walk.look(broken, times=2)
    assert taken_back.state.outcome is Outcome.ROLLED_BACK
    assert (paused.state.status, paused.state.failed) == (Status.PAUSED, ("2/contract",))


def test_weight_waits_for_the_contract_and_asks_a_person_in_the_end() -> None:
    unknown = seen(errors=units(), verified={2: Answer.UNKNOWN})
    walk = Walk(asked())
    walk.look(GOOD)
    walk.look(unknown, times=20)
    assert "waiting for the contract" in walk.state.reason
    walk.look(unknown, times=2, after_s=301)
    assert (walk.state.status, walk.state.weight_pct) == (Status.PAUSED, 5)


def test_sample_ratio_mismatch_pauses_and_begins_anew() -> None:
    walk = _own({"setWeight": 50}, {"bake": 600}, {"setWeight": 100})
    walk.look(GOOD, times=5)
    walk.look(seen(assigned={1: 90, 2: 10}), times=5)
    assert (walk.state.status, walk.state.failed) == (Status.PAUSED, ("0/sample_ratio",))
    assert "sample-ratio mismatch" in walk.state.reason
    walk.say("resume")
    walk.look(seen(assigned={1: 10, 2: 10}), times=5)
    assert walk.state.status is Status.PROGRESSING


def test_units_that_came_before_the_split_stood_still_prove_no_mismatch() -> None:
    walk = _own({"setWeight": 50}, {"bake": 600}, {"setWeight": 100})
    walk.look(GOOD, times=2)
    walk.look(seen(applied=Answer.NO, assigned={1: 100}), times=60)
    walk.look(seen(assigned={1: 100}))
    assert not walk.state.failed


def test_unread_split_judges_nobody_by_the_weights_that_were_asked_for() -> None:
    """5 % was asked for; while 50 % is not gone at the gateway, half of the bad units are the candidate's by chance."""
    from_half = {"strategy": "bandit", "rivals": [3]}
    walk = Walk(asked(**from_half))
    both = seen(versions=(2, 3))
    walk.look(both, times=4)
    walk.say("remove", 3)
    lowered = replace(walk.state, weights={2: 1.0}, spans={2: (0.01, 0.5)}, weighed_at_s=walk.now_s)
    walk.state = lowered
    fair = Counts(canary=50, control=50, bad_canary=5, bad_control=5, requests=50)
    walk.look(seen(applied=Answer.NO, errors=fair), times=30)
    assert walk.state.outcome is None


def test_header_route_is_set_beside_the_weights_and_taken_away() -> None:
    route = {"setHeaderRoute": {"header": "x-beta", "value": "1"}}
    walk = _own(route, {"analysis": {"units": 30}}, {"setHeaderRoute": {}}, {"setWeight": 100})
    walk.look(GOOD)
    assert walk.state.header is not None
    assert (walk.state.header.header, dict(walk.state.header.versions)) == ("x-beta", {"1": 2})
    assert walk.state.weight_pct == 0
    walk.look(HEALTHY, times=4)
    assert walk.state.header is None


def test_testers_by_header_stop_a_broken_version() -> None:
    walk = _own({"setHeaderRoute": {"header": "x-beta", "value": "1"}}, {"bake": 60}, {"setWeight": 100})
    walk.look(GOOD)
    walk.look(BROKEN, times=2)
    assert (walk.state.outcome, walk.state.header) == (Outcome.ROLLED_BACK, None)


def test_mirror_in_a_canary_is_compared_before_any_traffic_moves() -> None:
    steps: list[dict[str, Any]] = [
        {"setMirrorRoute": {"sample_pct": 10}},
        {"compare": {"samples": 50, "most_different_pct": 5}},
        {"setMirrorRoute": {"sample_pct": 0}},
        {"setWeight": 100},
    ]
    good, bad = _own(*steps), _own(*steps)
    for walk, only_candidate in ((good, 0), (bad, 40)):
        walk.look(GOOD)
        assert walk.state.mirror_pct == 10
        walk.look(seen(compared={2: Compared(samples=100, only_candidate=only_candidate)}), times=4)
    assert (good.state.weight_pct, good.state.mirror_pct) == (100, 0)
    assert (bad.state.outcome, bad.weights) == (Outcome.ROLLED_BACK, [0])


def test_deadline_of_the_whole_rollout_pauses_once() -> None:
    walk = _own({"setWeight": 5}, {"bake": 1000}, {"setWeight": 100}, deadline_s=20)
    walk.look(GOOD, times=30)
    assert "not over within 20 s" in walk.state.reason
    walk.say("resume")
    assert walk.look(GOOD, times=5).status is Status.PROGRESSING


CAPPED = {"strategy": {"steps": [{"setWeight": 10}, {"bake": 600}, {"setWeight": 100}]}, "max_users": 100}


def test_cap_closes_the_door_before_too_many_users_have_met_the_candidate() -> None:
    walk = Walk(asked(**CAPPED))
    walk.look(seen(errors=units(canary=0, control=50)), times=2)
    walk.look(seen(errors=units(canary=5, control=45)), times=30)
    assert (walk.state.status, walk.state.is_closed, walk.state.weight_pct) == (Status.PAUSED, True, 10)
    closing = next(each.state for each in walk.decisions if each.state.is_closed)
    assert 50 <= closing.exposed <= 85


def test_cap_is_lifted_by_a_person() -> None:
    walk = Walk(asked(**CAPPED))
    walk.look(seen(errors=units(canary=20, control=45)), times=10)
    assert walk.state.failed == (CAP,)
    walk.say("resume")
    assert (walk.state.is_closed, walk.state.is_open) == (False, True)
    assert walk.look(seen(errors=units(canary=200)), times=5).status is Status.PROGRESSING


def test_cap_is_kept_while_a_rollout_is_paused() -> None:
    walk = Walk(
        asked(strategy={"steps": [{"setWeight": 10}, {"pause": {}}, {"setWeight": 100}]}, max_users=100)
    )
    walk.look(GOOD, times=3)
    assert walk.state.status is Status.PAUSED
    walk.look(seen(errors=units(canary=5, control=45)), times=30)
    assert walk.state.is_closed


def test_weight_that_would_let_too_many_in_at_once_is_not_set() -> None:
    steps = [{"setWeight": 50}, {"setWeight": 100}]
    walk = Walk(asked(strategy={"steps": steps}, max_users=20))
    walk.look(seen(errors=units(canary=0, control=100)), times=3)
    assert (walk.state.status, walk.state.weight_pct, walk.state.is_closed) == (Status.PAUSED, 0, False)
    walk.say("resume")
    assert walk.look(GOOD).weight_pct == 50


def test_proof_opens_the_cap() -> None:
    steps = [{"setWeight": 25}, {"analysis": {"certify": True}}, {"setWeight": 100}, {"bake": 10}]
    walk = Walk(asked(strategy={"steps": steps}, max_users=600))
    walk.look(HEALTHY, times=60)
    assert walk.state.outcome is Outcome.PROMOTED
    assert walk.state.exposed > 600


def test_candidate_that_is_proven_needs_no_cap_wherever_it_stands() -> None:
    walk = _own({"setWeight": 25}, {"bake": 900}, {"setWeight": 100}, max_users=600)
    walk.look(HEALTHY, times=60)
    assert (walk.state.status, walk.state.is_open, walk.state.is_closed) == (Status.PROGRESSING, True, False)


def test_proof_of_one_candidate_says_nothing_of_another() -> None:
    spec = asked(strategy="bandit", rivals=[3])
    state = replace(begin(stable=1, now_s=0), at_step={2: 9, 3: 9}, weights={2: 30.0, 3: 30.0})
    proofs = [judge for judge in judges_of(spec, plan(spec, 1), state) if not judge.is_harm]
    step, evidence = Analysis(certify=True), {"2/budget_certificate": (9.0,) * 4}
    one = replace(state, guards=evidence)
    both = replace(one, guards={**evidence, "3/ratio_certificate": (9.0,) * 4})
    found = [waited(spec, step, each, GOOD, proofs, 1.0) for each in (one, both)]
    assert [each.is_done for each in found] == [False, True]
    assert "version 3" in found[0].reason
    assert "version 2" not in found[0].reason


def test_group_member_waits_for_the_others_and_fails_with_them() -> None:
    group = {"name": "g", "handles": ["digits", "other"]}
    walk = Walk(asked(group=group, strategy={"kind": "undo"}))
    waiting = Walk(walk.spec)
    for each, failed in ((walk, "other: rolled back"), (waiting, "")):
        look = seen(group=GroupSeen(waits_for=("other",), failed=failed))
        each.look(look, times=4)
    assert walk.state.outcome is Outcome.ROLLED_BACK
    assert (waiting.state.outcome, waiting.state.is_ready, waiting.state.weight_pct) == (None, True, 100)
