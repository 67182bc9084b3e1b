"""A sample of the crash matrix, another one each day; `python -m benchmarks.crashes` plays the whole of it."""

import random
from datetime import UTC, datetime

import pytest

from benchmarks.crash_rows import ROWS
from benchmarks.crashes import Cell, play
from benchmarks.plane import Plane

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SIZE = 6
EARLY = 4
"""Every row has at least so many entries that are more than one more look."""


def sample(day: str) -> list[tuple[str, int]]:
    """Return the cells of a day: a crash in each of some rows. A bandit takes its time, so it is left to the whole."""
    drawn = random.Random(day)  # noqa: S311  # decides no secret
    names = [row.name for row in ROWS if not row.earns]
    return [(name, drawn.randint(1, EARLY)) for name in sorted(drawn.sample(names, SIZE))]


SAMPLE = sample(f"{datetime.now(UTC):%Y-%m-%d}")


@pytest.mark.parametrize(("name", "number"), SAMPLE, ids=[f"{name} {number}" for name, number in SAMPLE])
def test_killed_controller_resumes_and_no_weight_jumps(live: Plane, name: str, number: int) -> None:
    row = next(row for row in ROWS if row.name == name)
    cell = play(live, row, number, later_s=0.01 * number)
    assert cell.requests > 100
    assert cell == Cell(is_killed=True, requests=cell.requests)


def test_samples_of_many_days_hold_every_row() -> None:
    drawn = {name for day in range(60) for name, _ in sample(f"day {day}")}
    assert drawn == {row.name for row in ROWS if not row.earns}
