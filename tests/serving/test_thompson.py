"""Weights of a bandit: against draws, against another library, and the rules that every weight keeps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.statistics.posterior import Arm, beta_cdf, interval, posterior
from taxiway_serving.statistics.thompson import (
    default_floor,
    floored,
    p_best,
    p_best_of,
    p_within,
    weights,
)

CLOSE = Arm(exposures=1000, total=100), Arm(exposures=1000, total=120)
UNEVEN = Arm(exposures=20_000, total=2000), Arm(exposures=90_000, total=9500), Arm(exposures=300, total=33)
RARE = Arm(exposures=40, total=1), Arm(exposures=200_000, total=1000), Arm()


def _arms(most: int = 10) -> st.SearchStrategy[list[Arm]]:
    one = st.integers(0, 10**6).flatmap(
        lambda shown: st.builds(Arm, exposures=st.just(float(shown)), total=st.integers(0, shown).map(float))
    )
    return st.lists(one, min_size=2, max_size=most)


@pytest.mark.parametrize("arms", [CLOSE, UNEVEN, RARE], ids=["close", "uneven", "rare"])
def test_p_best_agrees_with_draws(arms: tuple[Arm, ...]) -> None:
    rng = np.random.default_rng(1)
    drawn = np.stack([rng.beta(1 + arm.total, 1 + arm.exposures - arm.total, 400_000) for arm in arms])
    expected = np.bincount(drawn.argmax(0), minlength=len(arms)) / 400_000
    found = p_best([1 + arm.total for arm in arms], [1 + arm.exposures - arm.total for arm in arms])
    assert np.abs(found - expected).max() < 0.005


def test_p_best_of_untouched_arms_is_even() -> None:
    assert p_best([1.0] * 7, [1.0] * 7) == pytest.approx([1 / 7] * 7, abs=1e-4)


def test_p_best_scores_many_bandits_as_it_scores_one() -> None:
    alphas, betas = np.array([[11.0, 3, 5], [200, 210, 190]]), np.array([[90.0, 20, 40], [800, 790, 810]])
    together = p_best(alphas, betas)
    assert together[0].tolist() == p_best(alphas[0], betas[0]).tolist()
    assert together[1].tolist() == p_best(alphas[1], betas[1]).tolist()


@pytest.mark.parametrize("shape", [(10.0, 10.0), (12.0, 4e6), (3e5, 3e5), (2e6, 11.0), (1.0, 500.0)])
def test_beta_cdf_is_close_to_the_exact_one(shape: tuple[float, float]) -> None:
    from scipy import special

    alpha, beta = np.array(shape)
    middle, width = alpha / (alpha + beta), np.sqrt(alpha * beta / (alpha + beta) ** 3)
    x = np.clip(middle + width * np.linspace(-30, 30, 301), 0, 1)
    assert np.abs(beta_cdf(alpha, beta, x) - special.betainc(alpha, beta, x)).max() < 1e-4


@given(arms=_arms(), floor=st.floats(0, 0.05), slack=st.floats(0, 1))
def test_weights_add_up_and_keep_floor_and_ceiling(arms: list[Arm], floor: float, slack: float) -> None:
    most = 1 / len(arms) + slack * (1 - 1 / len(arms))
    found = weights(arms, floor=floor, most=most)
    assert sum(found) == pytest.approx(1)
    assert min(found) >= floor - 1e-9
    assert max(found) <= most + 1e-9


@given(arms=_arms(5), order=st.randoms(use_true_random=False))
def test_weights_do_not_depend_on_the_order_of_arms(arms: list[Arm], order: object) -> None:
    """Up to the accuracy of the grid, whose points the arms share out by place."""
    places = list(range(len(arms)))
    order.shuffle(places)  # type: ignore[attr-defined]
    found = weights(arms)
    turned = weights([arms[place] for place in places])
    assert turned == pytest.approx([found[place] for place in places], abs=0.01)


@given(arms=_arms())
def test_same_evidence_gives_same_weights(arms: list[Arm]) -> None:
    assert weights(arms) == weights(tuple(arms))


def test_floor_is_added_and_keeps_the_order() -> None:
    assert floored([0.9, 0.1, 0.0], 0.1).tolist() == pytest.approx([0.73, 0.17, 0.1])


def test_ceiling_passes_the_rest_on_in_proportion() -> None:
    assert floored([0.9, 0.08, 0.02], 0.0, 0.5).tolist() == pytest.approx([0.5, 0.4, 0.1])
    assert floored([1.0, 0.0, 0.0], 0.0, 0.4).tolist() == pytest.approx([0.4, 0.3, 0.3])
    assert floored([0.6, 0.4, 0.0], 0.0, 0.45).tolist() == pytest.approx([0.45, 0.45, 0.1])


@pytest.mark.parametrize(("floor", "most"), [(0.5, 1.0), (-0.1, 1.0), (0.0, 0.3), (0.0, 1.1)])
def test_floored_refuses_what_leaves_no_room(floor: float, most: float) -> None:
    with pytest.raises(InvalidSpecError, match="3 arms"):
        floored([0.2, 0.3, 0.5], floor, most)


def test_default_floor_leaves_most_traffic_to_the_best_of_many() -> None:
    assert default_floor(2) == 0.01
    assert default_floor(50) * 50 == pytest.approx(0.05)


def test_normal_weights_agree_with_draws() -> None:
    rng = np.random.default_rng(2)
    arms = (
        Arm(exposures=50, total=60, squares=200),
        Arm(exposures=400, total=430, squares=1500),
        Arm(exposures=5, total=9, squares=30),
    )
    known = posterior(arms, "continuous")
    levels = rng.random((3, 200_000))
    drawn = known.quantile(levels)
    expected = np.bincount(drawn.argmax(0), minlength=3) / 200_000
    assert np.abs(p_best_of(posterior(arms, "continuous")) - expected).max() < 0.005


def test_normal_posterior_is_as_wide_as_the_standard_error() -> None:
    """Mean 2, variance 9, 3,600 exposures: the mean is known to 3 / 60."""
    arm = Arm(exposures=3600, total=7200, squares=3600 * (9 + 4))
    assert interval(arm, "continuous") == pytest.approx((2 - 1.96 * 0.05, 2 + 1.96 * 0.05), abs=0.002)


def test_normal_weights_do_not_change_with_the_scale_of_rewards() -> None:
    arms = Arm(exposures=50, total=60, squares=200), Arm(exposures=80, total=130, squares=400)
    cents = [Arm(exposures=arm.exposures, total=100 * arm.total, squares=1e4 * arm.squares) for arm in arms]
    assert weights(arms, kind="continuous") == pytest.approx(weights(cents, kind="continuous"), abs=1e-6)


def test_normal_weights_follow_the_mean_once_it_is_sure() -> None:
    arms = (
        Arm(exposures=5000, total=5000, squares=10_000),
        Arm(exposures=5000, total=5600, squares=11_000),
    )
    assert weights(arms, kind="continuous", floor=0.0)[1] > 0.999


@pytest.mark.parametrize("arms", [CLOSE, UNEVEN], ids=["close", "uneven"])
@pytest.mark.parametrize("level", [0.6, 0.95])
def test_gain_that_is_left_agrees_with_draws(arms: tuple[Arm, ...], level: float) -> None:
    rng = np.random.default_rng(3)
    drawn = np.stack([rng.beta(1 + arm.total, 1 + arm.exposures - arm.total, 400_000) for arm in arms])
    leader = drawn[int(np.argmax([(1 + arm.total) / (2 + arm.exposures) for arm in arms]))]
    gain = float(np.quantile((drawn.max(0) - leader) / leader, level))
    assert p_within(posterior(arms, "binary"), gain) == pytest.approx(
        max(level, (drawn.max(0) == leader).mean()), abs=0.01
    )


def test_gain_is_surer_ruled_out_as_evidence_grows() -> None:
    few, many = (p_within(posterior([arm.discounted(n) for arm in CLOSE], "binary"), 0.01) for n in (1, 3))
    assert few < many


def test_gain_of_continuous_rewards_is_relative_to_the_leader() -> None:
    arms = Arm(exposures=900, total=900, squares=1800), Arm(exposures=900, total=930, squares=1900)
    scaled = [Arm(exposures=one.exposures, total=10 * one.total, squares=100 * one.squares) for one in arms]
    one, other = (p_within(posterior(each, "continuous"), 0.02) for each in (arms, scaled))
    assert 0.5 < float(one) < 1
    assert one == pytest.approx(other, rel=1e-3)


def test_arm_ages_and_adds_up() -> None:
    arm = Arm(exposures=100, total=10, squares=12).discounted(0.5) + Arm(exposures=1, total=1, squares=1)
    assert arm == Arm(exposures=51, total=6, squares=7)
    assert arm.mean == pytest.approx(6 / 51)


def test_credit_below_successes_counts_as_those() -> None:
    assert weights([Arm(exposures=3.5, total=5), Arm(exposures=10, total=5)])[0] > 0.5


def test_interval_holds_the_mean() -> None:
    assert interval(CLOSE[0]) == pytest.approx((0.0829, 0.1202), abs=1e-3)
    assert interval(Arm()) is None


def test_arms_refuse_sums_that_cannot_be() -> None:
    with pytest.raises(InvalidSpecError, match="below zero"):
        weights([Arm(exposures=-1), Arm(total=-1)])
    with pytest.raises(InvalidSpecError, match="no arm"):
        weights([])


@pytest.mark.slow
def test_weights_agree_with_mabwiser_draws() -> None:
    """The share of visitors that MABWiser's Thompson sampling sends to each arm, from the same rewards."""
    from mabwiser.mab import MAB, LearningPolicy

    shown, won = (400, 300, 200), (40, 33, 24)
    decisions = np.repeat(np.arange(3), shown)
    rewards = np.concatenate([np.arange(n) < s for n, s in zip(shown, won, strict=True)]).astype(int)
    bandit = MAB([0, 1, 2], LearningPolicy.ThompsonSampling(), seed=4)
    bandit.fit(decisions, rewards)
    visits = np.bincount(bandit.predict(np.zeros((60_000, 1))), minlength=3) / 60_000
    arms = [Arm(exposures=n, total=s) for n, s in zip(shown, won, strict=True)]
    assert weights(arms, floor=0.0) == pytest.approx(visits.tolist(), abs=0.01)
