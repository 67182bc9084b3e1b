"""The crash matrix: `python -m benchmarks.crashes` (`--quick`: every third crash; `--only canary`: one row of it).

A controller is killed, as `kill -9` does, at every transition of every strategy under load: at the moment at which the
ledger shows the k-th entry of a rollout, for every k that there is, and each time a little later than the time before.
Another one is started in its place, as whoever supervises it would. Nothing else is touched.

The bars, all 0: rollouts that do not resume and end as without a crash; splits that Envoy had though the ledger had not
committed them before; weights of the candidate out of the order that its plan gives; failed requests of clients;
variants that were started again. What is played is in `crash_rows.py`; a new strategy is a row there.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count, pairwise
from threading import Event, Thread
from typing import Any

from benchmarks.crash_rows import ROWS, Row
from benchmarks.load import Load
from benchmarks.plane import HANDLE, Plane, Seen, Watch, plane, wait_until
from benchmarks.report import Figure, report, told
from benchmarks.variants import behave, plain
from taxiway_serving.errors import TransportError
from taxiway_serving.ledger.chain import Entry
from taxiway_serving.ledger.sql import SqlStore
from taxiway_serving.split import Split

RATE_RPS = 200.0
LATEST_KILL_S = 0.08
"""A tick acts within this time after its commit; the kills are spread over it."""
MOST_EVENTS = 500
OTHER = "other"
"""A second handle, for the group."""
END_S = 60.0
LAST_ENTRY_S = 2.0
"""The last split is read back, and written down, this long after a rollout's end at most."""
_POLL_S = 0.003


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One rollout with one crash in it, and what was seen.

    Attributes:
        is_killed: Whether the rollout had so many entries at all.
        ended: What became of it, in words; "" if it ended as it should.
        uncommitted: Splits that Envoy had before the ledger.
        disordered: Weights of the candidate that its plan does not have, or not then.
        failed: Requests of clients that failed.
        requests: All of them.
        restarts: Variants that were started again.
    """

    is_killed: bool
    ended: str = ""
    uncommitted: int = 0
    disordered: int = 0
    failed: int = 0
    requests: int = 0
    restarts: int = 0


class Ledger:
    """Reads a plane's ledger while no controller may be there to ask.

    Args:
        made: Whose ledger.
    """

    def __init__(self, made: Plane) -> None:
        self._store = SqlStore(made.settings.database_url)

    def close(self) -> None:
        self._store.close()

    def end(self) -> int:
        return self._entries(0)[-1].seq

    def since(self, seq: int) -> Sequence[Entry]:
        return self._entries(seq)

    def transitions(self, seq: int) -> int:
        """Return how many entries came after a place that are more than one more look."""
        return sum(entry.body.get("verdict") != "hold" for entry in self._entries(seq))

    def _entries(self, after: int) -> Sequence[Entry]:
        return self._store.entries(HANDLE, after=after, limit=10_000)


def play(made: Plane, row: Row, number: int, *, later_s: float) -> Cell:
    """Play a row once, and kill the controller when the ledger shows that entry of the rollout.

    Args:
        made: A plane with two versions: the one that is live, and the one before it.
        row: What to play.
        number: Of the entry, from 1; looks that change nothing do not count.
        later_s: How long after it.
    """
    stable = made.controller.endpoint(HANDLE)["stable"]
    candidate = 3 - stable
    ledger = Ledger(made)
    name, seq = f"{row.name.replace(' ', '-')}-{number}-{time.time_ns()}", ledger.end()
    behave(made.model(candidate), error_rate=row.error_rate)
    restarts = _restarts(made)
    with made.load(RATE_RPS) as load, Watch(made) as watch, earning(made, load, row, candidate):
        time.sleep(0.2)
        started(made, row, candidate, name)
        is_killed = _kill_at(made, ledger, row, name, seq, number, later_s)
        ended = _ended(made, row, name)
        ended = ended or _others_ended(made, row, name)
        wait_until(lambda: made.split() == Split.whole(_live(made)), what="the split at the end")
        time.sleep(0.3)
    entries = ledger.since(seq)
    ledger.close()
    behave(made.model(candidate))
    return Cell(
        is_killed=is_killed,
        ended=ended,
        uncommitted=len(uncommitted(watch.changes, entries, Split.whole(stable))),
        disordered=disorder(watch.changes, candidate, planned(row, entries, candidate)),
        failed=sum(each.has_failed for each in load.sent()),
        requests=len(load.sent()),
        restarts=_restarts(made) - restarts,
    )


@contextmanager
def earning(made: Plane, load: Load, row: Row, candidate: int) -> Iterator[None]:
    """Reward the answers of a row that earns while the context lasts, whether or not a controller is there to hear."""
    ended = Event()
    thread = Thread(target=_earn, args=(made, load, candidate, ended), name="rewards", daemon=True)
    if row.earns:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if row.earns:
            thread.join(5.0)


def _earn(made: Plane, load: Load, candidate: int, ended: Event) -> None:
    reported = 0
    while not ended.wait(0.2):
        sent = load.sent()[reported : reported + MOST_EVENTS]
        events = [
            {"request_id": each.request_id, "metric": "click", "value": 1.0}
            for number, each in enumerate(sent, reported)
            if number % 10 < (6 if each.version == candidate else 2)
        ]
        # Nobody to tell for the moment: told again, it counts once.
        with suppress(TransportError):
            if events:
                made.controller.feedback_batch(events)
            reported += len(sent)


def started(made: Plane, row: Row, candidate: int, name: str) -> None:
    """Begin the row's rollout."""
    asked = {"strategy": row.strategy, "availability": 0.9, **row.options}
    if row.strategy is None:
        made.controller.undo(HANDLE, name)
    elif row.grouped:
        mine = {"id": name, "handle": HANDLE, "version": candidate, **asked}
        its = {"id": _following(name), "handle": OTHER, "version": _next_of_other(made), **asked}
        group = {"name": name, "handles": [HANDLE, OTHER]}
        made.controller.start_group([each | {"group": group} for each in (mine, its)])
    else:
        made.roll_out(candidate, name, **asked)


def _next_of_other(made: Plane) -> int:
    """Return the version of the second handle that is not live there; at its first use version 1 is made live."""
    for version in (1, 2):
        spec = made.spec(version) | {"model": f"{OTHER}/{version}"}
        made.controller.deploy(OTHER, version, spec)
        made.controller.wait_ready(OTHER, version, deadline_s=END_S)
    if made.controller.endpoint(OTHER)["stable"] is None:
        made.controller.start_rollout(OTHER, {"id": "first-of-other", "version": 1})
        wait_until(lambda: made.controller.endpoint(OTHER)["stable"] == 1, what="the second handle")
        wait_until(
            lambda: made.controller.rollout(OTHER, "first-of-other")["status"] == "ended", what="its rollout"
        )
    return 3 - int(made.controller.endpoint(OTHER)["stable"])


def _kill_at(made: Plane, ledger: Ledger, row: Row, name: str, seq: int, number: int, later_s: float) -> bool:
    """Kill the controller at that entry and start another; return False if there is no such entry."""
    done: set[int] = set()
    end_s = time.monotonic() + END_S
    while ledger.transitions(seq) < number:
        rollout = made.rollout(name)
        if rollout["status"] == "ended":
            end_s = min(end_s, time.monotonic() + LAST_ENTRY_S)
        if time.monotonic() > end_s:
            return False
        _act(made, row, rollout, done)
        time.sleep(_POLL_S)
    time.sleep(later_s)
    made.kill_controller()
    made.start_controller()
    return True


def _ended(made: Plane, row: Row, name: str) -> str:
    """Wait for the end, doing the row's verbs on the way; return what is wrong with it, or nothing."""
    done: set[int] = set()
    end_s = time.monotonic() + END_S
    while time.monotonic() < end_s:
        rollout = made.rollout(name)
        if rollout["status"] == "ended":
            is_right = rollout["outcome"] == row.outcome
            return "" if is_right else f"{name} ended as {rollout['outcome']}: {rollout['reason']}"
        _act(made, row, rollout, done)
        time.sleep(0.02)
    made.controller.act(HANDLE, name, "abort")
    made.wait_ended(name, within_s=END_S)
    return f"{name} did not end within {END_S:g} s: {rollout['reason']}"


def _others_ended(made: Plane, row: Row, name: str) -> str:
    """Wait for the end of the rollouts that the row brings beside its first; return what is wrong, or nothing."""
    others = [OTHER] if row.grouped else [HANDLE] if row.following else []
    other = _following(name)
    for handle in others:

        def has_ended(handle: str = handle) -> bool:
            return bool(made.controller.rollout(handle, other)["status"] == "ended")

        wait_until(has_ended, within_s=END_S, what=f"the end of {other} of {handle}")
        rollout = made.controller.rollout(handle, other)
        if rollout["outcome"] != "Promoted":
            return f"{other} of {handle} ended as {rollout['outcome']}: {rollout['reason']}"
    return ""


def _act(made: Plane, row: Row, rollout: Mapping[str, Any], done: set[int]) -> None:
    """Do what the row has for this moment; done again after a crash, it is done once all the same."""
    step, has_moved = rollout["step"], rollout["weight_pct"] > 0
    if row.on_pause and rollout["status"] == "paused":
        made.controller.act(HANDLE, rollout["id"], row.on_pause)
    if step in done or not has_moved:
        return
    if verb := row.verbs.get(step):
        done.add(step)
        made.controller.act(HANDLE, rollout["id"], verb)
    elif row.following and step == 1:
        done.add(step)
        version = rollout["stable"] if row.is_back else rollout["version"]
        made.roll_out(version, _following(rollout["id"]), availability=0.9, **row.following)


def _following(name: str) -> str:
    return f"{name}-next"


def planned(row: Row, entries: Sequence[Entry], candidate: int) -> Sequence[float]:
    """Return the weights of the candidate in their order: the plan's, or, where rewards decide, the ledger's."""
    if row.weights is not None:
        return row.weights
    splits = [Split.from_json(entry.body["split"]) for entry in entries if entry.body.get("split")]
    weights = [split.weight_pct(candidate) for split in splits]
    return [weight for before, weight in pairwise([-1.0, *weights]) if weight != before]


def uncommitted(changes: Sequence[Seen], entries: Sequence[Entry], before: Split) -> list[Seen]:
    """Return the splits that Envoy had though the ledger had not committed them by then."""
    committed = [(0.0, before)]
    for entry in entries:
        if entry.body.get("split"):
            committed.append((entry.at_s, Split.from_json(entry.body["split"])))
        if entry.kind == "verb":
            weights = {int(version): pct for version, pct in entry.body["state"]["weights"].items()}
            committed.append((entry.at_s, Split.of(before.stable, weights)))
    return [
        seen
        for seen in changes
        if seen.split is not None
        and not any(split == seen.split and at_s <= seen.at_s for at_s, split in committed)
    ]


def disorder(changes: Sequence[Seen], candidate: int, weights: Sequence[float]) -> int:
    """Return how many weights of the candidate were seen that its plan does not have next."""
    seen = [change.split.weight_pct(candidate) for change in changes if change.split is not None]
    steps = [weight for before, weight in pairwise([-1.0, *seen]) if weight != before]
    return sum(step != planned for step, planned in zip(steps, weights, strict=False)) + abs(
        len(steps) - len(weights)
    )


def _restarts(made: Plane) -> int:
    return sum(int(shown["restarts"]) for shown in made.variants().values())


def _live(made: Plane) -> int:
    return int(made.controller.endpoint(HANDLE)["stable"])


def opened(made: Plane) -> None:
    """Make the plane that cells are played on: version 2 live, version 1 before it and warm."""
    made.go_live(1)
    made.deploy(2)
    with made.load(RATE_RPS):
        made.roll_out(2, "second", strategy={"kind": "blue_green", "steps": [{"setWeight": 100}]})
        made.wait_ended("second", within_s=END_S)


def played(made: Plane, row: Row, *, every: int, seed: int = 1) -> Iterator[Cell]:
    """Play a row with a crash at every entry that it has, or at every so-many-th."""
    moments = random.Random(seed)  # noqa: S311  # decides no secret
    for number in count(1, every):
        cell = play(made, row, number, later_s=moments.uniform(0.0, LATEST_KILL_S))
        if not cell.is_killed:
            return
        print(f"  {row.name} {number}: {cell}", file=sys.stderr, flush=True)
        yield cell


def figures(row: Row, cells: Sequence[Cell]) -> Iterator[Figure]:
    """Yield what came of a row."""
    yield Figure(name=f"{row.name} crashes", value=len(cells))
    yield Figure(name=f"{row.name} requests", value=sum(cell.requests for cell in cells))
    yield Figure(name=f"{row.name} wrong ends", value=sum(bool(cell.ended) for cell in cells), bar=0)
    for name in ("uncommitted", "disordered", "failed", "restarts"):
        yield Figure(name=f"{row.name} {name}", value=sum(getattr(cell, name) for cell in cells), bar=0)


def main() -> int:
    """Play the matrix, print, and return 1 where a bar was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crashes", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="every third crash")
    parser.add_argument("--only", choices=[row.name for row in ROWS], help="one row")
    arguments = parser.parse_args()
    found: list[Figure] = []
    for row in ROWS:
        if arguments.only in (None, row.name):
            with plane(plain) as made:
                opened(made)
                found += told(figures(row, list(played(made, row, every=3 if arguments.quick else 1))))
    return report("crashes", found)


if __name__ == "__main__":
    sys.exit(main())
