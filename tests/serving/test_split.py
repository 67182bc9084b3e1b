"""Splits: their sum, their order, and their way through JSON."""

import json
import pickle
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.split import Split

CANARIES = st.dictionaries(st.integers(2, 50), st.integers(0, 2500), max_size=4)


@given(canaries=CANARIES)
def test_split_gives_stable_the_rest(canaries: dict[int, int]) -> None:
    split = Split.of(1, {version: parts / 100 for version, parts in canaries.items()})
    assert sum(split.parts.values()) == 10_000
    assert split.weight_pct(1) == pytest.approx(100 - sum(canaries.values()) / 100)


@given(canaries=CANARIES)
def test_split_survives_json_and_pickle_with_its_order(canaries: dict[int, int]) -> None:
    split = Split.of(1, {version: parts / 100 for version, parts in canaries.items()})
    for copy in (Split.from_json(json.loads(json.dumps(split.to_json()))), pickle.loads(pickle.dumps(split))):
        assert copy == split
        assert list(copy.parts) == list(split.parts)
        assert hash(copy) == hash(split)


def test_split_has_canaries_by_their_number_and_stable_last() -> None:
    split = Split(stable=7, parts={7: 9000, 9: 600, 8: 400})
    assert list(split.parts) == [8, 9, 7]
    assert split.canaries == (8, 9)


def test_split_drops_a_canary_without_parts_and_keeps_stable_without() -> None:
    assert Split.of(1, {2: 0}) == Split.whole(1)
    assert Split.of(1, {2: 100}).parts == {2: 10_000, 1: 0}


def test_split_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        Split.whole(1).parts[1] = 0  # type: ignore[index]


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ({1: 9999}, "sum to 10000, got 9999"),
        ({1: 10_001, 2: -1}, "from 0 to 10000, got 1: 10001, 2: -1"),
        ({1: 5000.0, 2: 5000}, "from 0 to 10000"),
        ({0: 10_000}, "versions must be whole numbers from 1"),
        ({}, "sum to 10000, got 0"),
    ],
    ids=["sum", "range", "float", "version", "empty"],
)
def test_split_that_is_none_is_refused(parts: Mapping[int, int], fault: str) -> None:
    with pytest.raises(InvalidSpecError, match=fault):
        Split(stable=1, parts=parts)


@pytest.mark.parametrize("canaries", [{2: 101}, {2: -1}, {2: 60, 3: 60}, {1: 5}], ids=str)
def test_split_of_impossible_weights_is_refused(canaries: dict[int, float]) -> None:
    with pytest.raises(InvalidSpecError):
        Split.of(1, canaries)


@pytest.mark.parametrize(
    "value", [{}, {"stable": 1}, {"stable": "x", "parts": {}}, {"stable": 1, "parts": []}], ids=str
)
def test_split_from_something_else_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(InvalidSpecError):
        Split.from_json(value)
