"""The figures that a script reads, and what they say against a trial."""

import json
from pathlib import Path
from typing import Any

import pytest

from taxiway.trial.summary import Summary, VersionSummary


def make_summary(**changes: Any) -> Summary:
    values: dict[str, Any] = {
        "seconds_to_first_answer": 58.2,
        "seconds_total": 180.4,
        "requests": 3000,
        "failed_requests": 0,
        "rollback_seconds": 3.2,
        "versions": (VersionSummary(version=1, accuracy=0.9, state="live"),),
        "peak_memory_mb": 2000.0,
    }
    return Summary(**(values | changes))


def test_summary_has_the_fields_that_scripts_read(tmp_path: Path) -> None:
    make_summary().write(tmp_path / "summary.json")

    assert json.loads((tmp_path / "summary.json").read_text()) == {
        "seconds_to_first_answer": 58.2,
        "seconds_total": 180.4,
        "requests": 3000,
        "failed_requests": 0,
        "rollback_seconds": 3.2,
        "versions": [{"version": 1, "accuracy": 0.9, "state": "live"}],
        "peak_memory_mb": 2000.0,
    }
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_summary_finds_nothing_against_a_story_that_held() -> None:
    assert make_summary().faults() == ()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"failed_requests": 1}, "1 of 3000 requests failed"),
        ({"requests": 2999}, "2999 requests were sent"),
        ({"seconds_to_first_answer": None}, "gave no answer"),
        ({"rollback_seconds": None}, "no rollback"),
    ],
)
def test_summary_names_what_did_not_hold(change: dict[str, Any], fault: str) -> None:
    (found,) = make_summary(**change).faults()

    assert fault in found
