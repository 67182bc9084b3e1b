"""Each guard and certificate on its own: what it learns from, when it stays silent, what it says."""

from math import inf, log, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway_serving.answers import Answer
from taxiway_serving.rollout.guard import Guard, Interval, Terms
from taxiway_serving.rollout.guards import Budget, BudgetCertificate, Frozen, Ratio, RatioCertificate
from taxiway_serving.rollout.likeness import Difference, SameCertificate
from taxiway_serving.rollout.observation import Compared
from taxiway_serving.rollout.worth import Earnings, Threshold
from taxiway_serving.statistics.label import Counts
from tests.serving.rollouts import units

RATIO = Ratio(alpha=0.01)
BUDGET = Budget(alpha=0.01, budget=0.01)
FROZEN = Frozen(alpha=0.01, name="client_error_frozen", what="4xx answers")
DROP = Earnings(alpha=0.01, metric="click")
GAIN = Earnings(alpha=0.01, metric="click", is_gain=True)
LESS_COST = Earnings(alpha=0.01, metric="cost", direction="down")
CPU = Threshold(metric="cpu", limit=0.8, direction="down", failure_limit=1)
GUARDS: list[Guard] = [
    RATIO,
    BUDGET,
    FROZEN,
    RatioCertificate(alpha=0.05),
    BudgetCertificate(alpha=0.05, budget=0.01),
    DROP,
    GAIN,
    CPU,
    Difference(alpha=0.01),
    SameCertificate(alpha=0.05, most=0.01),
]
NOBODY = Counts()


def _after(guard: Guard, *intervals: Interval) -> Terms:
    state = guard.start()
    for interval in intervals:
        state = guard.update(state, interval)
    return state


def _says(guard: Guard, *intervals: Interval) -> bool:
    return guard.is_proven(_after(guard, *intervals))


def _values(mine: float, control: float, *, number: int = 200, share: float = 0.5) -> Interval:
    pairs = [(True, mine, share), (False, control, share)] * number
    return Interval(values=tuple(pairs), share=share)


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_guards_say_nothing_before_any_evidence(guard: Guard) -> None:
    reading = guard.judge(guard.start(), NOBODY)
    assert (reading.answer, guard.is_proven(guard.start())) == (Answer.UNKNOWN, False)
    assert guard.update(guard.start(), Interval()) == guard.start()


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
@given(data=st.data())
def test_guards_answer_the_same_with_and_without_words(guard: Guard, data: st.DataObject) -> None:
    size = len(guard.start())
    terms = tuple(data.draw(st.lists(st.floats(-20, 20), min_size=size, max_size=size)))
    assert (guard.judge(terms, units()).answer is Answer.YES) is guard.is_proven(terms)


def test_ratio_finds_harm_beside_a_control_and_is_silent_alone() -> None:
    harm = units(bad=15)
    assert _says(RATIO, Interval(counts=harm, share=0.3))
    assert _after(RATIO, Interval(counts=harm, share=1.0)) == RATIO.start()
    assert _after(RATIO, Interval(counts=harm, share=0.0)) == RATIO.start()


def test_budget_finds_harm_alone_and_is_silent_beside_a_control() -> None:
    harm = units(canary=50, control=0, bad=15)
    assert _says(BUDGET, Interval(counts=harm, share=1.0))
    assert _says(BUDGET, Interval(counts=harm, share=1.0, is_chosen=True))
    assert _after(BUDGET, Interval(counts=harm, share=0.9)) == BUDGET.start()


def test_budget_finds_harm_beside_a_control_that_is_too_small_to_compare_with() -> None:
    harm = units(canary=50, control=1, bad=50)
    assert not _says(RATIO, Interval(counts=harm, share=0.99))
    assert _says(BUDGET, Interval(counts=harm, share=0.99))


def test_budget_does_not_blame_a_candidate_for_what_stable_did_as_well() -> None:
    as_bad = Interval(counts=units(canary=1000, control=0, bad=30), share=1.0)
    worse_control = units(canary=0, control=5000, bad_control=150)
    with_control = Interval(counts=as_bad.counts, total=worse_control, share=1.0)
    assert _says(BUDGET, as_bad)
    assert not _says(BUDGET, with_control)
    assert _says(
        BUDGET, Interval(counts=units(canary=200, control=0, bad=60), total=worse_control, share=1.0)
    )
    assert "budget of 3." in BUDGET.judge(BUDGET.start(), worse_control).reason


def test_budget_takes_no_word_of_a_handful_of_control_units() -> None:
    few = Interval(
        counts=units(canary=60, control=0, bad=6),
        total=units(canary=0, control=20, bad_control=3),
        share=1.0,
    )
    assert _says(BUDGET, few)


def test_frozen_holds_a_candidate_to_what_the_control_did_before() -> None:
    control = units(canary=0, control=2000, bad_control=60)
    same = Interval(counts=units(canary=1000, control=0, bad=30), total=control, share=1.0)
    worse = Interval(counts=units(canary=1000, control=0, bad=90), total=control, share=1.0)
    unknown = Interval(counts=worse.counts, total=units(canary=0, control=50), share=1.0)
    assert not _says(FROZEN, same)
    assert _says(FROZEN, worse)
    assert _after(FROZEN, unknown) == FROZEN.start()


def test_frozen_compares_nobody_who_chose_the_candidate() -> None:
    chosen = Interval(
        counts=units(canary=100, control=0, bad=50),
        total=units(canary=0, control=2000),
        share=1.0,
        is_chosen=True,
    )
    assert _after(FROZEN, chosen) == FROZEN.start()


def test_frozen_keeps_half_of_alpha_for_a_lucky_control() -> None:
    assert FROZEN.threshold == pytest.approx(-log(0.005))


def test_ratio_certificate_needs_failures_of_the_control() -> None:
    guard = RatioCertificate(alpha=0.025)
    better = Interval(counts=units(canary=500, control=500, bad=2, bad_control=60), share=0.5)
    same = Interval(counts=units(canary=500, control=500, bad=60, bad_control=30), share=0.5)
    assert _says(guard, better)
    assert not _says(guard, same)


def test_budget_certificate_takes_back_a_unit_that_fails_later() -> None:
    guard = BudgetCertificate(alpha=0.05, budget=0.01)
    first = Interval(counts=units(canary=100, control=0), share=1.0)
    later = Interval(counts=Counts(canary=100, bad_canary=10), share=1.0)
    at_once = Interval(counts=units(canary=100, control=0, bad=10), share=1.0)
    assert _after(guard, first, later) == pytest.approx(_after(guard, at_once))


def test_budget_certificate_proves_nothing_by_testers() -> None:
    guard = BudgetCertificate(alpha=0.05, budget=0.01)
    testers = Interval(counts=units(canary=5000, control=0), share=1.0, is_chosen=True)
    assert _after(guard, testers) == guard.start()


@pytest.mark.parametrize(
    ("guard", "mine", "control", "is_proven"),
    [
        (DROP, 0.1, 0.5, True),
        (DROP, 0.5, 0.1, False),
        (DROP, 0.5, 0.5, False),
        (GAIN, 0.5, 0.1, True),
        (GAIN, 0.1, 0.5, False),
        (LESS_COST, 0.5, 0.1, True),
        (LESS_COST, 0.1, 0.5, False),
    ],
)
def test_earnings_know_which_way_is_better(
    guard: Earnings, mine: float, control: float, is_proven: bool
) -> None:
    assert _says(guard, _values(mine, control)) is is_proven


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_earnings_leave_out_what_was_not_split(share: float) -> None:
    assert _after(DROP, _values(0.1, 0.5, share=share)) == DROP.start()


def _measured(*values: float) -> list[Interval]:
    return [Interval(measured=value) for value in values]


def test_threshold_bears_as_many_failures_as_it_was_told() -> None:
    assert not _says(CPU, *_measured(0.9, 0.5, 0.5))
    assert _says(CPU, *_measured(0.9, 0.5, 0.9))
    assert "2 of 3 values above 0.8" in CPU.judge(_after(CPU, *_measured(0.9, 0.5, 0.9)), NOBODY).reason


@pytest.mark.parametrize("value", [nan, inf])
def test_threshold_takes_a_broken_measurement_for_a_failed_one(value: float) -> None:
    assert _says(CPU, *_measured(value, value))


def test_threshold_on_the_lower_side_wants_values_above_it() -> None:
    hits = Threshold(metric="hits", limit=10, direction="up", failure_limit=0)
    assert not _says(hits, *_measured(10, 12))
    assert _says(hits, *_measured(9))


def _compared(**counts: Any) -> Interval:
    return Interval(compared=Compared(**counts))


def test_difference_is_no_noise() -> None:
    guard = Difference(alpha=0.01)
    assert _says(guard, _compared(samples=100, only_candidate=20))
    assert not _says(guard, _compared(samples=100, only_candidate=20, only_noise=20))


def test_same_certificate_needs_samples_and_forgives_noise() -> None:
    guard = SameCertificate(alpha=0.05, most=0.05)
    assert not _says(guard, _compared(samples=20))
    assert _says(guard, _compared(samples=200))
    assert _says(guard, _compared(samples=2000, only_candidate=200, only_noise=200))
    assert not _says(guard, _compared(samples=2000, only_candidate=200))
