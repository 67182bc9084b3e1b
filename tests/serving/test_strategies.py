"""Promises that hold for every strategy, for any series of looks, commands and pauses between them."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from taxiway_serving.answers import Answer
from taxiway_serving.errors import ConflictError, InvalidSpecError
from taxiway_serving.rollout.judges import candidates_of
from taxiway_serving.rollout.machine import advance, begin, readings_of, replay
from taxiway_serving.rollout.observation import (
    Compared,
    GroupSeen,
    Observation,
    Rewards,
    Value,
    observation_from_json,
)
from taxiway_serving.rollout.plans import plan_from_json, step_to_json
from taxiway_serving.rollout.spec import RolloutSpec, spec_from_json
from taxiway_serving.rollout.state import (
    PROMOTIONS,
    TRANSITIONS,
    Outcome,
    RolloutState,
    Status,
    Verdict,
    state_from_json,
)
from taxiway_serving.rollout.steps import Explore, Step
from taxiway_serving.rollout.verbs import VERBS, act
from taxiway_serving.split import Split
from taxiway_serving.statistics.label import Counts
from taxiway_serving.statistics.thompson import default_floor
from taxiway_serving.strategies import plan
from tests.serving.rollouts import asked

K = TypeVar("K")
V = TypeVar("V")
OWN_STEPS = [
    {"setHeaderRoute": {"header": "x-beta", "value": "1"}},
    {"analysis": {"units": 5, "deadline_s": 60}},
    {"setMirrorRoute": {"sample_pct": 10}},
    {"compare": {"samples": 20, "most_different_pct": 20}},
    {"setMirrorRoute": {"sample_pct": 0}},
    {"setWeight": 1},
    {"pause": {"duration_s": 5}},
    {"setHeaderRoute": {}},
    {"setWeight": 20},
    {"pause": {}},
    {"analysis": {"units": 20, "certify": True, "deadline_s": 300}},
    {"setWeight": 100},
    {"bake": {"duration_s": 5}},
]
METRICS = [
    "latency",
    "latency_slo",
    "schema",
    "click",
    {"name": "cpu", "kind": "prometheus", "query": "up", "limit": 0.8, "failure_limit": 2},
    {"name": "seen", "kind": "feedback", "dry_run": True},
]
BANDIT = {"kind": "bandit", "update_s": 2, "min_units": 20, "min_s": 5, "floor": 0.05, "max_weight_pct": 60}
ASKED: dict[str, dict[str, Any]] = {
    "canary": {},
    "canary capped": {"max_users": 100, "metrics": METRICS, "latency_ms": 50},
    "canary paused": {"on_failure": "pause", "deadline_s": 100},
    "own steps": {"strategy": {"kind": "canary", "steps": OWN_STEPS}, "metrics": ["click"]},
    "linear": {"strategy": {"kind": "linear", "interval_s": 2}},
    "all at once": {"strategy": {"kind": "all_at_once"}},
    "blue-green": {"strategy": {"kind": "blue_green", "units": 20, "auto_promote": False}},
    "bandit": {"strategy": BANDIT, "rivals": [3, 4]},
    "bandit alone": {"strategy": {**BANDIT, "algorithm": "ucb", "half_life_s": 60}},
    "bandit named": {"strategy": {**BANDIT, "algorithm": "epsilon_greedy", "promote": False}, "rivals": [3]},
    "shadow": {"strategy": {"kind": "shadow", "samples": 20}},
    "ab": {
        "strategy": {"kind": "ab", "metric": "click", "units": 50, "promote": True},
        "rivals": [3],
        "metrics": METRICS,
        "latency_ms": 50,
    },
    "ab by header": {
        "strategy": {"kind": "ab", "units": 50, "by": {"header": "x-s", "values": {"a": 2, "b": 3}}},
        "rivals": [3],
    },
    "undo": {"strategy": {"kind": "undo"}},
}
ALONE = ("canary", "canary paused", "linear", "all at once", "blue-green", "bandit alone", "undo")
"""Those that may be a handle's first."""
VERSIONS = (2, 3, 4, 5)
KEYS = ("errors", "client_errors", "latency", "latency_slo", "schema")


@dataclass(frozen=True)
class Said:
    """A person's word."""

    verb: str
    version: int


@dataclass(frozen=True)
class Passed:
    """Time that passes until the next event."""

    seconds: float


class Dice:
    """Draws looks from a seed: thousands of them cost little, and the same seed gives the same look."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - looks, not secrets
        # Most looks are calm, so that rollouts get somewhere; the others show everything that can be shown.
        self._wild = self._random.choice([0.0, 0.0, 0.02, 0.3])

    def look(self) -> Observation:
        pick = self._random
        return Observation(
            candidates={version: self._answer() for version in VERSIONS},
            applied=self._answer(),
            evidence=self._answer(),
            counts=self._keyed(lambda: f"{pick.choice(VERSIONS)}/{pick.choice(KEYS)}", self._interval),
            values=self._keyed(lambda: f"{pick.choice(VERSIONS)}/click", self._values),
            measured=self._keyed(
                lambda: f"{pick.choice(VERSIONS)}/cpu", lambda: pick.choice([0.1, 0.7, 0.9])
            ),
            assigned=self._keyed(lambda: pick.choice((1, *VERSIONS)), lambda: pick.randint(0, 40)),
            rewards=self._keyed(lambda: pick.choice((1, *VERSIONS)), self._rewards),
            compared={2: self._compared()} if pick.random() < 0.5 else {},
            verified=self._keyed(lambda: pick.choice(VERSIONS), self._answer),
            restarts=self._keyed(lambda: pick.choice(VERSIONS), lambda: int(pick.random() < self._wild)),
            baseline_ms=pick.choice([None, 20.0]),
            group=self._group(),
            first_bad_at_s=pick.choice([None, 3.25]),
            since_s=pick.choice([None, None, 0.5, 40.0]),
            cursors={"shadow": "7"} if pick.random() < 0.3 else {},
            rejection="no such cluster" if pick.random() < self._wild else None,
        )

    def _answer(self) -> Answer:
        return self._random.choice(list(Answer)) if self._random.random() < self._wild else Answer.YES

    def _keyed(self, key: Callable[[], K], value: Callable[[], V]) -> dict[K, V]:
        return {key(): value() for _ in range(self._random.randint(0, 4))}

    def _interval(self) -> Counts:
        pick = self._random
        canary, control = pick.randint(0, 60), pick.randint(0, 60)
        bad = pick.choice([0, 1, 30]) if pick.random() < self._wild else 0
        return Counts(
            canary=canary,
            control=control,
            bad_canary=min(canary, bad),
            bad_control=min(control, pick.choice([0, 0, 1, 30])),
            fresh=pick.randint(0, canary),
            requests=canary + pick.randint(0, 20),
        )

    def _values(self) -> tuple[Value, ...]:
        pick = self._random
        return tuple(
            (pick.random() < 0.5, pick.choice([0.0, 0.3, 1.0]), pick.choice([0.05, 0.5, 0.9]))
            for _ in range(pick.randint(0, 6))
        )

    def _rewards(self) -> Rewards:
        pick = self._random
        exposures = pick.randint(0, 5000)
        return Rewards(
            exposures=exposures,
            credited=exposures * pick.random(),
            total=exposures * pick.choice([0.0, 0.05, 0.1, 0.3]),
            squares=exposures * 0.1,
            pending=pick.randint(0, 9),
            last_at_s=pick.choice([None, 0.0, 10.0, 200.0]),
        )

    def _compared(self) -> Compared:
        samples, noise = self._random.randint(0, 40), self._random.choice([0, 0, 5])
        mine = self._random.choice([0, 0, 5]) if self._random.random() < self._wild else 0
        mine, noise = min(mine, samples), min(noise, max(0, samples - mine))
        return Compared(samples=samples, only_candidate=mine, only_noise=noise)

    def _group(self) -> GroupSeen | None:
        if self._random.random() < self._wild:
            return GroupSeen(waits_for=("other",), failed=self._random.choice(["", "other: rolled back"]))
        return self._random.choice([None, GroupSeen()])


FINE = Observation(
    candidates=dict.fromkeys(VERSIONS, Answer.YES),
    applied=Answer.YES,
    evidence=Answer.YES,
    counts={f"{v}/errors": Counts(canary=40, control=60, fresh=40, requests=40) for v in VERSIONS},
    compared={2: Compared(samples=40)},
)
seeds = st.integers(0, 2**32)
some_looks = st.one_of(seeds.map(lambda seed: Dice(seed).look()), st.just(FINE))
events = st.lists(
    st.one_of(
        some_looks,
        some_looks,
        some_looks,
        st.builds(Said, st.sampled_from(VERBS), st.sampled_from((1, *VERSIONS))),
        st.builds(Passed, st.sampled_from([0.1, 2.0, 30.0, 400.0])),
    ),
    max_size=60,
)
many = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])


def _cases() -> list[Any]:
    every = [pytest.param(body, 1, id=name) for name, body in ASKED.items()]
    return every + [pytest.param(ASKED[name], None, id=f"{name}, first") for name in ALONE]


@pytest.mark.parametrize(("body", "stable"), _cases())
@many
@given(data=st.data())
def test_strategies_keep_their_promises_for_any_events(
    body: dict[str, Any], stable: int | None, data: st.DataObject
) -> None:
    spec = asked(**body)
    steps = plan(spec, stable)
    state, now_s = begin(stable=stable, now_s=0), 0.0
    for each in data.draw(events):
        before, now_s = state, now_s + 0.5
        if isinstance(each, Passed):
            now_s += each.seconds
        elif isinstance(each, Said):
            state = _said(spec, steps, state, each, now_s)
        else:
            decision = advance(spec, steps, state, each, now_s)
            state = decision.state
            _check_look(spec, before, each, state, decision.verdict)
        _check_state(spec, steps, before, state)
    event(f"ended as {state.outcome}")


def _said(
    spec: RolloutSpec, steps: tuple[Step, ...], state: RolloutState, said: Said, now_s: float
) -> RolloutState:
    """Say a word twice: what is done, or refused, the first time is a no-op the second time."""
    version = said.version if said.verb in ("add", "remove") else None

    def say(before: RolloutState) -> RolloutState:
        try:
            return act(spec, steps, before, said.verb, actor="ann", now_s=now_s, version=version)
        except InvalidSpecError:
            return before
        except ConflictError:
            assert said.verb in ("promote", "promote-full"), "only a promotion is refused"
            assert before.status is Status.PAUSED, "and only of what waits for a person"
            assert before.failed, "because it failed"
            return before

    after = say(state)
    if said.verb not in ("promote", "promote-full", "resume"):
        assert say(after) == after
    return after


def _check_state(
    spec: RolloutSpec, steps: tuple[Step, ...], before: RolloutState, after: RolloutState
) -> None:
    assert after.status is before.status or after.status in TRANSITIONS[before.status]
    assert before.status is not Status.ENDED or after == before
    assert (after.status is Status.ENDED) is (after.ended_at_s is not None)
    assert state_from_json(after.to_json()) == after
    assert all(0 < pct <= 100 for pct in after.weights.values())
    assert after.weight_pct <= 100 + 1e-9
    assert set(after.weights) <= {*candidates_of(spec, after)}, "who is out, or has lost, has no traffic"
    if after.stable is not None:
        Split.of(after.stable, after.weights)
    if after.status is Status.ROLLING_BACK:
        assert (after.weights, after.header, after.mirror_pct) == ({}, None, 0.0)
    if after.outcome in PROMOTIONS:
        assert max(after.weights.values()) == 100
    assert after.started_at_s <= after.entered_at_s
    assert len(readings_of(spec, steps, after)) >= 1


def _check_look(
    spec: RolloutSpec, before: RolloutState, look: Observation, after: RolloutState, verdict: Verdict
) -> None:
    """What is unknown promotes nobody, and raises no weight; a look that changes nothing says so."""
    versions = candidates_of(spec, before)
    is_sure = look.applied is Answer.YES and look.evidence is Answer.YES
    is_sure = is_sure and all(look.health(version) is Answer.YES for version in versions)
    for version, pct in after.weights.items():
        if pct > before.weights.get(version, 0.0):
            assert is_sure
            assert before.status in (Status.PREPARING, Status.PROGRESSING)
    if after.outcome in (*PROMOTIONS, Outcome.COMPLETED) and before.outcome is None:
        assert is_sure
    if verdict is Verdict.HOLD:
        assert after.weights == before.weights
        assert after.status is before.status
    assert not (set(after.dropped) - set(before.dropped) and verdict is Verdict.HOLD)


@pytest.mark.parametrize(("body", "stable"), _cases())
@many
@given(data=st.data())
def test_replay_of_recorded_looks_gives_the_same_state(
    body: dict[str, Any], stable: int | None, data: st.DataObject
) -> None:
    spec = asked(**body)
    steps = plan(spec, stable)
    first = state = begin(stable=stable, now_s=0)
    seen = [(look, 0.7 * place) for place, look in enumerate(data.draw(st.lists(some_looks, max_size=60)), 1)]
    for look, now_s in seen:
        state = advance(spec, steps, state, look, now_s).state
    again = spec_from_json(spec.to_json())
    recorded = [(observation_from_json(look.to_json()), now_s) for look, now_s in seen]
    read = plan_from_json([step_to_json(step) for step in steps])
    assert (again, read) == (spec, steps)
    assert replay(again, read, state_from_json(first.to_json()), recorded) == state


MONOTONE = ("canary", "canary capped", "own steps", "linear", "all at once", "blue-green", "undo")


@pytest.mark.parametrize("name", MONOTONE)
@many
@given(data=st.data())
def test_weights_only_rise_until_the_end(name: str, data: st.DataObject) -> None:
    spec = asked(**ASKED[name])
    steps = plan(spec, 1)
    state, now_s = begin(stable=1, now_s=0), 0.0
    for look in data.draw(st.lists(some_looks, max_size=60)):
        before, now_s = state, now_s + 1.0
        state = advance(spec, steps, state, look, now_s).state
        if state.status not in (Status.ROLLING_BACK, Status.ENDED):
            assert state.weight_pct >= before.weight_pct


@pytest.mark.parametrize("name", ["bandit", "bandit alone", "bandit named"])
@many
@given(data=st.data())
def test_bandit_keeps_its_floor_and_its_highest_weight(name: str, data: st.DataObject) -> None:
    spec = asked(**ASKED[name])
    steps = plan(spec, 1)
    state, now_s = begin(stable=1, now_s=0), 0.0
    for look in data.draw(st.lists(some_looks, max_size=60)):
        now_s += 1.0
        decision = advance(spec, steps, state, look, now_s)
        state = decision.state
        if decision.verdict is Verdict.SHIFT:
            step = steps[state.step]
            assert isinstance(step, Explore)
            shares = [state.weights[version] for version in candidates_of(spec, state)]
            least = default_floor(len(shares) + 1) if step.floor is None else step.floor
            assert all(100 * least - 0.011 <= pct <= step.max_weight_pct for pct in shares)
            assert 100 - sum(shares) >= 100 * least - 0.011


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_are_no_ops_when_idle(verb: str) -> None:
    spec = asked()
    for status in (Status.ENDED, Status.ROLLING_BACK):
        idle = RolloutState(started_at_s=0, entered_at_s=0, status=status, outcome=Outcome.ABORTED)
        assert act(spec, plan(spec, 1), idle, verb, actor="ann", now_s=9, version=3) == idle
