"""What counts as the same answer, and what three answers to one request say."""

import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway_serving.answers import Answer
from taxiway_serving.criterion import Criterion
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.evidence.comparison import Comparison, Findings, findings
from taxiway_serving.evidence.matching import Response, match
from taxiway_serving.statistics.betting import paired_terms
from taxiway_serving.statistics.label import HARM_RATIOS, log_mean_exp

WHOLE = Criterion()
LABEL = Criterion(pointer="/label")
EXACT = Criterion(tolerance=0.0, relative=0.0)


def says(value: Any, status: int = 200) -> Response:
    return Response(status=status, content_type="application/json", body=json.dumps(value).encode())


def raw(body: bytes, content_type: str = "application/json") -> Response:
    return Response(status=200, content_type=content_type, body=body)


SAME = {
    "equal": (WHOLE, says({"label": 7}), says({"label": 7})),
    "order of keys": (WHOLE, says({"a": 1, "b": 2}), says({"b": 2, "a": 1})),
    "whole number and fraction": (WHOLE, says(1), says(1.0)),
    "absolute tolerance": (Criterion(tolerance=0.01), says([0.1, {"p": 0.2}]), says([0.105, {"p": 0.195}])),
    "relative tolerance": (Criterion(relative=0.01), says(1000.0), says(1009.0)),
    "not a number": (WHOLE, raw(b"[NaN]"), raw(b"[NaN]")),
    "label, not its probability": (LABEL, says({"label": 7, "p": 0.9}), says({"label": 7, "p": 0.6})),
    "label far down": (
        Criterion(pointer="/a~1b/0/m~0n"),
        says({"a/b": [{"m~n": 7}], "c": 1}),
        says({"a/b": [{"m~n": 7}], "c": 2}),
    ),
    "bytes": (WHOLE, raw(b"\x89PNG", "image/png"), raw(b"\x89PNG", "image/png")),
    "refused alike": (WHOLE, says({"error": "a"}, 422), says({"error": "b"}, 422)),
    "refused alike, no label": (LABEL, says({"error": "a"}, 422), says({"error": "b"}, 422)),
    "JSON without a word of it": (WHOLE, raw(b'{"a": 1}', ""), raw(b'{"a":1}', "")),
    "JSON by suffix": (
        WHOLE,
        raw(b'{"a": 1}', "application/problem+json"),
        raw(b'{"a":1}', "application/problem+json"),
    ),
}

DIFFERENT = {
    "label": (WHOLE, says({"label": 7}), says({"label": 1}), "/label: 7 or 1"),
    "status": (WHOLE, says({}), says({}, 500), "status 200 or 500"),
    "content type": (
        WHOLE,
        raw(b"1"),
        raw(b"1", "text/plain"),
        "content type application/json or text/plain",
    ),
    "beyond tolerance": (Criterion(tolerance=0.01), says([0.1]), says([0.2]), "/0: 0.1 or 0.2"),
    "zero has no relative tolerance": (
        Criterion(tolerance=0, relative=0.5),
        says(0),
        says(1e-9),
        "body: 0 or",
    ),
    "true is not one": (WHOLE, says([True]), says([1]), "/0: True or 1"),
    "text is not a number": (WHOLE, says(["1"]), says([1]), "/0: '1' or 1"),
    "null is not zero": (WHOLE, says([None]), says([0]), "/0: None or 0"),
    "length": (WHOLE, says({"boxes": [1, 2]}), says({"boxes": [1]}), "/boxes: list of 2 or list of 1"),
    "keys": (WHOLE, says({"a": 1}), says({"b": 1}), "body: dict of 1 or dict of 1"),
    "infinite": (WHOLE, raw(b"[Infinity]"), raw(b"[1e300]"), "/0: inf or"),
    "not a number": (WHOLE, raw(b"[NaN]"), raw(b"[1]"), "/0: nan or 1"),
    "huge whole numbers": (WHOLE, raw(b"1" + b"0" * 400), raw(b"2" + b"0" * 400), "body: "),
    "label is in one alone": (LABEL, says({"label": 7}), says({}), "/label: 7 or nothing"),
    "bytes": (WHOLE, raw(b"a", "text/plain"), raw(b"bc", "text/plain"), "bodies of 1 and 2 bytes"),
    "broken JSON": (WHOLE, raw(b"{"), raw(b"{}"), "bodies of 1 and 2 bytes"),
    "JSON too deep": (WHOLE, raw(b"[" * 100_000), raw(b"[]"), "bodies of 100000 and 2 bytes"),
}

UNKNOWN = {
    "neither has a label": (LABEL, says({}), says({"p": 1}), "neither answer has /label"),
    "no JSON": (LABEL, raw(b"a", "text/plain"), raw(b"b", "text/plain"), "no JSON to find /label in"),
    "no such place in a list": (
        Criterion(pointer="/01"),
        says([1, 2]),
        says([1, 2]),
        "neither answer has /01",
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_answers_are_the_same(case: str) -> None:
    criterion, first, second = SAME[case]
    assert match(first, second, criterion).is_same is Answer.YES
    assert match(second, first, criterion).is_same is Answer.YES


@pytest.mark.parametrize("case", DIFFERENT)
def test_answers_differ_and_it_says_where(case: str) -> None:
    criterion, first, second, where = DIFFERENT[case]
    found = match(first, second, criterion)
    assert found.is_same is Answer.NO
    assert found.detail.startswith(where)
    assert match(second, first, criterion).is_same is Answer.NO


@pytest.mark.parametrize("case", UNKNOWN)
def test_answers_that_cannot_be_compared_are_neither(case: str) -> None:
    criterion, first, second, why = UNKNOWN[case]
    found = match(first, second, criterion)
    assert (found.is_same, found.detail) == (Answer.UNKNOWN, why)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.sampled_from(["a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab/~"), inner, max_size=2),
    max_leaves=6,
)
tolerances = st.floats(0, 4)


@given(one=values, other=values, tolerance=tolerances, relative=st.floats(0, 1))
def test_match_is_symmetric(one: Any, other: Any, tolerance: float, relative: float) -> None:
    criterion = Criterion(tolerance=tolerance, relative=relative)
    there, back = match(says(one), says(other), criterion), match(says(other), says(one), criterion)
    assert there.is_same is back.is_same
    assert match(says(one), says(one), EXACT).is_same is Answer.YES


@given(one=values, other=values, tolerance=tolerances, relative=st.floats(0, 1), more=tolerances)
def test_more_tolerance_never_finds_more(
    one: Any, other: Any, tolerance: float, relative: float, more: float
) -> None:
    strict = Criterion(tolerance=tolerance, relative=relative)
    loose = Criterion(tolerance=tolerance + more, relative=min(1.0, relative + more))
    if match(says(one), says(other), strict).is_same is Answer.YES:
        assert match(says(one), says(other), loose).is_same is Answer.YES


@given(value=st.floats(-1e6, 1e6), by=st.floats(-0.1, 0.1), tolerance=st.floats(0.001, 0.1))
def test_tolerance_is_the_largest_difference_that_passes(value: float, by: float, tolerance: float) -> None:
    criterion = Criterion(tolerance=tolerance, relative=0.0)
    is_near = abs((value + by) - value) <= tolerance
    assert match(says([value]), says([value + by]), criterion).is_same is Answer.of(is_near)


SEVEN, ONE, BUSY = says({"label": 7}), says({"label": 1}), says({}, 503)
GONE = Response(status=0, reason="ConnectionRefusedError")


@pytest.mark.parametrize(
    ("stable", "again", "candidate", "expected"),
    [
        (SEVEN, SEVEN, SEVEN, (False, False, ())),
        (SEVEN, SEVEN, ONE, (True, False, ())),
        (SEVEN, ONE, SEVEN, (False, True, ())),
        (SEVEN, ONE, ONE, (True, True, ())),
        (SEVEN, SEVEN, says({}, 500), (True, False, ())),
        (SEVEN, SEVEN, GONE, (False, False, ("candidate",))),
        (SEVEN, SEVEN, BUSY, (False, False, ("candidate",))),
        (SEVEN, BUSY, ONE, (False, False, ("again",))),
        (GONE, GONE, ONE, (False, False, ("stable", "again"))),
    ],
    ids=["same", "candidate", "noise", "both", "error", "dead", "busy", "copy busy", "copy dead"],
)
def test_findings_of_three_answers(
    stable: Response, again: Response, candidate: Response, expected: tuple[bool, bool, tuple[str, ...]]
) -> None:
    found = findings(stable, again, candidate, LABEL)
    assert (found.candidate_differs, found.noise_differs, found.failed) == expected


def test_findings_say_why_something_failed() -> None:
    assert findings(SEVEN, BUSY, GONE, WHOLE).detail == (
        "again: status 503, too much to do; candidate: ConnectionRefusedError"
    )


def test_users_function_decides_about_successful_answers_alone() -> None:
    seen: list[tuple[Any, Any]] = []

    def same_parity(stable: Response, candidate: Response) -> bool:
        seen.append((stable.json(), candidate.json()))
        return bool((stable.json() - candidate.json()) % 2 == 0)

    criterion = Criterion(function="parity")
    assert findings(says(1), says(3), says(4), criterion, same_parity) == Findings(
        candidate_differs=True, detail="by parity"
    )
    assert match(says(1, 500), says(2, 500), criterion, same_parity).is_same is Answer.YES
    assert match(says(1), says(2, 500), criterion, same_parity).is_same is Answer.NO
    assert seen == [(1, 4), (1, 3)]


def evidence(answers: Iterable[tuple[Response, Response, Response]]) -> float:
    """Return the log evidence that the candidate differs more than stable does from itself."""
    found = [findings(*three, WHOLE) for three in answers]
    ours = sum(each.candidate_differs and not each.noise_differs for each in found)
    noise = sum(each.noise_differs and not each.candidate_differs for each in found)
    return log_mean_exp(paired_terms(ours, noise, HARM_RATIOS))


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_the_model_is_not_blamed_on_the_candidate_and_a_fault_beside_it_is(seed: int) -> None:
    """One answer in a hundred is drawn anew, also the second one of stable; the fault is in 2 % of the candidate's."""
    draws = np.random.default_rng(seed)

    def answer(number: int) -> Response:
        return says({"label": int(draws.integers(10)) if draws.random() < 0.01 else number % 10})

    numbers = range(2000)
    limit = math.log(1 / 0.01)
    assert evidence((answer(n), answer(n), answer(n)) for n in numbers) < limit
    faulty = ((answer(n), answer(n), answer(n) if n % 50 else says({"label": 99})) for n in numbers)
    assert evidence(faulty) > limit


def returns_nothing(stable: Response, candidate: Response) -> bool:
    return None  # type: ignore[return-value]


def raises(stable: Response, candidate: Response) -> bool:
    raise KeyError("boxes")


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (returns_nothing, "comparison 'theirs' must return True or False, got None"),
        (raises, "comparison 'theirs' raised KeyError: 'boxes'"),
        (None, "no comparison 'theirs' at hand"),
    ],
    ids=["nothing", "raises", "missing"],
)
def test_users_function_that_fails_says_nothing_of_the_candidate(function: Any, why: str) -> None:
    found = findings(SEVEN, SEVEN, ONE, Criterion(function="theirs"), function)
    assert found == Findings(failed=("comparison",), detail=why)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"pointer": "label"}, "pointer must be"),
        ({"pointer": 7}, "pointer must be"),
        ({"function": ""}, "function must name"),
        ({"pointer": "/label", "function": "boxes"}, "not both"),
        ({"tolerance": -1}, "tolerance must be"),
        ({"tolerance": float("nan")}, "tolerance must be"),
        ({"tolerance": True}, "tolerance must be"),
        ({"relative": 1.5}, "relative must be"),
        ({"threshold": 1}, "takes pointer, tolerance"),
        ({"tolerance": "x", "relative": "y"}, "tolerance must be .*; relative must be"),
    ],
    ids=str,
)
def test_criterion_that_is_wrong_is_refused(value: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidSpecError, match=fault):
        Criterion.from_json(value)


def compared(**found: Any) -> Comparison:
    who: dict[str, Any] = {"handle": "digits", "request_id": "8e3a", "unit": "user:ada"}
    return Comparison(at_s=1.5, stable=1, candidate=2, **who, **found)


@pytest.mark.parametrize(
    ("found", "counted"),
    [
        ({"candidate_differs": True}, "only_candidate"),
        ({"noise_differs": True}, "only_noise"),
        ({"candidate_differs": True, "noise_differs": True}, ""),
        ({"failed": ("candidate",)}, "only_candidate_failed"),
        ({"failed": ("again",)}, "only_noise_failed"),
        ({"failed": ("stable",)}, ""),
        ({"failed": ("again", "candidate")}, ""),
        ({"failed": ("comparison",)}, ""),
        ({}, ""),
    ],
    ids=str,
)
def test_comparison_counts_for_one_side_of_a_pair_or_for_none(found: dict[str, Any], counted: str) -> None:
    sides = ("only_candidate", "only_noise", "only_candidate_failed", "only_noise_failed")
    assert [side for side in sides if getattr(compared(**found), side)] == [counted] * bool(counted)


def test_criterion_and_comparison_survive_json() -> None:
    assert Criterion.from_json(json.loads(json.dumps(LABEL.to_json()))) == LABEL
    times = {"stable": 1.0, "again": 2.0, "candidate": 3.0}
    comparison = compared(candidate_differs=True, ms=times, detail="/label: 7 or 1")
    assert Comparison.from_json(json.loads(json.dumps(comparison.to_json()))) == comparison
