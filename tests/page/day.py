"""The first day of a bandit of three versions: the real controller over fakes, hours in seconds, and its picture.

`python -m tests.page.day docs/images/bandit.png` draws the documentation's picture again.
"""

import json
import random
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from taxiway.history import History, read
from taxiway.history.picture import draw
from taxiway.history.table import mean_shares
from taxiway.settings import Settings
from taxiway_serving.feedback import Event
from tests.page.world import TOKEN, Served, World
from tests.serving.plane import HANDLE

MIDNIGHT_S = datetime(2026, 5, 4, tzinfo=UTC).timestamp()
HOUR_S, DAY_S = 3_600.0, 86_400.0
LOOK_S, REQUESTS = 120.0, 8
"""The simulated controller looks every two minutes, and sees what came meanwhile."""
CLICKS = {1: 0.05, 2: 0.06, 3: 0.08}
WINNER = 3
BANDIT = {
    "kind": "bandit",
    "reward": "click",
    "window_s": 600,
    "update_s": 600,
    "silence_s": HOUR_S,
    "min_s": DAY_S,
    "deadline_s": 7 * DAY_S,
}
ROWS = "Rows"
"""Name of the picture's own note of what it shows."""


class Day(World):
    """A controller that lets a bandit choose for 24 hours; visitors click by chance, always the same ones."""

    def play(self) -> None:
        plane, dice = self.plane, random.Random(20260504)  # noqa: S311 - clicks, not secrets
        plane.runtime.now_s = MIDNIGHT_S - HOUR_S
        for version in CLICKS:
            plane.deploy(version)
        self.tick(3)
        plane.begin(1, name="opening")
        self.tick(30, until=lambda: plane.state("opening").outcome is not None)
        plane.runtime.now_s = MIDNIGHT_S
        plane.begin(2, name="bandit", rivals=[3], strategy=BANDIT)
        plane.tick(3, requests=3)
        while plane.now_s < MIDNIGHT_S + DAY_S:
            plane.runtime.step(LOOK_S - 1)
            plane.tick(requests=REQUESTS)
            self.report(dice)

    def report(self, dice: random.Random) -> None:
        """Report the clicks on the answers since the last call."""
        batch = self.plane.source.read(self._seen)
        self._seen = batch.cursor
        events = [
            Event(request_id=each.request_id, metric="click", value=1.0, event_at_s=each.at_s)
            for each in batch.attempts
            if dice.random() < CLICKS[each.assigned]
        ]
        if events:
            self.senses.rewards.accept(events, now_s=self.plane.now_s)


def history_of(day: Day, home: Path) -> History:
    """Read the day as a notebook does, over HTTP."""
    served = Served(day)
    served.start()
    try:
        found = Settings.from_environment({"TAXIWAY_HOME": str(home), "TAXIWAY_CONTROLLER_URL": served.url})
        settings = replace(found, controller_token=TOKEN)
        return read(HANDLE, settings, since_s=MIDNIGHT_S, until_s=MIDNIGHT_S + DAY_S, step_s=3_600)
    finally:
        served.stop()


def hourly(history: History) -> list[dict[str, int]]:
    """Return the shares that each version had in each hour, in whole per cent."""
    hours = (MIDNIGHT_S + place * HOUR_S for place in range(24))
    means = [mean_shares(history.points, start_s, start_s + HOUR_S, "observed") for start_s in hours]
    return [{str(version): round(mean.get(version, 0.0)) for version in CLICKS} for mean in means]


def save(history: History, path: Path) -> None:
    """Draw the day, with a note in the file of the shares that it shows."""
    draw(history).savefig(path, dpi=110, metadata={ROWS: json.dumps(hourly(history))})


def main(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        day = Day(Path(folder))
        try:
            day.play()
            save(history_of(day, Path(folder)), path)
        finally:
            day.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
