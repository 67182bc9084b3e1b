"""A verdict is right as often as its interval promises, and says nothing where it knows nothing."""

import numpy as np
import pytest

from taxiway.errors import InvalidSpecError
from taxiway.tuning.verdict import _T, FEWEST, MOST, judge


@pytest.mark.parametrize(
    ("differences", "better"),
    [
        ([0.10, 0.11, 0.09], "yes"),
        ([-0.10, -0.11, -0.09], "no"),
        ([0.10, -0.11, 0.09], "inconclusive"),
        ([0.0, 0.0, 0.0], "no"),
        ([0.1, 0.1, 0.1], "yes"),
    ],
    ids=["better", "worse", "noise", "the same", "no noise"],
)
def test_verdict_follows_the_interval(differences: list[float], better: str) -> None:
    found = judge(differences)
    assert found.better == better
    assert found.low <= found.difference <= found.high


def test_interval_is_that_of_the_textbook() -> None:
    found = judge([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.difference, found.low, found.high) == pytest.approx((3.0, 1.03676, 4.96324), abs=1e-4)


@pytest.mark.parametrize("count", [FEWEST - 1, MOST + 1])
def test_too_few_or_too_many_pairs_are_refused(count: int) -> None:
    with pytest.raises(InvalidSpecError, match="3 to 30 pairs"):
        judge([0.1] * count)


def test_there_is_a_quantile_for_every_number_of_pairs() -> None:
    assert len(_T) == MOST - 1
    assert list(_T) == sorted(_T, reverse=True)


@pytest.mark.parametrize("count", [3, 5, 10])
def test_interval_holds_the_truth_as_often_as_it_promises(count: int) -> None:
    """Of 4,000 simulated searches 95 % must hold it; four standard errors are 1.4 points."""
    random = np.random.default_rng(count)
    truth = 0.3
    found = [judge(list(random.normal(truth, 1.0, count))) for _ in range(4_000)]
    covered = np.mean([each.low <= truth <= each.high for each in found])
    assert abs(covered - 0.95) < 0.014


def test_equal_parameters_are_seldom_called_better() -> None:
    random = np.random.default_rng(1)
    found = [judge(list(random.normal(0.0, 1.0, 5))).better for _ in range(4_000)]
    assert np.mean([each == "yes" for each in found]) < 0.036
