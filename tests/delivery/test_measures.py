"""What the benchmarks compute from what they saw: a benchmark whose figures cannot go wrong shows nothing."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from math import inf, log
from pathlib import Path

import pytest

from benchmarks.crash_rows import ROWS
from benchmarks.crashes import disorder, planned, uncommitted
from benchmarks.plane import Seen
from benchmarks.replaying import differences
from benchmarks.rules import PEERS, Event, Rule, acts_after_s, bound_units, divergence, guard_after_s
from benchmarks.simulations.measured import Measured
from benchmarks.switch import effects_s
from taxiway_serving.ledger.chain import Entry
from taxiway_serving.split import Split
from tests.serving.plane import Plane as InMemory

STRICT = Rule(name="strict", window_s=10.0, success=0.99, most_bad_windows=1)


def seen(*weights: float) -> list[Seen]:
    return [Seen(at_s=10.0 + n, split=Split.of(1, {2: weight})) for n, weight in enumerate(weights)]


def entry(at_s: float, **body: object) -> Entry:
    head = {"seq": 1, "handle": "digits", "kind": "decision", "actor": "controller", "reason": ""}
    return Entry(**head, at_s=at_s, body=body, previous="", digest="")  # type: ignore[arg-type]


def stream(bad: Sequence[float], *, seconds: float = 60.0, per_s: int = 5) -> list[Event]:
    """Return a canary's requests and stable's, of which the canary's at these times are bad."""
    times = [n / per_s for n in range(int(seconds * per_s))]
    return [
        Event(at_s=at_s, is_canary=is_canary, is_bad=is_canary and at_s in bad)
        for at_s in times
        for is_canary in (True, False)
    ]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((0, 5, 50, 100), 0),
        ((0, 5, 5, 50, 100), 0),
        ((0, 50, 100), 3),
        ((0, 5, 50, 5, 50, 100), 3),
        ((0, 5, 50, 100, 0), 1),
        ((0, 5), 2),
    ],
    ids=["as planned", "seen twice", "jumped", "fell", "went on", "stopped"],
)
def test_disorder_counts_what_the_plan_does_not_have_next(weights: Sequence[float], expected: int) -> None:
    assert disorder(seen(*weights), 2, (0, 5, 50, 100)) == expected


@pytest.mark.parametrize(
    ("at_s", "count"), [(10.5, 0), (11.5, 1), (inf, 1)], ids=["before", "after", "never"]
)
def test_split_that_the_gateway_had_before_the_ledger_is_found(at_s: float, count: int) -> None:
    entries = [entry(at_s, verdict="advance", split=Split.of(1, {2: 5}).to_json())]
    assert len(uncommitted(seen(0, 5), entries, Split.whole(1))) == count


def test_rule_acts_at_the_end_of_the_window_that_is_one_too_many() -> None:
    assert acts_after_s(STRICT, stream([1.0])) is None
    assert acts_after_s(STRICT, stream([1.0, 35.0])) == 40.0
    assert acts_after_s(STRICT, stream([1.0, 2.0, 3.0])) is None


def test_documented_rules_cannot_act_before_their_windows_are_over() -> None:
    assert [rule.earliest_s for rule in PEERS] == [1200.0, 10.0, 600.0, 50.0]


def test_guard_acts_on_the_third_failure_in_a_row_beside_a_flawless_stable() -> None:
    bad = [1.0, 2.0, 3.0, 4.0]
    assert guard_after_s(stream(bad), share=0.05, threshold=log(200)) == 3.0
    assert guard_after_s(stream(bad[:2]), share=0.05, threshold=log(200)) is None


def test_bound_grows_as_the_versions_get_alike() -> None:
    bounds = [bound_units(rate, 0.005, share=0.05, threshold=log(20)) for rate in (0.2, 0.05, 0.02, 0.01)]
    assert [round(bound) for bound in bounds] == [7, 48, 255, 1646]
    assert divergence(0.02, 0.02) == 0


def test_change_counts_as_seen_only_before_the_next_one() -> None:
    found = effects_s([1.0, 2.0, 3.0], [1.01, 3.02])
    assert found[1] is None
    assert [after_s for after_s in found if after_s] == pytest.approx([0.01, 0.02])


@pytest.mark.parametrize(
    ("value", "error", "bar", "holds"),
    [
        (0.0, 0.0, 0.0, True),
        (0.0015, 0.0009, 0.0, False),
        (0.051, 0.005, 0.05, True),
        (0.07, 0.005, 0.05, False),
    ],
    ids=["never", "thrice in 2,000", "within noise", "beyond noise"],
)
def test_bar_of_zero_is_held_by_zero_alone(value: float, error: float, bar: float, holds: bool) -> None:
    assert Measured(name="x", value=value, error=error, runs=2000, bar=bar).holds is holds


def test_weights_of_a_bandit_are_held_against_the_ledgers() -> None:
    bandit = next(row for row in ROWS if row.name == "bandit")
    entries = [
        entry(10.0 + n, split=Split.of(1, {2: weight}).to_json())
        for n, weight in enumerate((0, 50, 20, 20, 0))
    ]
    assert planned(bandit, entries, 2) == [0, 50, 20, 0]
    assert disorder(seen(0, 50, 20, 0), 2, planned(bandit, entries, 2)) == 0
    assert disorder(seen(0, 20, 50, 0), 2, planned(bandit, entries, 2)) == 2


def test_decision_that_is_not_as_the_ledger_has_it_is_found(tmp_path: Path) -> None:
    with closing(InMemory(tmp_path)) as made:
        made.go_live(1)
    database = tmp_path / "controller.db"
    assert [*differences(f"sqlite:///{database}")] == []
    with closing(sqlite3.connect(database)) as connection, connection:
        changed = connection.execute(
            "UPDATE entries SET reason = 'another' WHERE seq = (SELECT max(seq) FROM entries WHERE kind = 'decision')"
        )
        assert changed.rowcount == 1
    (found,) = differences(f"sqlite:///{database}")
    assert "recorded ('promote', 'another'" in found
