"""Source models are named by a handle, and a version or an alias after `@`."""

import pytest

from taxiway.project.sources import source_faults


def test_good_names_have_no_fault() -> None:
    assert source_faults(["visual_recognition@7", "other@champion", "third"], "training") == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("No Handle@7", "must match"),
        ("digits@", "a version from 1 or an alias"),
        ("digits@0", "got '0'"),
        ("digits@07", "got '07'"),
        ("digits@latest", "got 'latest'"),
        ("digits@v7", "got 'v7'"),
        ("digits@a b", "got 'a b'"),
        ("digits@1@2", "got '1@2'"),
    ],
)
def test_every_other_name_is_refused_with_the_rule(name: str, says: str) -> None:
    (fault,) = source_faults([name], "training")
    assert fault.startswith("training.source_models")
    assert says in fault


def test_handle_that_is_named_twice_is_a_fault() -> None:
    assert source_faults(["digits@1", "digits@2"], "training") == [
        "training.source_models names digits twice"
    ]
