"""What the gate says of numbers: every bar has an answer, and what the items cannot tell is said."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.evaluation import Bars, Check, Finding, Measured, gate, judge
from taxiway.evaluation.predictions import Predictions, from_rows
from taxiway.project.evaluation import bar_faults


def items(
    right: int, wrong: int, *, camera: str = "day", start: int = 0, **more: Any
) -> list[dict[str, Any]]:
    return [
        {"id": start + n, "label": "a", "prediction": "a" if n < right else "b", "camera": camera, **more}
        for n in range(right + wrong)
    ]


def measured(rows: list[dict[str, Any]] | None, **metrics: float) -> Measured:
    found: Predictions | None = from_rows(rows) if rows else None
    return Measured(metrics=metrics, predictions=found)


def answers(findings: tuple[Finding, ...]) -> dict[str, str]:
    return {finding.name: finding.answer for finding in findings}


def compared(ours: list[bool], theirs: list[bool], *, tolerance: float = 0.01, **bars: Any) -> Finding:
    def side(right: list[bool]) -> Measured:
        rows = [{"id": n, "label": 1, "prediction": int(each)} for n, each in enumerate(right)]
        return measured(rows, accuracy=sum(right) / len(right))

    (found,) = judge(side(ours), side(theirs), Bars(compare="accuracy", tolerance=tolerance, **bars))
    return found


def test_version_that_is_better_on_the_same_items_passes() -> None:
    found = compared([True] * 960 + [False] * 40, [True] * 800 + [False] * 200)
    assert (found.answer, found.items) == ("yes", 1000)
    assert found.low is not None
    assert found.low > 0.1


def test_version_that_is_worse_fails() -> None:
    found = compared([True] * 800 + [False] * 200, [True] * 960 + [False] * 40)
    assert found.answer == "no"
    assert "below the champion's by more than 0.01 (difference -0.1600" in found.reason


def test_version_that_may_be_worse_is_inconclusive_and_not_promoted() -> None:
    found = compared([True] * 90 + [False] * 10, [False] * 9 + [True] * 91)
    assert found.answer == "unknown"
    assert "the items cannot tell" in found.reason
    assert gate.refusals((found,), Bars()) == (found.reason,)
    lenient = Bars(inconclusive="pass")
    assert gate.refusals((found,), lenient) == ()
    assert "inconclusive, let pass" in gate.notes((found,), lenient)[0]


def test_few_items_say_nothing_even_of_a_clear_difference() -> None:
    found = compared([True] * 29, [False] * 29)
    assert (found.answer, found.items) == ("unknown", 29)
    assert "29 items are too few" in found.reason
    assert compared([True] * 29, [False] * 29, least_items=20).answer == "yes"


def test_same_model_is_no_worse_than_itself_on_any_number_of_items() -> None:
    one = Measured(metrics={"accuracy": 0.5}, content="f" * 64)
    (found,) = judge(one, one, Bars(compare="accuracy"))
    assert (found.answer, found.value) == ("yes", 0.0)


def test_version_whose_champion_nobody_can_name_is_no_first_version() -> None:
    bars = Bars(compare="accuracy")
    findings = judge(
        measured(items(40, 1), accuracy=0.9), None, bars, unknown="the controller did not answer"
    )
    assert answers(findings) == {"accuracy": "unknown"}
    assert gate.refusals(findings, bars) == ("accuracy was not compared: the controller did not answer",)
    assert gate.refusals(findings, replace(bars, inconclusive="pass")) == ()
    assert judge(measured(None, accuracy=0.9), None, Bars(), unknown="the controller did not answer") == ()


def test_comparison_pairs_items_by_id_and_not_by_row() -> None:
    rows = items(50, 50)
    (found,) = judge(
        measured(rows, accuracy=0.5),
        measured(rows[::-1], accuracy=0.5),
        Bars(compare="accuracy", tolerance=0.1),
    )
    assert found.low == pytest.approx(-0.0274, abs=1e-3)


@pytest.mark.parametrize(
    ("theirs", "why"),
    [(None, "leaves no predictions"), (items(40, 1, start=5), "not of the same items")],
    ids=["none", "other-items"],
)
def test_comparison_without_the_same_items_is_inconclusive_and_says_why(
    theirs: list[dict[str, Any]] | None, why: str
) -> None:
    bars = Bars(compare="accuracy", tolerance=0.01)
    findings = judge(measured(items(40, 1), accuracy=0.9), measured(theirs, accuracy=0.905), bars)
    assert answers(findings) == {"accuracy": "unknown"}
    assert "0.9 against the champion's 0.905 has no interval" in findings[0].reason
    assert why in findings[0].reason
    assert gate.refusals(findings, bars) == (findings[0].reason,)
    assert gate.refusals(findings, replace(bars, inconclusive="pass")) == ()
    (worse,) = judge(measured(None, accuracy=0.8), measured(None, accuracy=0.9), bars)
    assert worse.answer == "no"


def test_any_column_of_numbers_is_compared_item_by_item() -> None:
    random = np.random.default_rng(5)
    base = random.normal(0, 1, 200)

    def side(shift: float) -> Measured:
        rows = [row | {"overlap": value + shift} for row, value in zip(items(200, 0), base, strict=True)]
        return measured(rows, overlap=float(base.mean() + shift))

    bars = Bars(compare="overlap", tolerance=0.01)
    # The items differ far more than the versions: only pairs can tell.
    assert judge(side(0.0), side(0.0), bars)[0].answer == "yes"
    assert judge(side(-0.02), side(0.0), bars)[0].answer == "no"


def test_bar_of_a_column_holds_each_of_its_slices() -> None:
    rows = items(96, 4) + items(60, 40, camera="night", start=100) + items(3, 0, camera="dusk", start=200)
    findings = judge(measured(rows), None, Bars(slice_minimum={"camera": 0.8}))
    assert answers(findings) == {"camera=day": "yes", "camera=night": "no", "camera=dusk": "unknown"}
    assert "3 items are too few, 30 are needed" in findings[1].reason


def test_bar_of_one_slice_outranks_that_of_its_column() -> None:
    rows = items(96, 4) + items(60, 40, camera="night", start=100)
    bars = Bars(slice_minimum={"camera": 0.8, "camera=night": 0.4})
    findings = judge(measured(rows), None, bars)
    assert [(each.name, each.bar) for each in findings] == [("camera=day", 0.8), ("camera=night", 0.4)]


def test_slice_that_its_items_cannot_tell_is_inconclusive() -> None:
    (found,) = judge(measured(items(85, 15)), None, Bars(slice_minimum={"camera": 0.8}))
    assert found.answer == "unknown"
    assert "0.85 (95 % interval 0.7672 to 0.9069, 100 items) may be below its minimum 0.8" in found.reason


@pytest.mark.parametrize("key", ["lens", "camera=moon"])
def test_slice_that_is_not_there_fails(key: str) -> None:
    findings = judge(measured(items(50, 0)), None, Bars(slice_minimum={key: 0.5}))
    assert answers(findings) == {key: "no"}


def test_class_bars_hold_every_label_and_the_named_ones_their_own() -> None:
    rows = items(98, 2) + [
        {"id": 100 + n, "label": "b", "prediction": "b" if n < 70 else "a", "camera": "day"}
        for n in range(100)
    ]
    assert answers(judge(measured(rows), None, Bars(class_minimum={"*": 0.9}))) == {"a": "yes", "b": "no"}
    own = Bars(class_minimum={"*": 0.9, "b": 0.5, "c": 0.5})
    assert answers(judge(measured(rows), None, own)) == {"b": "yes", "c": "no", "a": "yes"}
    assert answers(judge(measured(None), None, Bars(class_minimum={"*": 0.9}))) == {"*": "no"}


@pytest.mark.parametrize(
    ("score", "most", "answer"), [(0.9, 0.3, "yes"), (0.99, 0.05, "no"), (0.93, 0.05, "unknown")]
)
def test_calibration_is_held_with_its_interval(score: float, most: float, answer: str) -> None:
    rows = items(170, 30, score=score)
    (found,) = judge(measured(rows), None, Bars(calibration_at_most=most))
    assert found.answer == answer
    assert found.low is not None
    assert found.high is not None
    assert found.low <= (found.value or 0) <= found.high


def test_calibration_without_probabilities_fails() -> None:
    (found,) = judge(measured(items(50, 0)), None, Bars(calibration_at_most=0.5))
    assert found.answer == "no"
    assert "hold no probabilities" in found.reason


def test_promised_latency_is_held_where_it_was_measured() -> None:
    slow = measured(None, latency_p99_ms=51.0)
    assert answers(judge(slow, None, Bars(), p99_ms=50)) == {"latency_p99_ms": "no"}
    assert answers(judge(slow, None, Bars(), p99_ms=60)) == {"latency_p99_ms": "yes"}


def test_promised_latency_that_was_not_measured_is_said_and_closes_where_the_project_says_so() -> None:
    findings = judge(measured(None), None, Bars(), p99_ms=50)
    assert answers(findings) == {"latency_p99_ms": "unknown"}
    assert gate.refusals(findings, Bars()) == ()
    assert "p99_ms 50 was not measured" in gate.notes(findings, Bars())[0]
    strict = Bars(sla_unmeasured="fail", inconclusive="pass")
    assert gate.refusals(findings, strict) == (findings[0].reason,)


def test_highest_value_is_a_bar_as_the_lowest_is() -> None:
    bars = Bars(maximum={"rmse": 2.0, "mae": 1.0, "loss": 1.0})
    findings = judge(measured(None, rmse=1.9, mae=1.5), None, bars)
    assert answers(findings) == {"rmse": "yes", "mae": "no", "loss": "no"}
    assert findings[1].reason == "mae 1.5 is above its maximum 1"


@pytest.mark.parametrize(
    ("ours", "theirs", "answer"), [(9.0, 1.0, "no"), (1.0, 9.0, "yes"), (1.05, 1.0, "yes")]
)
def test_metric_that_is_better_where_it_is_lower_is_compared_so(
    ours: float, theirs: float, answer: str
) -> None:
    bars = Bars(compare="rmse", direction="minimize", tolerance=0.1)
    (by_point,) = judge(measured(None, rmse=ours), measured(None, rmse=theirs), bars)
    assert by_point.answer == {"yes": "unknown"}.get(answer, answer)
    assert by_point.value == pytest.approx(theirs - ours)

    def side(value: float) -> Measured:
        rows = [row | {"rmse": value + at % 7 / 100} for at, row in enumerate(items(100, 0))]
        return measured(rows, rmse=value)

    (by_items,) = judge(side(ours), side(theirs), bars)
    assert by_items.answer == answer
    assert ("above the champion's" in by_items.reason) == (ours != 9.0 or answer == "no")


def test_check_that_left_no_answer_closes_the_gate() -> None:
    bars = Bars(checks=("own:fair", "*"))
    findings = judge(Measured(metrics={}), None, bars)
    assert answers(findings) == {"own:fair": "no", "*": "no"}
    assert gate.refusals(findings, bars)[0] == "check own:fair failed: it left no answer"
    said = Measured(metrics={}, checks=(Check(name="own:fair", passed=True),))
    assert gate.refusals(judge(said, None, bars), bars) == ()


def test_failed_check_fails_the_gate_with_its_reason() -> None:
    checks = (
        Check(name="fair", passed=False, reason="old cameras lose 4 %"),
        Check(name="small", passed=True),
    )
    findings = judge(Measured(metrics={}, checks=checks), None, Bars())
    assert gate.refusals(findings, Bars(inconclusive="pass")) == ("check fair failed: old cameras lose 4 %",)


@given(st.integers(0, 300), st.integers(0, 300), st.floats(0, 1), st.floats(0, 0.2))
def test_lower_bar_never_closes_an_open_gate(right: int, wrong: int, bar: float, less: float) -> None:
    order = {"no": 0, "unknown": 1, "yes": 2}
    if right + wrong:
        rows = measured(items(right, wrong))
        high, low = (
            judge(rows, None, Bars(slice_minimum={"camera=day": each}))[0].answer
            for each in (bar, max(0.0, bar - less))
        )
        assert order[low] >= order[high]


def test_gate_rarely_passes_a_version_that_is_worse_than_allowed() -> None:
    """Truly at the tolerance, a version passes in at most about 2.5 % of the draws of items: one side of 95 %."""
    random = np.random.default_rng(6)
    passed = 0
    for _ in range(400):
        theirs = random.random(400) < 0.9
        ours = np.where(random.random(400) < 0.05 / 0.9, False, theirs)
        passed += compared(ours.tolist(), theirs.tolist(), tolerance=0.05).answer == "yes"
    assert passed / 400 <= 0.05


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ({"slices": "camera"}, "slices must be a list"),
        ({"slice_minimum": {"camera": 2}}, "slice_minimum must be a table of numbers in [0, 1]"),
        ({"class_minimum": "high"}, "class_minimum must be"),
        ({"least_items": 0}, "least_items must be a whole number from 1"),
        ({"calibration_at_most": -1}, "calibration_at_most must be"),
        ({"inconclusive": "maybe"}, "inconclusive must be fail or pass"),
        ({"checks": ["a:b:c"]}, "checks must be a list of module:function"),
        ({"checks": "a:b"}, "checks must be a list"),
    ],
)
def test_broken_bar_is_a_fault_of_the_project(table: dict[str, Any], part: str) -> None:
    (fault,) = bar_faults(table)
    assert part in fault


def test_good_bars_have_no_fault() -> None:
    table = {
        "slices": ["camera"],
        "slice_minimum": {"camera=night": 0.8},
        "class_minimum": 0.7,
        "least_items": 50,
        "calibration_at_most": 0.1,
        "inconclusive": "pass",
        "checks": ["checks:fair", "house_rule", "*"],
    }
    assert bar_faults(table) == []
