"""How fast a bad version is off the traffic, on live Envoy: `python -m benchmarks.rollback` (`--quick`: a short form).

A canary at 5 % of a steady load turns bad at one moment; measured is the time until Envoy is read back at 0 %, by the
controller itself. Plain upstreams bear 200 requests a second; a real BentoML is asked as much as it bears. Beside it:
the information bound, and what threshold rules as the peers apply them would have done on a recording of the same
traffic, made with the controller killed so that nothing ends it.

The bars, and where they come from:
- Mean time from the fault to 0 % read back: twice the information bound (an e-process over seven alternatives takes
  1.3 to 2.1 times as long as a test that knows the rates), plus what looking costs (`LOOKS_S`), plus two standard
  errors of the measured mean, since a handful of runs is a small sample. The bound takes the alpha of the guard that
  acted, a part of the rollout's.
- Clients' failed requests 0: the shield repeats each failed attempt of the canary on stable.
- Requests that reached the version though they were sent after the read-back: 0, that is what reading back is for.
- A version that is as good as stable while both fail 1.2 % is not rolled back: 0. (By design one in a hundred is.)
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from statistics import mean, median, stdev
from typing import Any

from benchmarks.plane import Plane, plane, wait_until
from benchmarks.report import Figure, report, told
from benchmarks.rules import PEERS, Event, Rule, acts_after_s, bound_units, guard_after_s
from benchmarks.variants import Kind, behave, bento, plain
from taxiway_serving.split import Split

SHARE_PCT = 5.0
SHARE = SHARE_PCT / 100
ALPHA = 0.01
PLAIN_RPS = 200.0
MOST_BENTO_RPS = 200.0
LOOKS_S = 1.6
"""0.1 s until Envoy writes its log, one tick of 0.5 s until it is read, 0.3 s to change Envoy's files on a busy disk,
one tick until it is read back, and the time of the ticks themselves."""
HEALTHY_RATE = 0.012
STEPS = [{"setWeight": SHARE_PCT}, {"pause": {"duration_s": 3600}}, {"setWeight": 100}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One error rate, and how often it is played."""

    error_rate: float
    times: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything: the whole benchmark, or its short form."""

    plain: Sequence[Case]
    bento: Sequence[Case]
    recorded_s: float


WHOLE = Size(
    plain=[
        Case(error_rate=0.2, times=10),
        Case(error_rate=0.05, times=10),
        Case(error_rate=0.02, times=8),
    ],
    bento=[Case(error_rate=0.2, times=4), Case(error_rate=0.05, times=4), Case(error_rate=0.02, times=3)],
    recorded_s=120.0,
)
QUICK = Size(
    plain=[Case(error_rate=0.2, times=3), Case(error_rate=0.05, times=2)],
    bento=[Case(error_rate=0.2, times=2)],
    recorded_s=25.0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One rollback.

    Attributes:
        from_fault_s: From the moment at which the version turned bad until 0 % was read back.
        from_first_bad_s: From its first bad answer until then.
        failed: Requests of clients that failed.
        late: Requests that reached the version though sent after the read-back.
        threshold: ln(1/alpha) of the guard that acted.
        requests: Of the clients, altogether.
    """

    from_fault_s: float
    from_first_bad_s: float
    failed: int
    late: int
    threshold: float
    requests: int


def play(made: Plane, name: str, error_rate: float, rate_rps: float) -> Run:
    """Let a canary at 5 % turn bad under load, and return what became of it."""
    cursor = made.log_end()
    with made.load(rate_rps) as load:
        begin(made, name)
        began_s = time.time()
        behave(made.model(2), error_rate=error_rate)
        rollout = made.wait_ended(name, within_s=600.0)
        time.sleep(2.0)
    behave(made.model(2))
    if rollout["outcome"] != "RolledBack":
        raise RuntimeError(f"{name} ended as {rollout['outcome']}: {rollout['reason']}")
    sent = load.sent()
    attempts = made.attempts(cursor)
    first_bad_s = min(each.at_s + each.duration_ms / 1e3 for each in attempts if each.is_error)
    back_s = rollout["rolled_back_at_s"]
    return Run(
        from_fault_s=back_s - began_s,
        from_first_bad_s=back_s - first_bad_s,
        failed=sum(each.has_failed for each in sent),
        late=sum(each.answered == 2 and each.at_s > back_s for each in attempts),
        threshold=threshold_of(rollout),
        requests=len(sent),
    )


def begin(made: Plane, name: str) -> None:
    """Bring version 2 to 5 %, and wait until the controller has read that back and waits."""
    strategy = {"kind": "canary", "steps": STEPS}
    made.roll_out(2, name, strategy=strategy, alpha=ALPHA, availability=0.9)
    made.wait_step(name, 1)


def threshold_of(rollout: dict[str, Any]) -> float:
    """Return ln(1/alpha) of the guard that rolled back, as the rollout shows it."""
    acted = [float(each["threshold"]) for each in rollout["evidence"] if each["answer"] == "yes"]
    return min(acted, default=log(2 / ALPHA))


def bound_s(error_rate: float, rate_rps: float, threshold: float) -> float:
    """Return the information bound as a time: stable is flawless here."""
    return bound_units(error_rate, 0.0, share=SHARE, threshold=threshold) / (rate_rps * SHARE)


def timed(kind: str, case: Case, rate_rps: float, runs: Sequence[Run]) -> Iterator[Figure]:
    """Yield the figures of one error rate."""
    label = f"{kind} {case.error_rate:.0%}"
    from_fault = [run.from_fault_s for run in runs]
    from_first = [run.from_first_bad_s for run in runs]
    bound = bound_s(case.error_rate, rate_rps, max(run.threshold for run in runs))
    error = stdev(from_fault) / len(runs) ** 0.5 if len(runs) > 1 else 0.0
    yield Figure(name=f"{label} first bad to 0 %, median s", value=median(from_first))
    yield Figure(name=f"{label} first bad to 0 %, max s", value=max(from_first))
    yield Figure(name=f"{label} information bound, s", value=bound)
    yield Figure(
        name=f"{label} fault to 0 %, mean s", value=mean(from_fault), bar=2 * bound + LOOKS_S + 2 * error
    )


def counted(kind: str, runs: Sequence[Run]) -> Iterator[Figure]:
    """Yield what may not happen in any run."""
    yield Figure(name=f"{kind} requests", value=sum(run.requests for run in runs))
    yield Figure(name=f"{kind} failed requests", value=sum(run.failed for run in runs), bar=0)
    yield Figure(name=f"{kind} reached it after 0 %", value=sum(run.late for run in runs), bar=0)


def played(made: Plane, kind: str, cases: Sequence[Case], rate_rps: float) -> Iterator[Figure]:
    """Play every case and yield its figures."""
    every: list[Run] = []
    for case in cases:
        runs = []
        for number in range(case.times):
            runs.append(play(made, f"{kind}-{case.error_rate}-{number}", case.error_rate, rate_rps))
            say(f"{kind} {case.error_rate:.0%} {number + 1}/{case.times}: {runs[-1].from_fault_s:.2f} s")
        yield from timed(kind, case, rate_rps, runs)
        every += runs
    yield from counted(kind, every)


def recorded(made: Plane, name: str, seconds: float, *, bad: float, base: float) -> list[Event]:
    """Record a canary at 5 % while no controller runs, then let a new one read what it missed.

    Args:
        made: The plane.
        name: Of the rollout.
        seconds: How long to record.
        bad: The canary's error rate.
        base: Stable's error rate.
    """
    with made.load(PLAIN_RPS):
        begin(made, name)
        made.kill_controller()
        cursor, began_s = made.log_end(), time.time()
        behave(made.model(2), error_rate=bad)
        behave(made.model(1), error_rate=base)
        time.sleep(seconds + 0.5)
        behave(made.model(2))
        behave(made.model(1))
        events = [
            Event(at_s=each.at_s - began_s, is_canary=each.assigned == 2, is_bad=each.is_error)
            for each in made.attempts(cursor)
            if each.number == 1 and each.at_s > began_s
        ]
        made.start_controller()
    return sorted((event for event in events if event.at_s <= seconds), key=lambda event: event.at_s)


def compared(made: Plane, cases: Sequence[Case], seconds: float) -> Iterator[Figure]:
    """Yield when our guard and each peer's rule would have acted on the same recording."""
    for case in cases:
        events = recorded(made, f"recorded-{case.error_rate}", seconds, bad=case.error_rate, base=0.0)
        rollout = made.wait_ended(f"recorded-{case.error_rate}", within_s=60.0)
        threshold = threshold_of(rollout)
        label = f"{case.error_rate:.0%}:"
        ours = guard_after_s(events, share=SHARE, threshold=threshold)
        yield Figure(name=f"{label} our guard, s", value=ours)
        for rule in PEERS:
            yield Figure(name=f"{label} {rule.name}, s", value=would_act_after_s(rule, events, seconds))
        say(f"recorded {case.error_rate:.0%}, {len(events)} requests")


def would_act_after_s(rule: Rule, events: Sequence[Event], seconds: float) -> float | None:
    """Return when a rule acted; for one that needs longer than the recording, the earliest that it could.

    None is never: the recording as a whole does not fail the rule's threshold.
    """
    if rule.earliest_s <= seconds:
        return acts_after_s(rule, events)
    canary = [event for event in events if event.is_canary]
    success = 1 - sum(event.is_bad for event in canary) / len(canary)
    return rule.earliest_s if success < rule.success else None


def healthy(made: Plane, seconds: float) -> Iterator[Figure]:
    """Yield who rolls back a version that is no worse than stable."""
    events = recorded(made, "healthy", seconds, bad=HEALTHY_RATE, base=HEALTHY_RATE)
    time.sleep(3.0)
    rollout = made.rollout("healthy")
    label = f"healthy, both {HEALTHY_RATE:.1%}:"
    has_ended = rollout["status"] in ("rolling_back", "ended")
    yield Figure(name=f"{label} we roll back", value=has_ended, bar=0)
    for rule in PEERS:
        if rule.earliest_s <= seconds:
            has_acted = acts_after_s(rule, events) is not None
            yield Figure(name=f"healthy: {rule.name}", value=has_acted)
    made.controller.act("digits", "healthy", "abort")
    made.wait_ended("healthy", within_s=30.0)


def opened(made: Plane) -> None:
    made.go_live(1)
    made.deploy(2)
    wait_until(lambda: made.split() == Split.whole(1), what="version 1 alone")


def measure(size: Size, kinds: Sequence[str]) -> Iterator[Figure]:
    """Yield every figure of the benchmark."""
    if "plain" in kinds:
        with plane(plain) as made:
            opened(made)
            yield from played(made, "plain", size.plain, PLAIN_RPS)
            yield from compared(made, size.plain, size.recorded_s)
            yield from healthy(made, size.recorded_s)
    if "bento" in kinds:
        with plane(bento) as made:
            opened(made)
            rate_rps = made.bearable_rps(MOST_BENTO_RPS)
            yield Figure(name="bento requests/s", value=rate_rps)
            yield from played(made, "bento", size.bento, rate_rps)


KINDS: dict[str, Kind] = {"plain": plain, "bento": bento}


def say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print, and return 1 where a bar was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollback", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few runs of each: two minutes")
    parser.add_argument("--only", choices=KINDS, help="one kind of variant")
    arguments = parser.parse_args()
    kinds = [arguments.only] if arguments.only else list(KINDS)
    return report("rollback", list(told(measure(QUICK if arguments.quick else WHOLE, kinds))))


if __name__ == "__main__":
    sys.exit(main())
