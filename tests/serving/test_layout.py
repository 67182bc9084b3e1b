"""Where users stand on the line of 10,000, and who of them moves when weights change."""

import itertools
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway_serving.routing.layout import first_place, layout
from taxiway_serving.split import Split

STABLE = 4
Parts = Mapping[int, int]
CANDIDATES = st.sampled_from([1, 2, 3, 5, 6, 7, 8, 13, 504])
PARTS = st.dictionaries(CANDIDATES, st.integers(0, 2500), max_size=4)


def split_of(candidates: Parts) -> Split:
    return Split(stable=STABLE, parts={**candidates, STABLE: 10_000 - sum(candidates.values())})


def line(candidates: Parts) -> list[int]:
    """Return the version of each place."""
    return [run.version for run in layout(split_of(candidates)) for _ in range(run.parts)]


def moves(before: Parts, after: Parts) -> Counter[tuple[int, int]]:
    """Return how many places went from which version to which."""
    return Counter((old, new) for old, new in zip(line(before), line(after), strict=True) if old != new)


@given(candidates=PARTS)
def test_layout_gives_each_version_its_parts(candidates: Parts) -> None:
    expected = {version: n for version, n in split_of(candidates).parts.items() if n}
    assert dict(Counter(line(candidates))) == expected


@given(candidates=PARTS)
def test_layout_names_stable_also_when_it_has_nothing(candidates: Parts) -> None:
    whole = {**dict.fromkeys(candidates, 0), 9: 10_000}
    assert {run.version for run in layout(split_of(whole))} == {9, STABLE}


@given(candidates=PARTS)
def test_layout_does_not_depend_on_the_order_of_candidates(candidates: Parts) -> None:
    backwards = dict(reversed(list(candidates.items())))
    assert layout(split_of(backwards)) == layout(split_of(candidates))


@given(candidates=PARTS, chosen=CANDIDATES, more=st.integers(1, 2500))
def test_raising_a_candidate_sends_no_user_back_to_stable(candidates: Parts, chosen: int, more: int) -> None:
    """From zero too: a candidate that comes in the middle takes users of stable, and gives it none."""
    before = {**candidates, chosen: candidates.get(chosen, 0)}
    grown = {**before, chosen: before[chosen] + min(more, 10_000 - sum(before.values()))}
    assert all(new != STABLE for _, new in moves(before, grown))


@given(candidates=PARTS, chosen=CANDIDATES, more=st.integers(1, 2500))
def test_raising_a_candidate_takes_at_most_as_many_users_of_each_other(
    candidates: Parts, chosen: int, more: int
) -> None:
    before = {**candidates, chosen: candidates.get(chosen, 0)}
    grown = {**before, chosen: before[chosen] + min(more, 10_000 - sum(before.values()))}
    lost: Counter[int] = Counter()
    for (old, _), places in moves(before, grown).items():
        lost[old] += places
    assert all(places <= grown[chosen] - before[chosen] for places in lost.values())


@pytest.mark.parametrize("raised", list(itertools.permutations((5, 6, 7))), ids=str)
def test_three_neighbours_up_to_a_fifth_each_move_nobody_of_each_other(raised: tuple[int, ...]) -> None:
    weights = dict.fromkeys(raised, 100)
    for version in raised * 2:
        grown = {**weights, version: weights[version] + 1000}
        assert moves(weights, grown) == {(STABLE, version): 1000}
        weights = grown


def test_two_neighbours_move_only_who_must_when_weight_goes_from_one_to_the_other() -> None:
    for first in range(100, 6000, 500):
        before, after = {5: first, 6: 6000 - first}, {5: first + 100, 6: 5900 - first}
        assert sum(moves(before, after).values()) <= 200


def test_candidate_that_goes_moves_only_its_own_users() -> None:
    weights = {5: 2000, 6: 2000, 7: 2000}
    for gone in weights:
        assert moves(weights, {**weights, gone: 0}) == {(gone, STABLE): 2000}


def test_each_rollout_begins_with_other_users() -> None:
    first_users = [
        {place for place, version in enumerate(line({candidate: 1000})) if version == candidate}
        for candidate in (5, 6, 7, 8)
    ]
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(first_users, 2))


def test_no_two_candidates_begin_at_the_same_place() -> None:
    assert len({first_place(version) for version in range(1, 10_001)}) == 10_000
