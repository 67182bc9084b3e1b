"""A sample of the crash matrix; `python -m benchmarks.crashes` plays the whole of it."""

import pytest

from benchmarks.crashes import ROWS, Cell, play
from benchmarks.plane import Plane

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SAMPLE = [("canary", 1), ("canary", 5), ("canary rolled back", 4), ("blue-green", 3), ("undo", 2)]


@pytest.mark.parametrize(("name", "number"), SAMPLE, ids=[f"{name} {number}" for name, number in SAMPLE])
def test_killed_controller_resumes_and_no_weight_jumps(live: Plane, name: str, number: int) -> None:
    row = next(row for row in ROWS if row.name == name)
    cell = play(live, row, number, later_s=0.01 * number)
    assert cell.requests > 100
    assert cell == Cell(is_killed=True, requests=cell.requests)
