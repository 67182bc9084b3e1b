"""Whether moving traffic drops requests, on live Envoy: `python -m benchmarks.switch` (`--quick`: a short form).

Under a constant load, first on plain upstreams, then on real Bentos: a hundred weight changes at ten a second;
blue-green swaps, after each of which the old version is removed at once; a version without traffic removed; `kill -9`
of a canary's whole process tree at 50 %. The swaps, removals and kills go through the real controller. It looks twice
a second, so the hundred changes go through the router that it uses, while it is away: two writers of one gateway would
undo each other.

The bars: 0 failed requests of at least 50,000 (plain upstreams) and 5,000 (BentoML), and 15 ms at the median from
the moment at which the file with the new routes is in place until it is read back, or a user gets an answer by it:
whichever is seen first. Envoy follows a watched file within 8 ms at the median when it has a core to itself; the rest
is what seeing it costs. `publish to answer` begins before the file is written: beside it stands what writing it costs.
"""

import argparse
import http.client
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self

from benchmarks.load import Load
from benchmarks.plane import HANDLE, Plane, plane, wait_until
from benchmarks.report import Figure, report, told
from benchmarks.variants import Kind, bento, plain
from taxiway_serving.names import HEADER_USER_ID, HEADER_VERSION
from taxiway_serving.routing.files import ConfigFiles
from taxiway_serving.routing.router import Backend, Route, Table
from taxiway_serving.split import Split

CHANGES_PER_S = 10.0
LOW_PCT, HIGH_PCT = 20.0, 80.0
PROBE_EVERY_S = 0.001
EFFECT_BAR_MS = 15.0
MOST_USERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is done on one kind of variant.

    Attributes:
        rate_rps: Of the load, at most; less if the variants do not bear it.
        changes: Weight changes.
        swaps: Blue-green swaps at least; more, until enough requests were sent.
        kills: Canaries that are killed.
        requests: To be sent altogether, at least.
    """

    rate_rps: float
    changes: int
    swaps: int
    kills: int
    requests: int


WHOLE = {
    "plain": Size(rate_rps=1_000, changes=100, swaps=5, kills=3, requests=50_000),
    "bento": Size(rate_rps=100, changes=100, swaps=3, kills=2, requests=5_000),
}
QUICK = {
    "plain": Size(rate_rps=500, changes=30, swaps=1, kills=1, requests=6_000),
    "bento": Size(rate_rps=60, changes=20, swaps=1, kills=1, requests=1_000),
}
KINDS: dict[str, Kind] = {"plain": plain, "bento": bento}


class Probe:
    """One user who asks over and over, in a thread, and notes when another version answers.

    Args:
        made: Whose gateway.
        user: Who asks; one whom the weight changes move.
    """

    def __init__(self, made: Plane, user: str) -> None:
        self._port, self._user = made.settings.envoy_port, user
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="probe", daemon=True)
        self.seen: list[tuple[float, str]] = []
        self.failed = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10.0)

    def _ask(self) -> None:
        with _Asking(self._port) as asking:
            while not self._ended.wait(PROBE_EVERY_S):
                status, version = asking.version_of(self._user)
                self.failed += status != 200
                if not self.seen or self.seen[-1][1] != version:
                    self.seen.append((time.time(), version))


class _Asking:
    """One connection to the gateway."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def version_of(self, user: str) -> tuple[int, str]:
        headers = {HEADER_USER_ID: user, "content-type": "application/json"}
        self._connection.request("POST", f"/{HANDLE}/predict", body=b'{"x": 1}', headers=headers)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get(HEADER_VERSION, "")


def table(made: Plane, weight_pct: float) -> Table:
    """Return the table that sends so much to version 2, the rest to version 1."""
    shown = made.variants()
    backends = [
        Backend(version=v, host=shown[v]["host"], port=shown[v]["port"], model=f"{HANDLE}/{v}")
        for v in (1, 2)
    ]
    return Table(routes=(Route(handle=HANDLE, split=Split.of(1, {2: weight_pct}), backends=tuple(backends)),))


def changed(made: Plane, name: str, changes: int) -> Iterator[Figure]:
    """Change the weight so often at ten a second, and yield how soon that showed."""
    tables = {weight: table(made, weight) for weight in (LOW_PCT, HIGH_PCT)}
    made.kill_controller()
    scopes = ConfigFiles(made.settings.envoy_dir).scopes
    asked, written, read_back = [], [], []
    with made.router() as router:
        user = moved_user(made, tables)
        with Probe(made, user) as probe:
            began_s = time.monotonic()
            for number in range(changes):
                time.sleep(max(0.0, began_s + number / CHANGES_PER_S - time.monotonic()))
                asked.append(time.time())
                router.publish(tables[LOW_PCT if number % 2 else HIGH_PCT])
                read_back.append(time.time())
                written.append(scopes.stat().st_ctime_ns / 1e9)
            took_s = time.monotonic() - began_s
            time.sleep(0.5)
        router.publish(table_alone(tables[LOW_PCT]))
    made.start_controller()
    answered_s = [at_s for at_s, _ in probe.seen[1:]]
    shown_s = effects_s(written, answered_s)
    wholes_s = [after_s for after_s in effects_s(asked, answered_s) if after_s is not None]
    answers_s = [after_s for after_s in shown_s if after_s is not None]
    backs_s = [back - at_s for back, at_s in zip(read_back, written, strict=True)]
    # Either is proof: Envoy's own word, or an answer by the new routes, which takes the version's time to answer too.
    pairs = zip(shown_s, backs_s, strict=True)
    effects_ms = [1e3 * (back if shown is None else min(shown, back)) for shown, back in pairs]
    yield Figure(name=f"{name} {changes} changes took, s", value=took_s, bar=1.1 * changes / CHANGES_PER_S)
    yield Figure(name=f"{name} changes no answer showed", value=changes - len(answers_s))
    yield Figure(name=f"{name} change to effect p50, ms", value=median(effects_ms), bar=EFFECT_BAR_MS)
    yield Figure(name=f"{name} change to read-back p50, ms", value=1e3 * median(backs_s))
    yield Figure(name=f"{name} change to answer p50, ms", value=1e3 * median(answers_s))
    yield Figure(name=f"{name} change to answer max, ms", value=1e3 * max(answers_s))
    yield Figure(name=f"{name} publish to answer p50, ms", value=1e3 * median(wholes_s))
    yield Figure(name=f"{name} failed requests of the probe", value=probe.failed, bar=0)


def table_alone(wished: Table) -> Table:
    """Return a table with the same backends and all traffic on version 1, as the controller left it."""
    (route,) = wished.routes
    return Table(routes=(Route(handle=HANDLE, split=Split.whole(1), backends=route.backends),))


def moved_user(made: Plane, tables: dict[float, Table]) -> str:
    """Return a user whom the higher weight brings to version 2 and the lower one back, and leave the lower one."""
    users = [f"probe-{number}" for number in range(MOST_USERS)]
    with made.router() as router, _Asking(made.settings.envoy_port) as asking:
        for weight, version in ((HIGH_PCT, "2"), (LOW_PCT, "1")):
            router.publish(tables[weight])
            wait_until(lambda: made.split() == tables[weight].routes[0].split, what=f"{weight:g} %")  # noqa: B023
            users = [user for user in users if asking.version_of(user)[1] == version]
    return users[0]


def effects_s(written: Sequence[float], seen: Sequence[float]) -> list[float | None]:
    """Return how long after each change the first answer came that shows it; None if none came before the next."""
    ends = [*written[1:], float("inf")]
    found: list[float | None] = []
    for at_s, end_s in zip(written, ends, strict=True):
        first = next((seen_s for seen_s in seen if at_s < seen_s < end_s), None)
        found.append(None if first is None else first - at_s)
    return found


def swap(made: Plane, version: int) -> None:
    """Bring a version to all traffic at one moment, and have the one before it removed at once."""
    old = made.controller.endpoint(HANDLE)["stable"]
    made.deploy(version)
    strategy = {"kind": "blue_green", "steps": [{"setWeight": 100}, {"bake": {"duration_s": 0.5}}]}
    made.roll_out(version, f"swap-{version}", strategy=strategy, warm_s=0, availability=0.9)
    made.wait_ended(f"swap-{version}", within_s=60.0)
    wait_until(lambda: made.variants()[old]["phase"] == "stopped", what=f"the end of version {old}")


def removed(made: Plane, version: int) -> None:
    """Remove a version that never had traffic."""
    made.deploy(version)
    made.controller.undeploy(HANDLE, version)
    wait_until(lambda: made.variants()[version]["phase"] == "stopped", what=f"the end of version {version}")


def killed(made: Plane, version: int) -> int:
    """Kill a canary's whole tree at 50 %, and return how many processes that were."""
    made.deploy(version)
    steps = [{"setWeight": 50}, {"pause": {"duration_s": 600}}, {"setWeight": 100}]
    name = f"kill-{version}-{time.time_ns()}"
    made.roll_out(version, name, strategy={"kind": "canary", "steps": steps}, availability=0.9)
    made.wait_step(name, 1)
    time.sleep(0.5)
    count = made.kill_variant(version)
    ended = made.wait_ended(name, within_s=60.0)
    if ended["outcome"] != "RolledBack":
        raise RuntimeError(f"{name} ended as {ended['outcome']}: {ended['reason']}")
    return count


def switched(made: Plane, name: str, size: Size) -> Iterator[Figure]:
    """Do all of it on one plane under one load, and yield the figures."""
    made.go_live(1)
    made.deploy(2)
    rate_rps = made.bearable_rps(2 * size.rate_rps)
    yield Figure(name=f"{name} requests/s", value=rate_rps)
    with made.load(rate_rps) as load:
        yield from changed(made, name, size.changes)
        processes = [killed(made, 2) for _ in range(size.kills)]
        version = 3
        while version - 3 < size.swaps or len(load.sent()) < size.requests:
            swap(made, version)
            version += 1
        removed(made, version)
    yield Figure(name=f"{name} blue-green swaps and removals", value=version - 3)
    yield Figure(name=f"{name} killed trees at 50 %", value=len(processes))
    yield Figure(name=f"{name} processes of a killed tree", value=max(processes))
    yield from counted(made, name, size, load)


def counted(made: Plane, name: str, size: Size, load: Load) -> Iterator[Figure]:
    """Yield what became of the clients' requests, and tell on stderr why those failed that did."""
    sent = load.sent()
    failed = [each for each in sent if each.has_failed]
    if failed:
        bad = {each.request_id for each in failed}
        told = [
            line for line in made.request_log() if line["request_id"] in bad or "after" in line["details"]
        ]
        why = Counter((line["status"], line["flags"], line["details"]) for line in told)
        print(f"  failed: {why}, {Counter(each.reason for each in failed)}", file=sys.stderr)
    latencies_ms = sorted(1e3 * (each.done_s - each.sent_s) for each in sent)
    yield Figure(name=f"{name} requests", value=len(sent))
    yield Figure(name=f"{name} requests too few", value=max(0, size.requests - len(sent)), bar=0)
    yield Figure(name=f"{name} failed requests", value=len(failed), bar=0)
    yield Figure(name=f"{name} answer p50, ms", value=median(latencies_ms))
    yield Figure(name=f"{name} answer p99, ms", value=latencies_ms[int(0.99 * len(sent))])


def main() -> int:
    """Measure, print, and return 1 where a bar was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.switch", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few of each: a minute")
    parser.add_argument("--only", choices=KINDS, help="one kind of variant")
    arguments = parser.parse_args()
    figures: list[Figure] = []
    for name in [arguments.only] if arguments.only else KINDS:
        with plane(KINDS[name]) as made:
            figures += told(switched(made, name, (QUICK if arguments.quick else WHOLE)[name]))
    return report("switch", figures)


if __name__ == "__main__":
    sys.exit(main())
