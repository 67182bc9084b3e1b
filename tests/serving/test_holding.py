"""Looks that are kept together: a rollout that waits writes little, and loses nothing by it."""

from pathlib import Path
from typing import Any

import pytest

from taxiway_serving.controller.holding import LONGEST_S
from taxiway_serving.controller.senses import Sensed
from taxiway_serving.rollout.machine import replay
from taxiway_serving.rollout.observation import observation_from_json
from taxiway_serving.rollout.state import Outcome, RolloutState, Status, state_from_json
from taxiway_serving.testing import attempt
from tests.serving.plane import HANDLE, Plane

PAUSED = [{"setWeight": 50}, {"pause": {}}, {"setWeight": 100}]
BAKED = [{"setWeight": 50}, {"bake": {"duration_s": 900}}, {"setWeight": 100}]


def waiting(plane: Plane, steps: Any = PAUSED, **body: Any) -> Plane:
    """Version 1 live, a rollout of version 2 at 50 % that waits, and nothing kept."""
    plane.go_live(1)
    plane.deploy(2)
    plane.tick(3)
    plane.begin(2, name="r", strategy={"kind": "canary", "steps": steps}, **body)
    for _ in range(10):
        plane.tick(requests=20)
    assert (plane.weight_pct(2), plane.state("r").step) == (50, 1)
    plane.reconciler.settle()
    return plane


def decisions(plane: Plane) -> int:
    return sum(entry.kind == "decision" for entry in plane.store.entries(HANDLE, after=0, limit=10_000))


def units(plane: Plane) -> int:
    counts = plane.state("r").totals["2/errors"]
    return counts.canary + counts.control


def replayed(plane: Plane, name: str) -> RolloutState:
    """Return the state that the ledger's looks lead to from the last state that a person's word left."""
    rollout = plane.rollout(name)
    entries = plane.store.entries(HANDLE, after=0, limit=10_000)
    mine = [entry for entry in entries if entry.body.get("rollout") == name and entry.kind != "asked"]
    known = [place for place, entry in enumerate(mine) if "state" in entry.body]
    state = state_from_json(mine[known[-1]].body["state"])
    looks = [(observation_from_json(e.body["look"]), e.at_s) for e in mine[known[-1] + 1 :]]
    return replay(rollout.spec, rollout.plan, state, looks)


@pytest.mark.parametrize("steps", [PAUSED, BAKED], ids=["paused", "baking"])
def test_rollout_that_waits_writes_one_entry_for_many_looks(plane: Plane, steps: Any) -> None:
    waiting(plane, steps)
    before, known = decisions(plane), units(plane)
    plane.tick(60, requests=20)
    assert decisions(plane) - before <= 60 / LONGEST_S
    plane.reconciler.settle()
    assert units(plane) - known == 60 * 20


def test_what_is_kept_is_stored_when_its_time_is_over(plane: Plane) -> None:
    waiting(plane)
    known = units(plane)
    plane.tick(5, requests=20)
    assert units(plane) == known
    plane.tick(6, requests=20)
    assert units(plane) == known + 11 * 20


def test_what_is_kept_is_stored_when_it_is_much(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting(plane)
    known = units(plane)
    monkeypatch.setattr("taxiway_serving.controller.holding.MOST_ATTEMPTS", 50)
    plane.tick(2, requests=20)
    assert units(plane) == known
    plane.tick(1, requests=20)
    assert units(plane) == known + 60


def test_ledger_replays_to_the_state_of_a_rollout_that_waited(plane: Plane) -> None:
    waiting(plane)
    plane.tick(27, requests=20)
    plane.reconciler.settle()
    assert replayed(plane, "r") == plane.state("r")
    plane.act("r", "resume")
    plane.tick(20, requests=20)
    assert plane.state("r").outcome is Outcome.PROMOTED
    assert replayed(plane, "r") == plane.state("r")


def test_what_speaks_against_a_candidate_is_decided_on_at_once(plane: Plane) -> None:
    waiting(plane)
    plane.tick(3, requests=20)
    known = units(plane)
    plane.fails = lambda version, _number: version == 2
    plane.tick(1, requests=4)
    assert units(plane) == known + 3 * 20 + 4
    assert plane.state("r").first_bad_at_s == plane.now_s
    plane.tick(3, requests=40)
    assert (plane.state("r").outcome, plane.weight_pct(2)) == (Outcome.ROLLED_BACK, 0)
    assert replayed(plane, "r") == plane.state("r")


def test_answer_that_speaks_against_a_candidate_by_another_metric_is_stored_at_once(plane: Plane) -> None:
    waiting(plane)
    plane.tick(3, requests=20)
    before = decisions(plane)
    plane.source.add(attempt(at_s=plane.now_s + 1, assigned=2, answered=2, status=404, unit="user:a"))
    plane.tick(1)
    assert decisions(plane) == before + 1
    assert plane.state("r").totals["2/client_errors"].bad_canary == 1


def test_measurement_is_stored_at_once_since_it_is_made_only_once(plane: Plane) -> None:
    metric = {
        "name": "cpu",
        "kind": "sql",
        "query": "SELECT 1",
        "source": "db",
        "limit": 0.8,
        "failure_limit": 9,
    }
    waiting(plane, BAKED, metrics=[metric])
    plane.tick(3, requests=20)
    before = decisions(plane)
    plane.senses.sense = lambda *_: Sensed(measured={"2/cpu": 0.5})  # type: ignore[method-assign]
    plane.tick(1)
    assert decisions(plane) == before + 1


def test_crash_loses_nothing_of_what_is_kept_and_counts_it_once(plane: Plane) -> None:
    waiting(plane)
    known = units(plane)
    plane.tick(4, requests=20)
    plane.restart()
    plane.tick(1, requests=20)
    plane.reconciler.settle()
    assert units(plane) == known + 5 * 20
    assert replayed(plane, "r") == plane.state("r")


def test_verb_acts_on_all_that_was_seen_before_it(plane: Plane) -> None:
    waiting(plane, [{"setWeight": 50}, {"pause": {}}, {"analysis": {"units": 50}}, {"setWeight": 100}])
    known = units(plane)
    plane.tick(5, requests=20)
    plane.act("r", "promote")
    assert (units(plane), plane.state("r").at_step) == (known + 100, {})
    plane.tick(1)
    assert plane.state("r").at_step == {}


def test_superseding_rollout_finds_all_that_was_seen_before_it(plane: Plane) -> None:
    waiting(plane)
    plane.deploy(3)
    known = units(plane)
    plane.tick(5, requests=20)
    plane.begin(3, name="next", on_running="supersede")
    assert units(plane) == known + 100


def test_rollout_that_moves_on_another_handle_has_all_stored(plane: Plane) -> None:
    waiting(plane)
    known = units(plane)
    plane.go_live(11, handle="faces")
    plane.tick(2)
    assert units(plane) > known
    assert replayed(plane, "r") == plane.state("r")


def test_rollout_with_a_cap_on_users_counts_them_at_every_look(plane: Plane) -> None:
    waiting(plane, BAKED, max_users=900)
    before = decisions(plane)
    plane.tick(5, requests=20)
    assert decisions(plane) - before == 5


def test_what_cannot_be_seen_is_told_at_once(plane: Plane, tmp_path: Path) -> None:
    waiting(plane, BAKED)
    plane.tick(2, requests=20)
    plane.source.is_reachable = False
    plane.tick(1)
    assert plane.state("r").unsure_since_s == plane.now_s
    assert plane.state("r").status is Status.PROGRESSING
