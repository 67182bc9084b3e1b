"""Some cells of the crash matrix, the same each time; `python -m benchmarks.crashes` plays the whole of it."""

import pytest

from benchmarks.crash_rows import ROWS
from benchmarks.crashes import Cell, play
from benchmarks.plane import Plane

# Alone: whoever watches the weights go by must not be kept from looking while one of them holds, half a second.
pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(600)]

CELLS = (
    ("ab", 2),
    ("all at once", 2),
    ("blue-green", 1),
    ("canary rolled back", 3),
    ("canary with one queued", 1),
    ("group of two", 3),
)
"""A row, and the entry of its ledger at which the controller is killed."""


@pytest.mark.parametrize(("name", "number"), CELLS, ids=[f"{name} {number}" for name, number in CELLS])
def test_killed_controller_resumes_and_no_weight_jumps(live: Plane, name: str, number: int) -> None:
    row = next(row for row in ROWS if row.name == name)
    cell = play(live, row, number, later_s=0.01 * number)
    assert cell.requests > 100
    assert cell == Cell(is_killed=True, requests=cell.requests)
