"""Rollouts as callers ask for them, and the users that they are made for: the cases of `machine.py`."""

from collections.abc import Callable
from typing import Any

from benchmarks.simulations.crowds import CLICK, Habits
from benchmarks.simulations.measured import Rng

Asked = Callable[[Rng], dict[str, Any]]
"""A rollout as a caller asks for it, in JSON."""

METRICS = ("errors", "client_errors", "latency")
RATES = {"errors": 0.003, "client_errors": 0.02, "latency": 0.01}
FRAIL = {"errors": 10, "client_errors": 30, "latency": 10}
"""Ten users fail always, on whatever version, and thirty are refused always."""
CLICKS = {1: 0.1, 2: 0.1, 3: 0.1, 4: 0.1}
SAME = Habits(rates=RATES, frail=FRAIL)
EARNING = Habits(rates=RATES, frail=FRAIL, click=CLICKS)
CLIMBING = Habits(rates=RATES, frail=FRAIL, click=CLICKS, drift=3.0)
POOR = Habits(rates={**RATES, "errors": 0.012}, frail=FRAIL, click=CLICKS)
HOPELESS = Habits(users=400, rates={**RATES, "errors": 1.0}, frail=FRAIL)
"""Whatever version they meet, it fails: nobody is at risk any more, and yet they meet a candidate."""
FLAWLESS = Habits(users=20_000, requests=100, rates=dict.fromkeys(METRICS, 0.0), click={1: 0.1, 2: 0.3})
BROKEN = Habits(rates=RATES, frail=FRAIL, harm={(2, "errors"): 1.0}, click=CLICKS)

LAX = 0.97
"""An SLO that these users can be proven to keep, so that a plan comes to its end. Where no control is ever seen,
healthy is who keeps it."""
QUERY = {"name": "cpu", "kind": "prometheus", "query": "load", "limit": 1.0}
BANDIT = {
    "kind": "bandit",
    "reward": CLICK,
    "update_s": 5,
    "min_units": 50,
    "min_s": 20,
    "max_weight_pct": 80,
}


def canary(_rng: Rng) -> dict[str, Any]:
    return {"metrics": ["latency", CLICK], "availability": LAX}


def linear(_rng: Rng) -> dict[str, Any]:
    strategy = {"kind": "linear", "interval_s": 3}
    return {"strategy": strategy, "metrics": ["latency"], "availability": LAX}


def own_steps(rng: Rng) -> dict[str, Any]:
    """Return a plan that nobody would think of: random weights, some below 1 %, and every kind of step between them."""
    lowest = [round(float(rng.uniform(0.01, 1)), 2)] if rng.random() < 0.3 else []
    steps = [*_beside(rng)]
    for weight in [*lowest, *sorted({*rng.integers(1, 100, int(rng.integers(1, 6))).tolist()}), 100]:
        steps += [{"setWeight": weight}, _wait(rng, weight)]
    metrics = ["latency", CLICK, QUERY, {"name": "errors", "limit": 0.9}]
    some = [metric for metric in metrics if rng.random() < 0.7]
    availability = float(rng.choice([LAX, 0.95, 0.9]))
    strategy = {"kind": str(rng.choice(["canary", "blue_green"])), "steps": steps}
    return {"strategy": strategy, "metrics": some, "availability": availability}


def _wait(rng: Rng, weight: float) -> dict[str, Any]:
    seconds = int(rng.integers(1, 10))
    waits: list[dict[str, Any]] = [{"pause": {"duration_s": seconds}}, {"bake": {"duration_s": seconds}}]
    if weight >= 1:
        # Of three thousand users no more come in at such a weight.
        waits.append({"analysis": {"units": int(rng.integers(1, 1 + min(100, int(10 * weight))))}})
    if weight >= 20:
        waits.append({"analysis": {"units": 10, "certify": True}})
    return waits[int(rng.integers(0, len(waits)))]


def _beside(rng: Rng) -> list[dict[str, Any]]:
    """Return steps that set routes beside the split, before any of it moves."""
    steps: list[dict[str, Any]] = []
    if rng.random() < 0.4:
        route = {"header": "x-test", "value": "yes"}
        steps += [{"setHeaderRoute": route}, {"analysis": {"units": int(rng.integers(0, 30))}}]
        steps += [{"setHeaderRoute": {}}] if rng.random() < 0.5 else []
    if rng.random() < 0.4:
        alike = {"samples": int(rng.integers(1, 100)), "most_different_pct": 20}
        steps += [{"setMirrorRoute": {"sample_pct": 10}}, {"compare": alike}]
        steps += [{"setMirrorRoute": {"sample_pct": 0}}] if rng.random() < 0.5 else []
    return steps


def over_budget(rng: Rng) -> dict[str, Any]:
    """Return the same with an SLO that nobody keeps, so that nothing is ever proven."""
    return {**own_steps(rng), "availability": 0.99}


def at_once(_rng: Rng) -> dict[str, Any]:
    return {"strategy": {"kind": "all_at_once", "bake_s": 20}, "availability": LAX}


def blue_green(_rng: Rng) -> dict[str, Any]:
    strategy = {"kind": "blue_green", "bake_s": 10, "preview_units": 20, "units": 10}
    return {"strategy": strategy, "metrics": ["latency"], "availability": LAX}


def bandit(_rng: Rng) -> dict[str, Any]:
    return {"strategy": BANDIT, "rivals": [3, 4], "metrics": ["latency", CLICK]}


def experiment(_rng: Rng) -> dict[str, Any]:
    strategy = {"kind": "ab", "units": 500, "metric": CLICK, "window_s": 5}
    return {"strategy": strategy, "rivals": [3], "metrics": ["latency"]}


def chosen(_rng: Rng) -> dict[str, Any]:
    by = {"header": "x-test", "values": {"yes": 2}}
    return {"strategy": {"kind": "ab", "units": 100, "by": by}, "availability": LAX}


def shadow(_rng: Rng) -> dict[str, Any]:
    return {"strategy": {"kind": "shadow", "samples": 200, "most_different_pct": 5}}
