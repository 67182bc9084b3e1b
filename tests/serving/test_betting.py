"""Bets on rewards and on compared answers: fair under the null, and won when there is something to find."""

from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.statistics.betting import (
    FALL_RATIOS,
    RISE_RATIOS,
    beyond_noise_terms,
    bounded_terms,
    paired_terms,
)
from taxiway_serving.statistics.label import (
    FLAWLESS_WEIGHTS,
    HARM_RATIOS,
    Counts,
    label_terms,
    log_mean_exp,
    rate_terms,
    safe_rates,
)

ALPHA = 0.05
THRESHOLD = -log(ALPHA)


@given(x=st.floats(0, 1), share=st.floats(0.001, 0.999))
def test_bounded_bet_is_fair_while_arms_are_alike(x: float, share: float) -> None:
    mine = bounded_terms([(True, x, share)], FALL_RATIOS + RISE_RATIOS)
    theirs = bounded_terms([(False, x, share)], FALL_RATIOS + RISE_RATIOS)
    for own, other in zip(mine, theirs, strict=True):
        assert share * exp(own) + (1 - share) * exp(other) == pytest.approx(1)


def test_bounded_bet_on_zeros_and_ones_is_the_label_test() -> None:
    values = [(True, 1.0, 0.05)] * 3 + [(False, 1.0, 0.05)] * 20 + [(True, 0.0, 0.05)] * 9
    counts = Counts(canary=12, control=20, bad_canary=3, bad_control=20)
    expected = label_terms(counts, 0.05, null_ratio=1.0, ratios=HARM_RATIOS)
    assert bounded_terms(values, HARM_RATIOS) == pytest.approx(expected)


def test_bounded_bet_without_reward_changes_nothing() -> None:
    assert bounded_terms([(True, 0.0, 0.5)] * 9, FALL_RATIOS) == (0.0,) * len(FALL_RATIOS)
    assert bounded_terms([], FALL_RATIOS) == (0.0,) * len(FALL_RATIOS)


def _log_e(rng: np.random.Generator, mine: float, looks: int = 40) -> float:
    """Return the highest log e over the looks; rewards are 30 % x Beta(1, 3), the candidate's scaled."""
    state, best = np.zeros(len(FALL_RATIOS)), 0.0
    for _ in range(looks):
        is_mine = rng.random(100) < 0.2
        x = (rng.random(100) < 0.3) * rng.beta(1, 3, 100) * np.where(is_mine, mine, 1.0)
        state += bounded_terms(zip(is_mine.tolist(), x.tolist(), [0.2] * 100, strict=True), FALL_RATIOS)
        best = max(best, log_mean_exp(state.tolist()))
    return best


def test_bounded_bet_keeps_alpha_at_every_look() -> None:
    rng = np.random.default_rng(1)
    alarms = sum(_log_e(rng, 1.0) >= THRESHOLD for _ in range(300))
    assert alarms / 300 <= ALPHA + 2 * (ALPHA * (1 - ALPHA) / 300) ** 0.5


def test_bounded_bet_finds_rewards_that_fell_by_two_thirds() -> None:
    rng = np.random.default_rng(2)
    assert all(_log_e(rng, 0.33, looks=80) >= THRESHOLD for _ in range(20))


@pytest.mark.parametrize("value", [(True, 1.1, 0.5), (True, -0.1, 0.5), (True, 0.5, 1.0), (True, 0.5, 0.0)])
def test_bounded_bet_refuses_what_is_out_of_range(value: tuple[bool, float, float]) -> None:
    with pytest.raises(InvalidSpecError, match="rewards"):
        bounded_terms([value], FALL_RATIOS)


def test_paired_bet_is_fair_on_a_noisy_model() -> None:
    mine, noise = paired_terms(1, 0, HARM_RATIOS), paired_terms(0, 1, HARM_RATIOS)
    for own, other in zip(mine, noise, strict=True):
        assert (exp(own) + exp(other)) / 2 == pytest.approx(1)


def test_paired_bet_blames_who_differs_alone() -> None:
    assert log_mean_exp(paired_terms(10, 0, HARM_RATIOS)) > THRESHOLD
    assert log_mean_exp(paired_terms(30, 30, HARM_RATIOS)) < 0


@given(limit=st.floats(0.001, 0.5), noise=st.floats(0, 0.4))
def test_likeness_bet_is_fair_at_its_limit(limit: float, noise: float) -> None:
    """One sample: the candidate alone differs in limit + noise, the second copy alone in noise."""
    mine = beyond_noise_terms(1, 0, 1, limit=limit)
    again = beyond_noise_terms(0, 1, 1, limit=limit)
    neither = beyond_noise_terms(0, 0, 1, limit=limit)
    noise = min(noise, (1 - limit) / 2)
    for one, two, three in zip(mine, again, neither, strict=True):
        expected = (limit + noise) * exp(one) + noise * exp(two) + (1 - limit - 2 * noise) * exp(three)
        assert expected == pytest.approx(1)


def test_likeness_bet_without_noise_is_the_budget_test() -> None:
    expected = rate_terms(2, 500, limit=0.01, rates=safe_rates(0.01))
    assert beyond_noise_terms(2, 0, 500, limit=0.01) == pytest.approx(expected)


def test_likeness_is_proven_by_so_many_equal_answers_and_one_that_differs_costs_more() -> None:
    def is_certified(differ: int, samples: int) -> bool:
        terms = beyond_noise_terms(differ, 0, samples, limit=0.01)
        return log_mean_exp(terms, FLAWLESS_WEIGHTS) >= THRESHOLD

    assert [is_certified(0, samples) for samples in (0, 300, 340)] == [False, False, True]
    assert [is_certified(1, samples) for samples in (340, 710)] == [False, True]
    assert not is_certified(50, 340)


@pytest.mark.parametrize(("samples", "limit"), [(1, 0.01), (10, 0.0), (10, 1.0)])
def test_likeness_bet_refuses_what_cannot_be(samples: int, limit: float) -> None:
    with pytest.raises(InvalidSpecError, match="comparison"):
        beyond_noise_terms(1, 1, samples, limit=limit)
