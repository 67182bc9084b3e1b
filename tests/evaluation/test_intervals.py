"""The intervals hold the truth about as often as they say: simulated, and properties that no data may break."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway.evaluation import calibration, intervals

RUNS = 2_000


@given(st.integers(0, 500), st.integers(0, 500))
def test_share_holds_its_estimate_and_stays_a_share(right: int, wrong: int) -> None:
    total = right + wrong
    found = intervals.share(right, total)
    assert 0 <= found.low <= found.high <= 1
    if total:
        assert found.low - 1e-12 <= right / total <= found.high + 1e-12


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 800))
def test_paired_shares_turn_around_with_their_sides(won: int, lost: int, same: int) -> None:
    total = won + lost + same
    one, other = intervals.paired_shares(won, lost, total), intervals.paired_shares(lost, won, total)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_more_items_make_every_interval_narrower() -> None:
    few, many = intervals.share(8, 10), intervals.share(800, 1000)
    assert many.high - many.low < few.high - few.low
    few, many = intervals.paired_shares(2, 1, 100), intervals.paired_shares(20, 10, 1000)
    assert many.high - many.low < few.high - few.low


def test_nothing_measured_leaves_everything_possible() -> None:
    assert intervals.share(0, 0) == intervals.Interval(low=0.0, high=1.0)
    assert intervals.paired_shares(0, 0, 0) == intervals.Interval(low=-1.0, high=1.0)


def test_share_is_wilsons() -> None:
    """Newcombe (1998), Statistics in Medicine 17, p. 861: 81 of 263 is 0.2553 to 0.3662."""
    found = intervals.share(81, 263)
    assert [found.low, found.high] == pytest.approx([0.2553, 0.3662], abs=1e-4)


@pytest.mark.parametrize(("rate", "items"), [(0.5, 30), (0.9, 100), (0.97, 1000)])
def test_share_covers_the_truth(rate: float, items: int) -> None:
    random = np.random.default_rng(1)
    found = [intervals.share(int(right), items) for right in random.binomial(items, rate, RUNS)]
    assert _coverage(found, rate) >= 0.93


@pytest.mark.parametrize(
    ("won", "lost", "items"), [(0.05, 0.05, 100), (0.02, 0.05, 300), (0.001, 0.001, 1000), (0.2, 0.1, 30)]
)
def test_paired_shares_cover_the_truth(won: float, lost: float, items: int) -> None:
    random = np.random.default_rng(2)
    drawn = random.multinomial(items, [won, lost, 1 - won - lost], RUNS)
    found = [intervals.paired_shares(int(each[0]), int(each[1]), items) for each in drawn]
    assert _coverage(found, won - lost) >= 0.93


def test_paired_mean_covers_the_truth() -> None:
    random = np.random.default_rng(3)
    found = [intervals.paired_mean((random.exponential(1.0, 100) - 1.2).tolist(), random) for _ in range(400)]
    assert _coverage(found, -0.2) >= 0.90


@pytest.mark.parametrize("honesty", [1.0, 0.8], ids=["calibrated", "too-sure"])
def test_calibration_interval_covers_the_error_of_its_bins(honesty: float) -> None:
    random = np.random.default_rng(4)
    hits = 0
    for _ in range(200):
        sure = random.beta(8, 2, 300)
        found = calibration.measure(sure.tolist(), (random.random(300) < sure * honesty).tolist(), random)
        truth = sum(each.items * each.confidence * (1 - honesty) for each in found.bins) / 300
        hits += found.interval.low <= truth <= found.interval.high
    assert hits / 200 >= 0.93


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=200),
    st.integers(0, 2**32),
)
def test_calibration_is_a_share_within_its_interval(rows: list[tuple[float, bool]], seed: int) -> None:
    sure, right = zip(*rows, strict=True)
    found = calibration.measure(sure, right, np.random.default_rng(seed))
    assert 0 <= found.interval.low <= found.error <= found.interval.high <= 1
    assert sum(each.items for each in found.bins) == len(rows)


def test_calibration_error_is_the_gap_between_sure_and_right() -> None:
    found = calibration.measure(
        [0.95] * 80 + [0.55] * 20,
        [True] * 40 + [False] * 40 + [True] * 11 + [False] * 9,
        np.random.default_rng(0),
    )
    assert found.error == pytest.approx(0.8 * 0.45)


def _coverage(found: list[intervals.Interval], truth: float) -> float:
    return sum(each.low <= truth <= each.high for each in found) / len(found)
