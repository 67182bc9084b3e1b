"""What others are told of a rollout, by the states that it goes through. Each event once."""

from collections.abc import Mapping
from typing import Any

import pytest

from taxiway_serving.controller.events import Event
from taxiway_serving.controller.senses import NoSenses, Sensed
from taxiway_serving.ledger.store import Fleet, Rollout
from taxiway_serving.names import VariantId
from taxiway_serving.rollout.observation import Rewards
from taxiway_serving.rollout.state import ROLLBACK_DEADLINE_S, Outcome, Status
from taxiway_serving.testing import attempt
from tests.serving.plane import HANDLE, Plane

CANDIDATE = VariantId(handle=HANDLE, version=2)
QUICK = {"kind": "canary", "steps": [{"setWeight": 50}, {"setWeight": 100}]}
GATED = {"kind": "canary", "steps": [{"setWeight": 50}, {"pause": {}}, {"setWeight": 100}]}


class Earning(NoSenses):
    """Senses by which each arm earns so much per exposure, a hundred exposures a second, until it falls silent.

    Attributes:
        rates: By version.
        is_silent: Whether nothing is reported any longer.
    """

    def __init__(self, rates: Mapping[int, float]) -> None:
        self.rates, self.is_silent = rates, False
        self._last_at_s = 0.0

    def sense(self, rollout: Rollout, fleet: Fleet, now_s: float) -> Sensed:
        if not self.is_silent:
            self._last_at_s = now_s
        shown = round(100 * (now_s - rollout.state.started_at_s))
        paid = round(100 * (self._last_at_s - rollout.state.started_at_s))
        rewards = {
            version: Rewards(
                exposures=shown,
                credited=float(shown),
                total=paid * rate,
                squares=paid * rate,
                last_at_s=self._last_at_s,
            )
            for version, rate in self.rates.items()
        }
        return Sensed(rewards=rewards)


def fail(plane: Plane) -> None:
    plane.fails = lambda version, number: version == 2 and number % 2 == 0


def last(plane: Plane) -> Mapping[str, Any]:
    return plane.outbox.due(float("inf"), limit=10_000)[-1].delivery.body


def test_promotion_is_told_with_every_weight(live: Plane) -> None:
    live.begin(2, name="r", strategy=QUICK)
    live.tick(6, requests=20)
    assert live.told("r") == [Event.BEGUN, Event.ADVANCED, Event.ADVANCED, Event.PROMOTED]
    due = [each.delivery for each in live.outbox.due(float("inf"), limit=99)]
    mine = [each for each in due if each.body["rollout"] == "r"]
    assert [each.body["weight_pct"] for each in mine] == [0, 50, 100, 100]
    assert len({each.id for each in due}) == len(due)
    body = last(live)
    assert (body["handle"], body["version"], body["stable"], body["outcome"]) == (HANDLE, 2, 1, "Promoted")
    assert body["text"].startswith(f"{HANDLE} version 2 is live: ")


def test_rollback_is_told_when_it_is_decided_and_when_it_is_done(live: Plane) -> None:
    fail(live)
    live.begin(2, name="r", strategy=GATED)
    live.tick(20, requests=50)
    assert live.told("r")[-2:] == [Event.ROLLING_BACK, Event.ROLLED_BACK]
    assert "canary units bad" in last(live)["reason"]


def test_rollback_that_is_not_read_back_is_told_once_even_over_a_crash(live: Plane) -> None:
    live.begin(2, name="r", strategy=GATED)
    live.tick(5, requests=20)
    live.router._applies_at_once = False
    live.act("r", "abort")
    live.tick(int(ROLLBACK_DEADLINE_S))
    assert Event.ROLLBACK_FAILED not in live.told("r")
    live.tick(5)
    live.restart()
    live.tick(20)
    assert live.told("r").count(Event.ROLLBACK_FAILED) == 1
    live.router.step()
    live.tick(2)
    assert live.told("r")[-2:] == [Event.ROLLBACK_FAILED, Event.ABORTED]


@pytest.mark.parametrize("how", ["fails", "hangs"])
def test_candidate_that_never_gets_ready_is_told(plane: Plane, how: str) -> None:
    plane.go_live(1)
    plane.runtime.break_(CANDIDATE)
    plane.deploy(2)
    plane.begin(2, name="r")
    plane.tick(2)
    if how == "fails":
        plane.runtime.kill(CANDIDATE)
        plane.runtime._states[CANDIDATE] = plane.runtime.observe()[CANDIDATE]
    else:
        plane.runtime.step(400)
    plane.tick(3)
    assert plane.told("r") == [Event.BEGUN, Event.NEVER_READY]


def test_abort_before_the_candidate_is_ready_is_no_failure_to_start(plane: Plane) -> None:
    plane.go_live(1)
    plane.runtime.break_(CANDIDATE)
    plane.deploy(2)
    plane.begin(2, name="r")
    plane.tick(2)
    plane.act("r", "abort")
    assert plane.told("r") == [Event.BEGUN, Event.ABORTED]


def test_pauses_are_told_by_what_they_are(live: Plane) -> None:
    analysis = {"analysis": {"units": 1000, "deadline_s": 30}}
    steps = [{"setWeight": 50}, {"pause": {}}, analysis, {"setWeight": 100}]
    live.begin(2, name="r", strategy={"kind": "canary", "steps": steps})
    live.tick(5, requests=20)
    assert live.told("r")[-1] == Event.PAUSED
    live.act("r", "resume")
    live.tick(40, requests=5)
    assert live.told("r")[-1] == Event.INCONCLUSIVE
    assert "inconclusive after 30 s" in last(live)["text"]
    live.act("r", "resume")
    live.act("r", "pause")
    assert live.told("r")[-1] == Event.PAUSED


def test_failure_that_pauses_is_told_as_inconclusive(live: Plane) -> None:
    fail(live)
    live.begin(2, name="r", strategy=GATED, on_failure="pause")
    live.tick(4, requests=20)
    live.act("r", "resume")
    assert Event.ROLLING_BACK not in live.told("r")


def test_split_that_is_not_what_was_asked_for_is_told(live: Plane) -> None:
    steps = [{"setWeight": 50}, {"bake": {"duration_s": 900}}, {"setWeight": 100}]
    live.begin(2, name="r", strategy={"kind": "canary", "steps": steps})
    live.tick(5, requests=20)
    for number in range(300):
        unit = f"user:{number}"
        live.source.add(attempt(at_s=live.now_s + 1, assigned=2, answered=2, unit=unit, request_id=unit))
    live.tick(3)
    assert live.told("r")[-1] == Event.SAMPLE_RATIO_MISMATCH


def test_cap_on_users_is_told(live: Plane) -> None:
    live.users = 200
    steps = [{"setWeight": 20}, {"bake": {"duration_s": 900}}, {"setWeight": 100}]
    live.begin(2, name="r", strategy={"kind": "canary", "steps": steps}, max_users=20)
    live.tick(40, requests=9)
    assert live.told("r").count(Event.CAP_REACHED) == 1
    assert Event.INCONCLUSIVE not in live.told("r")


def test_superseded_rollout_is_told(live: Plane) -> None:
    live.deploy(3)
    live.begin(2, name="first", strategy=GATED)
    live.tick(5, requests=20)
    live.begin(3, name="second", strategy=QUICK, on_running="supersede")
    live.tick(8, requests=20)
    assert live.told("first")[-2:] == [Event.ROLLING_BACK, Event.SUPERSEDED]
    assert live.told("second")[0] == Event.BEGUN


def test_queued_rollout_is_told_of_when_it_begins_not_when_it_is_asked_for(live: Plane) -> None:
    live.deploy(3)
    live.begin(2, name="first", strategy=GATED)
    live.begin(3, name="second", strategy=QUICK, on_running="queue")
    assert live.told("second") == []
    live.act("second", "abort")
    assert live.told("second") == [Event.ABORTED]


def test_rollout_of_what_is_live_tells_only_its_end(live: Plane) -> None:
    live.begin(1, name="again")
    assert live.told("again") == [Event.PROMOTED]


# Experiments


@pytest.fixture
def bandit(live: Plane) -> Plane:
    """Version 1 live, 2 and 3 explored beside it, and both earning."""
    live.deploy(3)
    live.senses = Earning({1: 0.1, 2: 0.1, 3: 0.1, 4: 0.1})
    live.restart()
    live.tick(3)
    explore = {"kind": "bandit", "reward": "click", "update_s": 5, "silence_s": 20, "min_s": 9000}
    live.begin(2, name="r", rivals=[3], strategy=explore)
    live.tick(20, requests=20)
    assert live.state("r").status is Status.PROGRESSING
    return live


def silence(plane: Plane, *, is_silent: bool = True) -> None:
    assert isinstance(plane.senses, Earning)
    plane.senses.is_silent = is_silent


def test_bandit_whose_rewards_fall_silent_freezes_and_tells_it_once(bandit: Plane) -> None:
    silence(bandit)
    bandit.tick(60, requests=20)
    assert bandit.told("r").count(Event.FROZEN) == 1
    silence(bandit, is_silent=False)
    bandit.tick(20, requests=20)
    assert not bandit.state("r").is_frozen


def test_candidate_that_is_out_is_told_while_the_others_go_on(bandit: Plane) -> None:
    fail(bandit)
    for _ in range(60):
        bandit.tick(requests=100)
        if bandit.state("r").dropped:
            break
    assert bandit.told("r")[-1] == Event.CANDIDATE_DROPPED
    assert bandit.state("r").outcome is None
    assert (bandit.weight_pct(2), bandit.weight_pct(3) > 0) == (0, True)


def test_arm_comes_and_goes_in_mid_run(bandit: Plane) -> None:
    bandit.deploy(4)
    bandit.tick(3, requests=20)
    once = bandit.act("r", "add", version=4)
    assert bandit.act("r", "add", version=4) == once
    bandit.tick(20, requests=50)
    assert bandit.weight_pct(4) > 0
    bandit.act("r", "remove", version=3)
    gone = bandit.act("r", "remove", version=3)
    assert 3 in gone.state.dropped
    bandit.tick(10, requests=50)
    assert (bandit.weight_pct(3), bandit.weight_pct(4) > 0) == (0, True)
    bandit.act("r", "abort")
    bandit.tick(3, requests=20)
    assert bandit.state("r").outcome is Outcome.ABORTED
    bandit.tick(620)
    assert [bandit.phase(version) for version in (1, 2, 3, 4)] == ["ready", "stopped", "stopped", "stopped"]


def test_arm_that_was_stopped_is_started_when_it_is_added(bandit: Plane) -> None:
    bandit.deploy(4)
    bandit.tick(2)
    bandit.commands.retire(HANDLE, 4, actor="ann")
    bandit.tick(4, requests=20)
    assert bandit.phase(4) == "stopped"
    bandit.act("r", "add", version=4)
    bandit.tick(30, requests=50)
    assert (bandit.phase(4), bandit.weight_pct(4) > 0) == ("ready", True)
