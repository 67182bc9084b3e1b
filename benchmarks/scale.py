"""A thousand handles of three versions on live Envoy: `python -m benchmarks.scale` (`--quick`: a hundred, and shorter).

Real store, controller, Envoy and ADS; three small servers answer for all handles. Beside the thousand stand ten, in the
same run, since what a machine does in a second is no bar. Measured are: what controller and Envoy hold in memory; from
a table that is published until a user gets an answer by it; what a request costs Envoy in processor time, over how many
handles it is spread; and a rollout on every handle at once, begun and moved on by more than twenty changes of state a
second: how many are carried out, how long a look takes, and by how much it comes late.
"""

import argparse
import http.client
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

import psutil

from benchmarks.crowd import Crowd, crowd, upstreams
from benchmarks.report import Figure, report, told
from taxiway_serving.controller.changes import merged, queued
from taxiway_serving.ledger.store import Rollout
from taxiway_serving.names import HEADER_USER_ID, HEADER_VERSION
from taxiway_serving.rollout.machine import begin as begin_rollout
from taxiway_serving.rollout.spec import spec_from_json
from taxiway_serving.strategies import plan

FEW = 10
STRIDE = 7_919  # a prime: handles come in turn, but not in the order of their names
OFFERED_PER_S = 24.0  # above the bar: what is under way when the measure begins or ends is not counted
CHANGES_A_TURN = 2  # the pause ends, and the weight behind it is reached
EFFECT_BAR_MS, LAG_BAR_S, COST_BAR, CHANGES_BAR_PER_S = 50.0, 1.0, 1.25, 20.0
MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is done.

    Attributes:
        handles: In the crowd.
        moves: Weight changes that are timed.
        requests: For each measure of what one costs.
        lead_s: Seconds that each rollout rests at least; they move on when all have begun and rested so long.
        rolling_s: Seconds in which they move on.
        router: How Envoy is told.
    """

    handles: int
    moves: int
    requests: int
    lead_s: float
    rolling_s: float
    router: str


class Client:
    """One user with one connection to a gateway."""

    def __init__(self, made: Crowd) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", made.settings.envoy_port, timeout=10)

    def version(self, handle: str) -> int:
        """Send a request to a handle, and return the version that answered; 0 if none did."""
        self._connection.request("POST", f"/{handle}/predict", b"{}", {HEADER_USER_ID: "ann"})
        answer = self._connection.getresponse()
        answer.read()
        return int(answer.headers.get(HEADER_VERSION) or 0) if answer.status == http.client.OK else 0


def effects(made: Crowd, moves: int) -> Iterator[float]:
    """Move handles from version to version, and yield the milliseconds until a user meets the new one."""
    client, table = Client(made), made.table()
    for number in range(moves):
        handle = made.handles[number * STRIDE % len(made.handles)]
        route = table.route(handle)
        stable = route.split.stable if route and route.split else 1
        target = stable % 3 + 1
        table = made.moved(table, handle, target)
        began_s = time.monotonic()
        made.router.publish(table)
        while client.version(handle) != target:
            if time.monotonic() - began_s > 10:
                raise TimeoutError(f"{handle} did not move to version {target}")
        yield (time.monotonic() - began_s) * 1e3


def cost_us(made: Crowd, handles: Sequence[str], requests: int, rest: float) -> float:
    """Return the processor time of Envoy for one request, in microseconds.

    Args:
        made: Whose Envoy.
        handles: Whom the requests go to, in turn.
        requests: How many are sent.
        rest: What Envoy takes anyway, in cores: it asks three thousand clusters whether they are well.
    """
    client = Client(made)
    before_s, began_s = _cpu_s(made.gateway), time.monotonic()
    for number in range(requests):
        client.version(handles[number % len(handles)])
    taken_s = _cpu_s(made.gateway) - before_s - rest * (time.monotonic() - began_s)
    return taken_s / requests * 1e6


def rest(made: Crowd, seconds: float = 4.0) -> float:
    """Return how many cores Envoy takes while nobody asks it anything."""
    before_s = _cpu_s(made.gateway)
    time.sleep(seconds)
    return (_cpu_s(made.gateway) - before_s) / seconds


def costs(few: Crowd, many: Crowd, requests: int, rounds: int = 4) -> tuple[float, float, float]:
    """Return what a request costs with few handles, with many to as many of them, and to all of them in turn.

    Each is the least of some turns.
    """
    some = many.handles[:: len(many.handles) // FEW]
    kinds = [(few, few.handles, rest(few)), (many, some, rest(many)), (many, many.handles, rest(many))]
    found: list[list[float]] = [[] for _ in kinds]
    for _ in range(rounds):
        for (made, handles, idle), own in zip(kinds, found, strict=True):
            own.append(cost_us(made, handles, requests, idle))
    one, other, spread = (min(own) for own in found)
    return one, other, spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """What was seen of the loop while rollouts ran. Seconds.

    Attributes:
        took_s: Of each look.
        cpu_s: Processor time of each.
        lags_s: By how much each came later than the interval says.
        changes_per_s: Decisions that moved a rollout on.
        ended: Rollouts that were given up.
    """

    took_s: list[float]
    cpu_s: list[float]
    lags_s: list[float]
    changes_per_s: float
    ended: int


def begin(made: Crowd, lead_s: float) -> float:
    """Let every handle have a rollout, all asked for at one moment, and return the longest look until all have begun.

    Each rests at its first weight for `lead_s` and its place in a row, and then moves on. The row is not that in which
    they begin, or its end would be as much later as they begin one after another.
    """
    fleet, now_s = made.store.fleet(), time.time()
    asked = []
    for number, handle in enumerate(made.handles):
        place = number * STRIDE % len(made.handles)
        rest_s = lead_s + place * CHANGES_A_TURN / OFFERED_PER_S
        steps = [
            {"setWeight": 10},
            {"pause": {"duration_s": rest_s}},
            {"setWeight": 20},
            {"pause": {}},
            {"setWeight": 100},
        ]
        strategy = {"kind": "canary", "steps": steps}
        spec = spec_from_json({"id": f"{handle}-2", "handle": handle, "version": 2, "strategy": strategy})
        waiting = begin_rollout(stable=1, now_s=now_s, is_queued=True)
        rollout = Rollout(spec=spec, plan=plan(spec, 1), state=waiting)
        asked.append(queued(rollout, fleet, now_s))
    made.store.commit(merged(asked))
    looks = []
    while made.store.fleet().queued:
        began_s = time.monotonic()
        made.reconciler.tick()
        looks.append(time.monotonic() - began_s)
    return max(looks)


def look_on(made: Crowd, seconds: float) -> Looks:
    """Tick as the controller does while rollouts move on, and time every look."""
    tick_s, began_at_s = made.settings.tick_s, time.time()
    took: list[float] = []
    cpu: list[float] = []
    lags: list[float] = []
    due_s = time.monotonic()
    while time.time() < began_at_s + seconds:
        looked_s, cpu_before_s = time.monotonic(), time.process_time()
        lags.append(max(0.0, looked_s - due_s))
        made.reconciler.tick()
        took.append(time.monotonic() - looked_s)
        cpu.append(time.process_time() - cpu_before_s)
        due_s = looked_s + tick_s
        time.sleep(max(0.0, due_s - time.monotonic()))
    return Looks(
        took_s=took,
        cpu_s=cpu,
        lags_s=lags,
        changes_per_s=_changes(made, began_at_s) / (time.time() - began_at_s),
        ended=len(made.handles) - len(made.store.fleet().running),
    )


def figures(size: Size) -> Iterator[Figure]:
    """Measure everything, and yield the figures as they come."""
    with ExitStack() as stack:
        ports = stack.enter_context(upstreams())
        own_mib = psutil.Process().memory_info().rss / MIB
        few = stack.enter_context(crowd(FEW, ports, router=size.router))
        few.settle()
        many = stack.enter_context(crowd(size.handles, ports, router=size.router))
        yield Figure(name="until all versions are routed, s", value=many.settle())
        yield Figure(name=f"Envoy, {FEW} handles, MiB", value=_mib(few.gateway))
        yield Figure(name=f"Envoy, {size.handles} handles, MiB", value=_mib(many.gateway))
        yield Figure(
            name="controller's own part, MiB", value=psutil.Process().memory_info().rss / MIB - own_mib
        )
        moved = sorted(effects(many, size.moves))
        yield Figure(name="weight change to effect, p50, ms", value=median(moved), bar=EFFECT_BAR_MS)
        yield Figure(name="weight change to effect, p95, ms", value=moved[int(len(moved) * 0.95)])
        yield Figure(name="Envoy at rest, cores", value=rest(many))
        few_us, many_us, spread_us = costs(few, many, size.requests)
        yield Figure(name=f"CPU per request, {FEW} handles, us", value=few_us)
        yield Figure(name=f"CPU per request, {FEW} of {size.handles}, us", value=many_us)
        yield Figure(name="CPU per request, ratio", value=many_us / few_us, bar=COST_BAR)
        yield Figure(name=f"CPU per request, all {size.handles} in turn, us", value=spread_us)
        yield from _rolled(many, size)


def _rolled(many: Crowd, size: Size) -> Iterator[Figure]:
    yield Figure(name="longest look while all rollouts begin, s", value=begin(many, size.lead_s))
    began_s = time.monotonic()
    while time.monotonic() < began_s + size.lead_s:
        many.reconciler.tick()
        time.sleep(many.settings.tick_s)
    looks = look_on(many, size.rolling_s)
    yield Figure(name="rollouts at once", value=float(len(many.store.fleet().running)))
    yield Figure(name="rollouts given up", value=float(looks.ended), bar=0.0)
    name = f"changes of state a second, of {OFFERED_PER_S:g}"
    yield Figure(name=name, value=looks.changes_per_s, least=CHANGES_BAR_PER_S)
    yield Figure(name="look, p50, s", value=median(looks.took_s))
    yield Figure(name="look, p50 of processor time, s", value=median(looks.cpu_s))
    yield Figure(name="look, longest, s", value=max(looks.took_s))
    yield Figure(name="lag of a look, longest, s", value=max(looks.lags_s), bar=LAG_BAR_S)
    yield Figure(name="Envoy after it, MiB", value=_mib(many.gateway))


def _changes(made: Crowd, since_s: float) -> int:
    """Return how many times a rollout was begun or moved to another step since then."""
    steps: dict[str, int] = {}
    count = after = 0
    while page := made.store.entries(None, after=after, limit=10_000):
        after = page[-1].seq
        for entry in page:
            is_move = entry.kind == "decision" and steps.get(entry.handle) != entry.body["step"]
            if is_move:
                steps[entry.handle] = entry.body["step"]
            if entry.at_s >= since_s:
                count += is_move or entry.kind == "rollout"
    return count


def _mib(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / MIB


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> int:
    """Measure, print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a hundred handles: a sign, not a measurement")
    parser.add_argument("--handles", type=int, default=1000)
    parser.add_argument("--router", choices=("ads", "files"), default="ads")
    asked = parser.parse_args()
    if asked.quick:
        size = Size(handles=100, moves=20, requests=1000, lead_s=10.0, rolling_s=8.0, router=asked.router)
    else:
        size = Size(
            handles=asked.handles, moves=100, requests=2000, lead_s=20.0, rolling_s=30.0, router=asked.router
        )
    return report("scale", list(told(figures(size))))


if __name__ == "__main__":
    sys.exit(main())
