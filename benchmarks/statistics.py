"""Every acceptance target of the decision mathematics, simulated: `python -m benchmarks.statistics --seed 7`.

Each row is a function of `benchmarks.simulations`: it makes up the traffic and scores it with what Taxiway itself
decides by. A bar is held if the figure, less two standard errors, is within it; a bar of 0 is held by 0 alone. Rows run
beside each other, one on each core, and a row's random numbers do not depend on the others'. The whole takes some
minutes; `--quick` takes a tenth of the runs.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final

import numpy as np

from benchmarks.simulations import bandits, certificates, guards, late, machine, oracle, rewards
from benchmarks.simulations.measured import Measured, Row

RUNS: Final = 2000
QUICK_RUNS: Final = 200

ROWS: Final[tuple[Row, ...]] = (
    guards.steady_aa,
    guards.strict_aa,
    guards.moving_aa,
    guards.sticky_aa,
    guards.burst_aa,
    guards.detection,
    guards.outage,
    guards.alone,
    guards.frozen,
    guards.latency,
    certificates.ratio_certificate,
    certificates.budget_certificate,
    certificates.flawless,
    certificates.shadow,
    rewards.revenue,
    rewards.sample_ratio,
    rewards.foretold,
    bandits.accuracy,
    bandits.regret,
    bandits.rivals,
    oracle.mabwiser,
    bandits.renewal,
    bandits.forgetting,
    late.delays,
    bandits.stopping,
    machine.healthy,
    machine.healthy_experiments,
    machine.flawless,
    machine.broken,
    machine.capped,
)


def measured(rows: Sequence[Row], seed: int, runs: int) -> list[Measured]:
    """Run the rows, each from a stream of its own, the longest first; print them in their order."""
    found: list[Measured] = []
    print(f"{'statistics, seed ' + str(seed):76} {'figure':>12} {'± error':>10} {'bar':>10} {'runs':>7}")
    # Started anew, not forked: a numerical library's threads do not survive a fork.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        streams = dict(zip(ROWS, np.random.SeedSequence(seed).spawn(len(ROWS)), strict=True))
        going = {row: pool.submit(_row, row, streams[row], runs) for row in sorted(rows, key=_is_short)}
        for row in rows:
            figures, cpu_s = going[row].result()
            for figure in figures:
                print(line(figure), flush=True)
            print(f"    {row.__name__}: {cpu_s:.1f} s of CPU", flush=True)
            found += figures
    return found


def _is_short(row: Row) -> bool:
    return row.__module__ != machine.__name__


def _row(row: Row, stream: np.random.SeedSequence, runs: int) -> tuple[list[Measured], float]:
    """Return a row's figures, and the seconds of CPU that they took."""
    began_s = time.process_time()
    return list(row(np.random.default_rng(stream), runs)), time.process_time() - began_s


def line(figure: Measured) -> str:
    """Return a figure's line of the table."""
    bar = "" if figure.bar is None else f"{figure.bar:.4g}"
    missed = "" if figure.holds else " MISSED"
    head = f"  {figure.name:74} {figure.value:12.4f} {figure.error:10.4f} {bar:>10} {figure.runs:7}"
    return head + missed


def to_json(figures: Sequence[Measured]) -> str:
    """Return the line of JSON that a benchmark ends with."""
    return json.dumps(
        {
            "name": "statistics",
            "figures": {figure.name: round(figure.value, 5) for figure in figures},
            "errors": {figure.name: round(figure.error, 5) for figure in figures},
            "bars": {figure.name: figure.bar for figure in figures if figure.bar is not None},
            "held": all(figure.holds for figure in figures),
        }
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate, and return 1 where a bar was missed."""
    parser = argparse.ArgumentParser(prog="benchmarks.statistics", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of every random number; any must do")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} runs instead of {RUNS}")
    parser.add_argument("--only", metavar="ROW", help="one row, by its function's name")
    asked = parser.parse_args(arguments)
    rows = [row for row in ROWS if asked.only in (None, row.__name__)]
    if not rows:
        parser.error(f"no row {asked.only!r}; known are {', '.join(row.__name__ for row in ROWS)}")
    figures = measured(rows, asked.seed, QUICK_RUNS if asked.quick else RUNS)
    print(to_json(figures))
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
