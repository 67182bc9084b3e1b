"""Handles, versions and the gateway's names for them."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxiway_serving import errors, names
from taxiway_serving.names import VariantId


@pytest.mark.parametrize("text", ["a", "visual_recognition", "a" * 63, "v2_digits"])
def test_handle_that_is_one_is_returned(text: str) -> None:
    assert names.check_handle(text) == text


@pytest.mark.parametrize(
    "text", ["", "A", "2digits", "_a", "a-b", "a/b", "a b", "a\n", "ä", "a" * 64, "..", "a%2f"]
)
def test_handle_that_is_none_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(errors.InvalidNameError, match="must match") as caught:
        names.check_handle(text)
    assert caught.value.got == text


@pytest.mark.parametrize("number", [0, -1, True, 1.0, "1", None])
def test_version_that_is_none_is_refused(number: object) -> None:
    with pytest.raises(errors.InvalidNameError, match="whole number from 1"):
        names.check_version(number)  # type: ignore[arg-type]


@given(version=st.integers(1, 10**9), stable=st.none() | st.integers(1, 10**9))
def test_cluster_name_tells_the_assigned_version(version: int, stable: int | None) -> None:
    name = names.cluster_name(VariantId(handle="digits", version=version), stable)
    assert names.assigned_version(name) == version


@pytest.mark.parametrize(
    "name", ["", "digits", "digits/0", "digits/x", "digits/2~", "digits/2~1~1", "Digits/2"]
)
def test_cluster_name_of_another_kind_assigns_nothing(name: str) -> None:
    assert names.assigned_version(name) is None


def test_copy_has_a_name_of_its_own_and_no_cluster() -> None:
    original, copy = (VariantId(handle="digits", version=7, copy=number) for number in (0, 1))
    assert (str(original), str(copy)) == ("digits/7", "digits/7+1")
    assert original != copy
    with pytest.raises(errors.InvalidNameError, match="has no live traffic"):
        names.cluster_name(copy)
    assert names.assigned_version(str(copy)) is None


@pytest.mark.parametrize("number", [-1, True, 1.0, "1", None])
def test_copy_that_is_none_is_refused(number: object) -> None:
    with pytest.raises(errors.InvalidNameError, match="whole number from 0"):
        VariantId(handle="digits", version=7, copy=number)  # type: ignore[arg-type]


ERRORS = (
    errors.InvalidSpecError(("a is wrong", "b is wrong"), "table"),
    errors.InvalidNameError("handle", "X", "must be lower case"),
    errors.AuthenticationError("http://127.0.0.1:1"),
    errors.NotFoundError("endpoint", "digits", "deploy a version first"),
    errors.ConflictError("rollout", "one is under way", "abort it"),
    errors.NotReadyError("digits/2", 60, "exited with code 1", "ImportError"),
    errors.TransportError("controller", "refused"),
)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_error_survives_pickling(error: errors.TaxiwayError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_error_names_every_fault_at_once() -> None:
    assert str(ERRORS[0]) == "table: a is wrong; b is wrong"
    assert isinstance(ERRORS[0], ValueError)
