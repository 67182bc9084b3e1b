"""Weights in parts of 10,000: they add up, whatever the shares."""

from hypothesis import given
from hypothesis import strategies as st

from taxiway_serving.rollout.weighing import in_parts, share_of

shares = st.lists(st.floats(0, 1), min_size=1, max_size=20).map(
    lambda raw: [each / max(1.0, sum(raw)) for each in raw]
)


@given(shares=shares)
def test_parts_add_up_and_stay_near_their_shares(shares: list[float]) -> None:
    parts = in_parts(shares)
    assert all(round(part * 100, 6).is_integer() for part in parts)
    assert sum(round(part * 100) for part in parts) == min(
        10_000, round(sum(round(s * 1e4, 6) for s in shares))
    )
    assert all(abs(part - 100 * share) <= 0.01 + 1e-9 for part, share in zip(parts, shares, strict=True))


@given(candidates=st.integers(1, 20))
def test_even_parts_of_all_traffic_are_all_of_it(candidates: int) -> None:
    parts = in_parts([1 / candidates] * candidates)
    assert round(sum(parts), 6) == 100
    assert max(parts) - min(parts) <= 0.011


def test_share_beside_stable_leaves_rivals_out() -> None:
    weights = {2: 30.0, 3: 40.0}
    assert share_of(2, weights, 1) == 0.5
    assert share_of(4, weights, 1) == 0.0
    assert share_of(2, {2: 60.0, 3: 40.0}, 1) == 1.0
    assert share_of(2, {}, None) == 1.0
