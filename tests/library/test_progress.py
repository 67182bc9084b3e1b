"""What a task's log says of a rollout: each move at once, growing evidence now and then, nothing twice."""

from typing import Any

import pytest

from taxiway.progress import QUIET_S, Progress, describe

STEPS = [{"setWeight": 5}, {"analysis": {"units": 40}}, {"setWeight": 100}]


def view(**other: Any) -> dict[str, Any]:
    """Return a rollout as the controller shows it."""
    found = {
        "version": 2,
        "phase": "Progressing",
        "status": "progressing",
        "outcome": None,
        "step": 1,
        "steps": STEPS,
        "weight_pct": 5.0,
        "reason": "37 of 40 units",
        "units": {"canary": 37, "bad": 1, "at_step": 37},
        "evidence": [],
    }
    return found | other


def reading(guard: str, log_e: float, threshold: float = 5.3, **other: Any) -> dict[str, Any]:
    return {"guard": guard, "answer": "no", "log_e": log_e, "threshold": threshold, "reason": ""} | other


def test_progress_says_where_the_rollout_stands() -> None:
    (line,) = describe(view())
    assert line == ("Progressing, step 2 of 3 (analysis): 5 % on version 2; 37 units, 1 bad; 37 of 40 units")


def test_progress_says_how_it_ended() -> None:
    (line,) = describe(view(status="ended", outcome="Promoted", weight_pct=100.0, reason="proven"))
    assert line == "Promoted: 100 % on version 2; 37 units, 1 bad; proven"


def test_progress_names_the_guard_nearest_to_a_rollback() -> None:
    evidence = [
        reading("error_ratio", -1.0),
        reading("latency", 4.25),
        reading("error_budget", 9.0, answer="unknown"),
        reading("cpu", 8.0, acts=False),
        reading("ratio_certificate", 7.0),
        reading("click_gain", 85.0),
    ]
    assert "nearest guard latency: log_e 4.2 of 5.3" in next(describe(view(evidence=evidence)))


def test_progress_gives_each_arm_a_line() -> None:
    arms = {
        "1": {"credited": 90, "mean": 0.0625, "p_best": 0.07, "weight_pct": 10.0},
        "2": {"credited": 120, "mean": 0.125, "p_best": 0.81, "pending": 3, "weight_pct": 63.0},
        "3": {"credited": 0, "mean": None, "p_best": None},
    }
    told = list(describe(view(weights={"2": 63.0, "3": 27.0}, arms=arms)))
    assert "63 % on version 2, 27 % on version 3" in told[0]
    assert told[1:] == [
        "  version 1: 10 %, mean 0.0625, best with 7 %, 90 credited",
        "  version 2: 63 %, mean 0.125, best with 81 %, 120 credited, 3 pending",
        "  version 3: 27 %, 0 credited",
    ]


def test_progress_says_what_a_comparison_found() -> None:
    found = {"2": {"samples": 200, "only_candidate": 3}}
    told = list(describe(view(comparison=found)))
    assert told[1] == "  answers of version 2: 200 samples, 3 only candidate"


@pytest.mark.parametrize(
    "moved",
    [
        {"weight_pct": 25.0},
        {"step": 2},
        {"phase": "Paused", "status": "paused"},
        {"status": "ended", "outcome": "RolledBack"},
        {"dropped": {"3": "errors"}},
    ],
    ids=lambda moved: next(iter(moved)),
)
def test_progress_says_a_move_at_once(moved: dict[str, Any]) -> None:
    progress = Progress()
    assert progress.lines(view(), 0.0)
    assert progress.lines(view(**moved, reason="moved"), 0.1)


def test_progress_says_growing_evidence_now_and_then() -> None:
    progress = Progress()
    assert progress.lines(view(), 0.0)
    assert not progress.lines(view(reason="38 of 40 units"), QUIET_S - 1)
    assert progress.lines(view(reason="39 of 40 units"), QUIET_S)
    assert not progress.lines(view(reason="40 of 40 units"), QUIET_S + 1)


def test_progress_is_quiet_while_nothing_changes() -> None:
    progress = Progress()
    assert progress.lines(view(), 0.0)
    assert not progress.lines(view(), 10 * QUIET_S)


def test_progress_takes_a_bandits_drift_for_evidence() -> None:
    progress, arms = Progress(), {"2": {"mean": 0.1}}
    assert progress.lines(view(weights={"2": 50.0}, arms=arms), 0.0)
    assert not progress.lines(view(weights={"2": 51.0}, arms=arms), 1.0)
    assert progress.lines(view(weights={"2": 52.0}, arms=arms), QUIET_S)


def test_progress_of_a_group_names_the_handle() -> None:
    assert Progress("digits: ").lines(view(), 0.0)[0].startswith("digits: Progressing")
