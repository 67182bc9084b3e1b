"""A bandit on day 0 and day 1: what the picture shows is what the controller decided and the ledger holds."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taxiway.history import History
from taxiway.history.picture import draw
from tests.page.day import CLICKS, DAY_S, MIDNIGHT_S, ROWS, WINNER, Day, history_of, hourly
from tests.serving.plane import HANDLE

# The first test lets the day happen.
pytestmark = pytest.mark.slow

DRIFT_PCT = 2


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    made = Day(tmp_path_factory.mktemp("day"))
    made.play()
    yield made
    made.close()


@pytest.fixture(scope="module")
def history(day: Day, tmp_path_factory: pytest.TempPathFactory) -> History:
    return history_of(day, tmp_path_factory.mktemp("home"))


def read_back(day: Day) -> list[tuple[float, dict[int, float]]]:
    """Return every split of the day that the ledger says was read back, one for each change."""
    found: list[tuple[float, dict[int, float]]] = []
    for entry in day.plane.store.entries(HANDLE, after=0, limit=100_000):
        split = entry.body.get("observed")
        if split is None or entry.at_s < MIDNIGHT_S:
            continue
        shares = {int(version): parts / 100 for version, parts in split["parts"].items() if parts}
        if not found or found[-1][1] != shares:
            found.append((entry.at_s, shares))
    return found


def corners(history: History, version: int) -> set[tuple[float, float]]:
    """Return the corners of a version's area in the picture: seconds since the epoch, and height in per cent."""
    from matplotlib.dates import num2date

    area = draw(history).axes[0].collections[sorted(CLICKS).index(version)]
    found: Any = area.get_paths()[0].vertices
    return {(round(num2date(x).timestamp(), 1), round(float(y), 2)) for x, y in found}  # type: ignore[no-untyped-call]


def test_day_0_is_even_and_day_1_is_the_winners(history: History) -> None:
    hours = hourly(history)
    assert all(31 <= share <= 36 for share in hours[0].values())
    assert hours[-1][str(WINNER)] > 70
    assert history.points[-1].observed is not None
    assert history.points[-1].observed[WINNER] > 70


def test_picture_draws_what_the_ledger_holds(day: Day, history: History) -> None:
    seen = [each for each in read_back(day) if each[0] > MIDNIGHT_S]
    assert len(seen) > 50
    stacked = sorted(CLICKS)
    for place, version in enumerate(stacked, 1):
        found = corners(history, version)
        tops = [(round(at_s, 1), sum(shares.get(v, 0.0) for v in stacked[:place])) for at_s, shares in seen]
        assert {(at_s, round(top, 2)) for at_s, top in tops} <= found
        bottoms = {round(sum(shares.get(v, 0.0) for v in stacked[: place - 1]), 2) for _, shares in seen}
        before = {0.0, 100.0}
        assert {height for _, height in found} <= {round(top, 2) for _, top in tops} | bottoms | before
        assert max(at_s for at_s, _ in found) == MIDNIGHT_S + DAY_S


def test_picture_in_the_documentation_is_of_this_day(root: Path, history: History) -> None:
    from PIL import Image

    with Image.open(root / "docs" / "images" / "bandit.png") as image:
        noted = json.loads(image.text[ROWS])  # type: ignore[attr-defined]
    assert len(noted) == len(hourly(history)) == 24
    for then, now in zip(noted, hourly(history), strict=True):
        assert now == pytest.approx(then, abs=DRIFT_PCT)
    assert "images/bandit.png" in (root / "docs" / "strategies" / "bandit.md").read_text(encoding="utf-8")
