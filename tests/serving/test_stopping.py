"""The stop rule of a bandit: each of its conditions can hold it back."""

import pytest

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.statistics.posterior import Arm
from taxiway_serving.statistics.stopping import StopRule, standing

CLEAR = Arm(exposures=5000, total=500), Arm(exposures=20_000, total=2600)


def test_clear_winner_is_decided() -> None:
    found = standing(CLEAR)
    assert (found.leader, found.is_decided, found.remaining) == (1, True, 0.0)
    assert sum(found.p_best) == pytest.approx(1)


def test_close_race_goes_on() -> None:
    found = standing([CLEAR[0], Arm(exposures=5000, total=510)])
    assert not found.is_decided
    assert "needs 0.95" in found.reason


def test_little_reward_holds_back() -> None:
    rare = Arm(exposures=5000, total=20), Arm(exposures=5000, total=200)
    assert not standing(rare, control=0).is_decided
    assert standing(rare, control=1).is_decided
    assert standing(rare, rule=StopRule(successes=20)).is_decided


def test_gain_still_possible_holds_back() -> None:
    """The leader is probably the best, but a third arm is hardly known."""
    arms = *CLEAR, Arm(exposures=300, total=36)
    rule = StopRule(p_best=0.6)
    assert standing(arms, rule=rule).remaining > 0.01
    assert not standing(arms, rule=rule).is_decided
    assert standing(arms, rule=StopRule(p_best=0.6, remaining=0.5)).is_decided


def test_continuous_rewards_count_exposures() -> None:
    few = Arm(exposures=30, total=60, squares=121), Arm(exposures=300, total=900, squares=2710)
    small = Arm(exposures=300, total=3, squares=0.04), Arm(exposures=300, total=6, squares=0.13)
    assert not standing(few, kind="continuous").is_decided
    assert standing(few, kind="continuous", rule=StopRule(successes=30)).is_decided
    assert standing(small, kind="continuous").is_decided


def test_standing_needs_two_arms() -> None:
    with pytest.raises(InvalidSpecError, match="at least 2"):
        standing([Arm()])
