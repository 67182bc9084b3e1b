"""The e-process on the split itself: quiet while it is kept, and loud when it is not."""

from collections.abc import Sequence
from math import exp, log

import numpy as np
import pytest

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.statistics.label import log_mean_exp
from taxiway_serving.statistics.mismatch import TILTS, mismatch_terms

ALPHA = 0.05


def _first_alarm(rng: np.random.Generator, plan: Sequence[Sequence[float]], lost: float = 0.0) -> int | None:
    state = np.zeros(len(TILTS) * len(plan[0]))
    for look, shares in enumerate(plan):
        odds = np.array(shares) * [1] * len(shares)
        odds[-1] *= 1 - lost
        units = rng.multinomial(1000, odds / odds.sum()).tolist()
        state += mismatch_terms(units, shares)
        if log_mean_exp(state.tolist()) >= -log(ALPHA):
            return look
    return None


MOVING = [(0.9 - 0.01 * look, 0.05 + 0.004 * look, 0.05 + 0.006 * look) for look in range(60)]


def test_mismatch_keeps_alpha_while_shares_move() -> None:
    rng = np.random.default_rng(1)
    alarms = sum(_first_alarm(rng, MOVING) is not None for _ in range(300))
    assert alarms / 300 <= ALPHA + 2 * (ALPHA * (1 - ALPHA) / 300) ** 0.5


@pytest.mark.parametrize("lost", [0.2, 0.5, 1.0])
def test_mismatch_finds_units_lost_for_one_arm(lost: float) -> None:
    rng = np.random.default_rng(2)
    assert all(_first_alarm(rng, MOVING, lost) is not None for _ in range(30))


def test_each_term_has_mean_one_while_the_split_is_kept() -> None:
    shares = (0.7, 0.2, 0.1)
    each = [mismatch_terms([int(arm == hit) for arm in range(3)], shares) for hit in range(3)]
    for place in range(3 * len(TILTS)):
        assert sum(
            share * exp(terms[place]) for share, terms in zip(shares, each, strict=True)
        ) == pytest.approx(1)


def test_arm_without_share_says_nothing() -> None:
    with_leak = mismatch_terms([90, 10, 3], [0.9, 0.1, 0.0])
    assert with_leak == (*mismatch_terms([90, 10], [0.9, 0.1]), *(0.0,) * len(TILTS))
    assert mismatch_terms([100, 5], [1.0, 0.0]) == (0.0,) * 2 * len(TILTS)


@pytest.mark.parametrize(
    ("units", "shares"), [([1, 2], [1.0]), ([-1, 2], [0.5, 0.5]), ([1, 2], [0.5, 0.6]), ([], [])]
)
def test_mismatch_refuses_what_is_no_split(units: list[int], shares: list[float]) -> None:
    with pytest.raises(InvalidSpecError, match="mismatch"):
        mismatch_terms(units, shares)
