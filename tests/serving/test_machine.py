"""The rollout machine: its walks, and properties that hold for every series of looks and commands."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway_serving.answers import Answer
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.rollout.machine import Decision, advance, begin, replay
from taxiway_serving.rollout.observation import Observation, observation_from_json
from taxiway_serving.rollout.spec import RolloutSpec, spec_from_json
from taxiway_serving.rollout.state import (
    TRANSITIONS,
    Outcome,
    RolloutState,
    Status,
    Verdict,
    phase,
    state_from_json,
)
from taxiway_serving.rollout.steps import Bake, SetWeight, Step
from taxiway_serving.rollout.verbs import VERBS, abandoned, act
from taxiway_serving.statistics.label import NOTHING, Counts
from taxiway_serving.strategies import plan


def _look(
    candidate: Answer = Answer.YES,
    *,
    applied: Answer = Answer.YES,
    evidence: Answer = Answer.YES,
    version: int = 2,
    interval: Counts = NOTHING,
    **seen: Any,
) -> Observation:
    """Return what was seen of a rollout with one candidate."""
    return Observation(
        candidates={version: candidate},
        applied=applied,
        evidence=evidence,
        counts={f"{version}/errors": interval},
        **seen,
    )


GOOD = _look()
HEALTHY = Counts(canary=30, control=70, fresh=30, requests=30)
BROKEN = Counts(canary=30, control=70, bad_canary=15, fresh=30, requests=30)


def _spec(**options: Any) -> RolloutSpec:
    return RolloutSpec(**{"id": "r1", "handle": "digits", "version": 2, "warm_s": 0, **options})


def _run(
    spec: RolloutSpec, stable: int | None, looks: list[Observation], *, every_s: float = 1
) -> tuple[list[Decision], tuple[Step, ...]]:
    steps = plan(spec, stable)
    state, decisions = begin(stable=stable, now_s=0), []
    for number, seen in enumerate(looks, 1):
        decision = advance(spec, steps, state, seen, number * every_s)
        state = decision.state
        decisions.append(decision)
    return decisions, steps


def _weights(decisions: list[Decision]) -> list[float]:
    weights: list[float] = []
    for decision in decisions:
        if not weights or weights[-1] != decision.state.weight_pct:
            weights.append(decision.state.weight_pct)
    return weights


def test_canary_walks_to_promotion_when_flawless() -> None:
    decisions, _ = _run(_spec(), 1, [_look(interval=HEALTHY)] * 60)
    assert _weights(decisions) == [5, 25, 100]
    assert decisions[-1].state.outcome is Outcome.PROMOTED
    assert Verdict.PROMOTE in {decision.verdict for decision in decisions}


def test_canary_is_rolled_back_in_first_step() -> None:
    looks = [GOOD] * 2 + [_look(interval=BROKEN, first_bad_at_s=2.5)] * 2
    decisions, _ = _run(_spec(), 1, looks)
    state = decisions[-1].state
    assert _weights(decisions) == [5, 0]
    assert (state.outcome, state.first_bad_at_s, state.rolled_back_at_s) == (Outcome.ROLLED_BACK, 2.5, 4)


def test_rollback_ends_only_when_zero_is_read_back() -> None:
    unread = _look(applied=Answer.NO)
    looks = [GOOD] * 2 + [_look(interval=BROKEN)] + [unread] * 40
    decisions, _ = _run(_spec(), 1, looks)
    assert decisions[-1].state.status is Status.ROLLING_BACK
    assert phase(decisions[-1].state, 44) == "RollbackFailed"


def test_too_little_evidence_holds_then_pauses_as_inconclusive() -> None:
    steps = {
        "kind": "canary",
        "steps": [{"setWeight": 5}, {"analysis": {"units": 9, "deadline_s": 5}}, {"setWeight": 100}],
    }
    spec = spec_from_json({"id": "r1", "handle": "digits", "version": 2, "strategy": steps})
    decisions, _ = _run(spec, 1, [GOOD] * 10)
    assert decisions[3].verdict is Verdict.HOLD
    assert decisions[-1].state.status is Status.PAUSED
    assert Verdict.INCONCLUSIVE in {decision.verdict for decision in decisions}


def test_first_deployment_takes_all_traffic_at_once() -> None:
    decisions, steps = _run(_spec(), None, [GOOD] * 6)
    assert steps == (SetWeight(weight_pct=100), Bake(duration_s=2))
    assert decisions[-1].state.outcome is Outcome.PROMOTED


def test_first_deployment_that_fails_keeps_traffic_for_want_of_an_older_one() -> None:
    bad = Counts(canary=50, bad_canary=40, fresh=50, requests=50)
    decisions, _ = _run(_spec(), None, [GOOD] + [_look(interval=bad)] * 3)
    state = decisions[-1].state
    assert (state.outcome, state.weight_pct) == (Outcome.ABORTED, 100)
    assert "no older version" in state.reason


def test_candidate_that_is_never_ready_ends_without_traffic() -> None:
    starting = _look(Answer.UNKNOWN)
    decisions, _ = _run(_spec(), 1, [starting] * 8, every_s=60)
    assert _weights(decisions) == [0]
    assert decisions[-1].state.outcome is Outcome.ABORTED


def test_blue_green_is_guarded_at_full_traffic_by_the_budget() -> None:
    bad = Counts(canary=50, bad_canary=20, fresh=50, requests=50)
    looks = [GOOD] * 5 + [_look(interval=bad)] * 2
    decisions, _ = _run(_spec(strategy="blue_green"), 1, looks)
    assert _weights(decisions) == [0, 100, 0]
    assert decisions[-1].state.outcome is Outcome.ROLLED_BACK


def test_pause_step_waits_for_resume_and_goes_on() -> None:
    steps = {"kind": "canary", "steps": [{"setWeight": 5}, {"pause": {}}, {"setWeight": 100}, {"pause": {}}]}
    spec = spec_from_json({"id": "r1", "handle": "digits", "version": 2, "strategy": steps})
    decisions, plan_ = _run(spec, 1, [GOOD] * 6)
    state = decisions[-1].state
    assert (state.status, state.weight_pct) == (Status.PAUSED, 5)
    for weight in (100, 100):
        state = act(spec, plan_, state, "resume", actor="someone", now_s=20)
        for now_s in (21, 22, 23):
            state = advance(spec, plan_, state, GOOD, now_s).state
        assert state.weight_pct == weight
    assert state.outcome is Outcome.PROMOTED


def test_candidate_that_died_between_two_looks_is_rolled_back() -> None:
    looks = [GOOD] * 3 + [_look(restarts={2: 1})]
    decisions, _ = _run(_spec(), 1, looks)
    assert decisions[-1].state.outcome is Outcome.ROLLED_BACK


def test_refused_split_says_why_and_pauses_after_a_while() -> None:
    refused = replace(GOOD, applied=Answer.NO, rejection="no such cluster")
    decisions, _ = _run(_spec(), 1, [GOOD] + [refused] * 8, every_s=60)
    assert "no such cluster" in decisions[2].state.reason
    assert decisions[-1].state.status is Status.PAUSED


def test_blue_green_without_traffic_is_not_promoted() -> None:
    decisions, _ = _run(_spec(strategy="blue_green"), 1, [GOOD] * 60)
    assert decisions[-1].state.outcome is None


@pytest.mark.parametrize(
    "step",
    [
        {"setWeight": None},
        {"setWeight": True},
        {"analysis": {"deadline_s": None}},
        {"analysis": {"units": float("nan")}},
        {"bake": None},
        {"pause": {"duration_s": "long"}},
    ],
    ids=str,
)
def test_step_of_a_wrong_kind_is_a_fault(step: dict[str, Any]) -> None:
    steps = [step, {"setWeight": 100}]
    with pytest.raises(InvalidSpecError, match="step 1"):
        spec_from_json({"id": "r", "handle": "digits", "version": 2, "strategy": {"steps": steps}})


ONE_CANDIDATE_VERBS = [verb for verb in VERBS if verb not in ("add", "remove")]
answers = st.sampled_from(Answer)
counts = st.builds(
    lambda canary, control, x, y, fresh: Counts(
        canary=canary,
        control=control,
        bad_canary=min(x, canary),
        bad_control=min(y, control),
        fresh=min(fresh, canary),
    ),
    *(st.integers(0, 40) for _ in range(5)),
)
looks_strategy = st.lists(
    st.one_of(
        st.builds(_look, answers, applied=answers, evidence=answers, interval=counts),
        st.sampled_from([_look(interval=HEALTHY), GOOD]),
        st.sampled_from(ONE_CANDIDATE_VERBS),
    ),
    max_size=40,
)
specs = st.builds(lambda kind: _spec(strategy=kind), st.sampled_from(["canary", "blue_green"]))


@given(spec=specs, stable=st.sampled_from([None, 1]), events=looks_strategy)
def test_machine_keeps_its_promises_for_any_events(
    spec: RolloutSpec, stable: int | None, events: list[Observation | str]
) -> None:
    steps = plan(spec, stable)
    state = begin(stable=stable, now_s=0)
    for now_s, event in enumerate(events, 1):
        if isinstance(event, str):
            after = act(spec, steps, state, event, actor="someone", now_s=now_s)
        else:
            after = advance(spec, steps, state, event, now_s).state
            _check_look(state, event, after)
        _check_move(state, after)
        state = after


def _check_move(before: RolloutState, after: RolloutState) -> None:
    assert after.status is before.status or after.status in TRANSITIONS[before.status]
    assert before.status is not Status.ENDED or after == before
    assert state_from_json(after.to_json()) == after
    if before.status is Status.ROLLING_BACK:
        assert after.weight_pct == 0


def _check_look(before: RolloutState, seen: Observation, after: RolloutState) -> None:
    """Unknown never promotes and never raises a weight."""
    is_sure = seen.health(2) is Answer.YES and seen.applied is Answer.YES and seen.evidence is Answer.YES
    if after.weight_pct > before.weight_pct:
        assert is_sure
    if after.outcome is Outcome.PROMOTED and before.outcome is None:
        assert is_sure


@given(spec=specs, events=st.lists(looks_strategy.filter(bool).map(lambda items: items[0]), max_size=30))
def test_replay_of_recorded_looks_gives_same_state(
    spec: RolloutSpec, events: list[Observation | str]
) -> None:
    steps = plan(spec, 1)
    first = state = begin(stable=1, now_s=0)
    looks = [(seen, float(at_s)) for at_s, seen in enumerate(events, 1) if isinstance(seen, Observation)]
    for seen, now_s in looks:
        state = advance(spec, steps, state, seen, now_s).state
    recorded = [(observation_from_json(seen.to_json()), now_s) for seen, now_s in looks]
    assert replay(spec, steps, first, recorded) == state


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_are_no_ops_when_idle(verb: str) -> None:
    spec = _spec()
    ended = replace(begin(stable=1, now_s=0), status=Status.ENDED, outcome=Outcome.PROMOTED)
    assert act(spec, plan(spec, 1), ended, verb, actor="someone", now_s=9) == ended


def test_abort_and_pause_twice_are_once() -> None:
    spec = _spec()
    decisions, steps = _run(spec, 1, [GOOD] * 3)
    state = decisions[-1].state
    for verb in ("pause", "abort"):
        once = act(spec, steps, state, verb, actor="someone", now_s=9)
        assert act(spec, steps, once, verb, actor="someone", now_s=10) == once


def test_promote_full_goes_to_last_weight() -> None:
    spec = _spec()
    decisions, steps = _run(spec, 1, [GOOD] * 3)
    state = act(spec, steps, decisions[-1].state, "promote-full", actor="someone", now_s=9)
    assert state.weight_pct == 100


def test_first_deployment_that_is_superseded_keeps_the_traffic_and_says_by_whom() -> None:
    spec = _spec()
    decisions, _ = _run(spec, None, [GOOD] * 2)
    state = abandoned(decisions[-1].state, Outcome.SUPERSEDED, "superseded by r2", 9)
    assert (state.outcome, state.weight_pct) == (Outcome.SUPERSEDED, 100)
    assert state.reason.startswith("superseded by r2")


def test_hold_changes_nothing_while_nothing_is_new() -> None:
    """A look that teaches nothing leaves the very same state, so that nothing has to be stored."""
    decisions, _ = _run(_spec(strategy="linear"), 1, [GOOD] * 20)
    assert decisions[-1].state is decisions[-2].state


def test_readings_are_put_in_words_where_something_is_decided() -> None:
    decisions, _ = _run(_spec(), 1, [GOOD] * 4)
    told = [(each.verdict is Verdict.HOLD, bool(each.readings)) for each in decisions]
    assert set(told) == {(True, False), (False, True)}


def test_state_of_an_earlier_release_is_read_with_what_it_has() -> None:
    state = begin(stable=1, now_s=3)
    older = {**state.to_json(), "before": {"2": 5.0}}
    for name in ("spans", "is_waived", "is_overdue", "is_frozen"):
        del older[name]
    assert state_from_json(older) == state
