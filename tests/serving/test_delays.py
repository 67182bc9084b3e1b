"""Credit for late rewards: what it comes to where the delays are known, and that it never goes too far."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.statistics.delays import credited, passed

WINDOW_S = 60.0


def test_credit_is_the_share_of_delays_that_has_passed() -> None:
    delays = {1: [5.0] * 500 + [25.0] * 500}
    found = credited({1: [(1, 100), (10, 100), (30, 100), (90, 100)]}, delays, window_s=WINDOW_S)
    assert found.mode == "partial"
    assert found.exposures[1] == pytest.approx(0 + 50 + 100 + 100, abs=0.5)


def test_arm_with_few_delays_follows_the_others() -> None:
    delays = {1: [10.0] * 1000, 2: [12.0] * 5}
    found = credited({1: [(11, 100)], 2: [(11, 100)]}, delays, window_s=WINDOW_S)
    assert found.exposures[1] == pytest.approx(100, abs=1)
    assert found.exposures[2] == pytest.approx(100 * 20 / 25, abs=1)


def test_only_mature_exposures_count_where_delays_lie_apart() -> None:
    delays = {1: [5.0] * 50, 2: [15.0] * 50}
    found = credited({1: [(20, 10), (60, 7)], 2: [(59, 10), (80, 3)]}, delays, window_s=WINDOW_S)
    assert (found.mode, found.exposures) == ("mature", {1: 7.0, 2: 3.0})


def test_only_mature_exposures_count_while_no_delay_is_known() -> None:
    found = credited({1: [(20, 10), (60, 7)], 2: []}, {}, window_s=WINDOW_S)
    assert (found.mode, found.exposures) == ("mature", {1: 7.0, 2: 0.0})


def test_few_delays_do_not_change_the_mode() -> None:
    exposures = {1: [(1.0, 1.0)], 2: [(1.0, 1.0)]}
    for few, mode in ((9, "partial"), (10, "mature")):
        found = credited(exposures, {1: [5.0] * 50, 2: [50.0] * few}, window_s=WINDOW_S)
        assert found.mode == mode


def test_young_exposures_do_not_make_delays_look_short() -> None:
    """Delays are exponential with mean 30 s; three quarters of the exposures are younger than the longest delays."""
    rng = np.random.default_rng(1)
    ages = rng.uniform(0, 80, 20_000)
    ages = np.minimum(ages, WINDOW_S)
    delays = rng.exponential(30, ages.size)
    seen = delays <= ages
    exposures = {1: [(20.0, 1000.0)]}
    truth = 1000 * (1 - np.exp(-20 / 30)) / (1 - np.exp(-60 / 30))
    allowed = credited(
        exposures, {1: delays[seen].tolist()}, window_s=WINDOW_S, watched={1: ages[seen].tolist()}
    )
    plain = credited(exposures, {1: delays[seen].tolist()}, window_s=WINDOW_S)
    assert allowed.exposures[1] == pytest.approx(truth, rel=0.03)
    assert plain.exposures[1] > 1.15 * truth


def test_passed_is_the_plain_share_where_nothing_is_cut_off() -> None:
    arrived = np.array([3.0, 0.0, 5.0, 2.0])
    assert passed(arrived, arrived.cumsum()) == pytest.approx([0.3, 0.3, 0.8, 1.0], abs=0.08)
    assert passed(1000 * arrived, 1000 * arrived.cumsum())[1:] == pytest.approx([0.3, 0.8, 1.0], abs=1e-3)


@given(
    rows=st.lists(st.tuples(st.floats(0, 200), st.integers(0, 1000)), max_size=8),
    delays=st.lists(st.floats(0, WINDOW_S), max_size=40),
)
def test_credit_stays_between_mature_and_made(rows: list[tuple[float, float]], delays: list[float]) -> None:
    found = credited({1: rows}, {1: delays}, window_s=WINDOW_S).exposures[1]
    mature = sum(count for age, count in rows if age >= WINDOW_S)
    assert mature - 1e-6 <= found <= sum(count for _, count in rows) + 1e-6


@given(delays=st.lists(st.floats(0, WINDOW_S), min_size=1, max_size=40), age=st.floats(0, WINDOW_S))
def test_credit_grows_with_age(delays: list[float], age: float) -> None:
    young = credited({1: [(age / 2, 1)]}, {1: delays}, window_s=WINDOW_S).exposures[1]
    old = credited({1: [(age, 1)]}, {1: delays}, window_s=WINDOW_S).exposures[1]
    assert young <= old + 1e-9


@pytest.mark.parametrize(
    ("delays", "watched", "said"),
    [
        ({1: [70.0]}, None, "inside the window"),
        ({1: [-1.0]}, None, "inside the window"),
        ({1: [20.0]}, {1: [10.0]}, "longer than its exposure is old"),
        ({1: [20.0]}, {1: []}, "one beside each"),
    ],
)
def test_credit_refuses_delays_that_cannot_be(
    delays: dict[int, list[float]], watched: dict[int, list[float]] | None, said: str
) -> None:
    with pytest.raises(InvalidSpecError, match=said):
        credited({1: [(1, 1)]}, delays, window_s=WINDOW_S, watched=watched)
