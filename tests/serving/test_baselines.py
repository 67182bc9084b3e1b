"""The plain bandit rules: where their weights go, and that they add up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.statistics.baselines import epsilon_greedy, ucb
from taxiway_serving.statistics.posterior import Arm

ARMS = Arm(exposures=500, total=50), Arm(exposures=500, total=60), Arm(exposures=500, total=40)


def test_epsilon_greedy_gives_the_rest_to_the_best() -> None:
    assert epsilon_greedy(ARMS, 0.3) == pytest.approx((0.1, 0.8, 0.1))


def test_epsilon_greedy_shares_between_equals() -> None:
    assert epsilon_greedy([ARMS[0], ARMS[0], ARMS[2]], 0.0) == pytest.approx((0.5, 0.5, 0.0))


def test_epsilon_greedy_tries_what_was_never_shown() -> None:
    assert epsilon_greedy([ARMS[0], Arm()], 0.1) == pytest.approx((0.05, 0.95))


def test_epsilon_greedy_refuses_more_than_all() -> None:
    with pytest.raises(InvalidSpecError, match="epsilon is 2"):
        epsilon_greedy(ARMS, 2.0)


def test_ucb_matches_one_visitor_at_a_time() -> None:
    """A batch is shared out as UCB1 would visitor by visitor, were rewards to stay as they are."""
    shown = [arm.exposures for arm in ARMS]
    horizon_log = 7.601402334583733  # log(1500 + 500)
    for _ in range(500):
        index = [arm.mean + (2 * horizon_log / count) ** 0.5 for arm, count in zip(ARMS, shown, strict=True)]
        shown[index.index(max(index))] += 1
    expected = [(count - 500) / 500 for count in shown]
    assert ucb(ARMS, 500) == pytest.approx(expected, abs=0.01)


def test_ucb_tries_what_is_little_known() -> None:
    assert ucb([Arm(exposures=10_000, total=1000), Arm(exposures=100, total=9)], 500)[1] > 0.99


def test_ucb_does_not_change_with_the_scale_of_continuous_rewards() -> None:
    arms = Arm(exposures=50, total=60, squares=200), Arm(exposures=80, total=130, squares=400)
    cents = [Arm(exposures=arm.exposures, total=100 * arm.total, squares=1e4 * arm.squares) for arm in arms]
    assert ucb(arms, 100) == pytest.approx(ucb(cents, 100), abs=1e-6)


@given(
    seen=st.lists(
        st.tuples(st.integers(0, 10**6), st.floats(0, 1)).map(
            lambda row: Arm(exposures=row[0], total=row[0] * row[1])
        ),
        min_size=1,
        max_size=8,
    ),
    batch=st.floats(1, 1e6),
)
def test_ucb_weights_add_up(seen: list[Arm], batch: float) -> None:
    found = ucb(seen, batch)
    assert sum(found) == pytest.approx(1)
    assert min(found) >= 0


def test_ucb_refuses_an_empty_batch() -> None:
    with pytest.raises(InvalidSpecError, match="more than 0"):
        ucb(ARMS, 0)
