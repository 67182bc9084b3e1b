"""What tells a home's containers from another's is there whole, or not at all."""

import os
from pathlib import Path

import pytest

from taxiway.runners.attendance import Attendance


def test_owner_that_was_not_written_whole_is_another_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            Attendance(tmp_path).owner()
    assert not (tmp_path / "owner").exists()
    owner = Attendance(tmp_path).owner()
    assert len(owner) == 32
    assert Attendance(tmp_path).owner() == owner
