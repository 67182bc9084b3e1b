"""What a version would do at 100 %: right where split and rewards moved together, and no more than a log can say."""

import numpy as np
import pytest

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.statistics.counterfactual import Estimate, counterfactual, lower_bound

Rows = list[tuple[int, float, float]]


def _log(rng: np.random.Generator, decisions: int, *, moving: bool = False) -> Rows:
    """Version 1 earns 0.3, and 0.6 while it has most of the traffic; version 2 earns 0.1."""
    busy = (np.arange(decisions) >= decisions / 2) & moving
    share = np.where(busy, 0.8, 0.2)
    drawn = rng.random(decisions) < share
    rates = np.where(drawn, np.where(busy, 0.6, 0.3), 0.1)
    rewards = (rng.random(decisions) < rates).astype(float)
    return list(
        zip(
            np.where(drawn, 1, 2).tolist(),
            np.where(drawn, share, 1 - share).tolist(),
            rewards.tolist(),
            strict=True,
        )
    )


def _value(found: Estimate) -> float:
    assert found.value is not None, found.reason
    return found.value


def test_estimate_finds_the_mean_of_each_version() -> None:
    rows = _log(np.random.default_rng(1), 20_000)
    assert _value(counterfactual(rows, 1)) == pytest.approx(0.3, abs=0.03)
    assert _value(counterfactual(rows, 2)) == pytest.approx(0.1, abs=0.02)


def test_estimate_is_right_where_the_plain_mean_is_not() -> None:
    rows = _log(np.random.default_rng(2), 20_000, moving=True)
    plain = np.mean([reward for version, _, reward in rows if version == 1])
    found = counterfactual(rows, 1)
    assert plain > 0.52
    assert _value(found) == pytest.approx(0.45, abs=0.03)
    assert found.low < 0.45 < found.high < plain


def test_interval_narrows_as_decisions_come() -> None:
    rng = np.random.default_rng(3)
    widths = [
        found.high - found.low for found in (counterfactual(_log(rng, n), 1) for n in (500, 5000, 50_000))
    ]
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


def test_interval_holds_at_every_look() -> None:
    rng = np.random.default_rng(4)
    shares = np.where(np.arange(2000) % 100 < 50, 0.1, 0.6)
    drawn = rng.random((300, 2000)) < shares
    chances = drawn / shares
    rewards = (rng.random((300, 2000)) < 0.2).astype(float)
    missed = np.zeros(300, bool)
    for end in (100, 300, 1000, 2000):
        low = lower_bound(chances[:, :end], rewards[:, :end], 0.1, 0.025)
        high = 1 - lower_bound(chances[:, :end], 1 - rewards[:, :end], 0.1, 0.025)
        missed |= (low > 0.2) | (high < 0.2)
    assert missed.mean() <= 0.05 + 2 * (0.05 * 0.95 / 300) ** 0.5


def test_estimate_keeps_the_scale_of_the_rewards() -> None:
    rows = _log(np.random.default_rng(5), 3000)
    scaled = [(version, share, 20 * reward - 5) for version, share, reward in rows]
    one, other = counterfactual(rows, 1), counterfactual(scaled, 1, least=-5, most=15)
    assert _value(other) == pytest.approx(20 * _value(one) - 5)
    assert (other.low, other.high) == pytest.approx((20 * one.low - 5, 20 * one.high - 5))


def test_effective_size_counts_rare_draws_for_less() -> None:
    rows = _log(np.random.default_rng(6), 4000, moving=True)
    found = counterfactual(rows, 1)
    assert found.decisions == 4000
    assert 0 < found.effective < 0.8 * found.drawn


def test_no_value_for_a_version_that_was_not_drawn() -> None:
    found = counterfactual(_log(np.random.default_rng(7), 500), 3)
    assert (found.value, found.low, found.high, found.drawn) == (None, 0.0, 1.0, 0)
    assert "drawn 0 times" in found.reason
    assert counterfactual([], 1).value is None


def test_no_value_where_the_version_had_no_share_for_a_while() -> None:
    rows = _log(np.random.default_rng(8), 2000)
    rows += [(2, 1.0, 0.0)] * 1000
    found = counterfactual(rows, 1)
    assert found.value is None
    assert "had no share" in found.reason


@pytest.mark.parametrize("row", [(1, 0.0, 0.5), (1, 1.2, 0.5), (1, 0.5, 1.5), (1, 0.5, -0.5)])
def test_estimate_refuses_what_is_out_of_range(row: tuple[int, float, float]) -> None:
    with pytest.raises(InvalidSpecError, match="log"):
        counterfactual([row], 1)
