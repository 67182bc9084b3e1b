"""Files are put from a cell without copying them first, and what a killed cell left is cleared away."""

from pathlib import Path

import pytest

from taxiway.datasets import load, put
from taxiway.errors import InvalidSpecError
from taxiway.settings import Settings
from tests.datasets.conftest import contents, write


def test_files_are_put_and_nothing_is_left_of_a_killed_call(data: Path, settings: Settings) -> None:
    killed = write(settings.home / "put" / ".scratch.0badcafe", {"big.bin": "0"})
    made = put([data / "a.txt", data / "deep" / "c.txt"], "digits", settings=settings)
    assert contents(load(made.tag, settings=settings)) == {"a.txt": b"one", "c.txt": b"three"}
    assert not killed.exists()
    assert list((settings.home / "put").iterdir()) == []


def test_everything_that_cannot_be_put_is_named(data: Path, settings: Settings) -> None:
    given = [data / "a.txt", data / "gone.txt", data / "deep", data / "deep" / "a.txt"]
    with pytest.raises(InvalidSpecError) as caught:
        put(given, "digits", settings=settings)
    assert len(caught.value.faults) == 4
