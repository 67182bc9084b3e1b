"""The baseline's frozen figures: on the safe side as often as they say, and nothing without enough to go by."""

import numpy as np
import pytest

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.statistics.quantiles import baseline_quantile, fewest, frozen_rate


@pytest.mark.parametrize("count", [299, 1000, 5000])
def test_baseline_quantile_is_seldom_too_low(count: int) -> None:
    """Of uniform values the true 99 % quantile is 0.99."""
    rng = np.random.default_rng(1)
    found = [baseline_quantile(rng.random(count).tolist()) or 0.0 for _ in range(1000)]
    assert np.mean(np.array(found) < 0.99) <= 0.05 + 2 * (0.05 * 0.95 / 1000) ** 0.5
    assert np.mean(found) < 1.0


def test_baseline_quantile_comes_closer_with_more_values() -> None:
    values = np.linspace(0, 1, 100_001).tolist()
    assert baseline_quantile(values) == pytest.approx(0.99, abs=0.001)


def test_baseline_quantile_needs_its_fewest() -> None:
    assert fewest(0.99) == 299
    assert baseline_quantile([1.0] * 298) is None
    assert baseline_quantile([1.0] * 298 + [7.0]) == 7.0
    assert fewest(0.5) == 5
    assert baseline_quantile([]) is None


def test_frozen_rate_is_seldom_too_low() -> None:
    rng = np.random.default_rng(2)
    rates = [frozen_rate(int(bad), 2000) or 1.0 for bad in rng.binomial(2000, 0.01, 1000)]
    assert np.mean(np.array(rates) < 0.01) <= 0.05 + 2 * (0.05 * 0.95 / 1000) ** 0.5


def test_frozen_rate_of_a_flawless_baseline_is_the_rule_of_three() -> None:
    assert frozen_rate(0, 3000) == pytest.approx(0.001, rel=0.01)


def test_frozen_rate_needs_one_good_unit() -> None:
    assert frozen_rate(0, 0) is None
    assert frozen_rate(5, 5) is None


def test_frozen_figures_refuse_what_cannot_be() -> None:
    with pytest.raises(InvalidSpecError, match="3 bad of 2"):
        frozen_rate(3, 2)
    with pytest.raises(InvalidSpecError, match="level 1"):
        baseline_quantile([1.0], 1.0)
