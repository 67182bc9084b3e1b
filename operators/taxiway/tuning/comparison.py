"""Trains the parameters that a search found, and those that they shall replace, with seeds that it did not use."""

import contextvars
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from taxiway import champion, training
from taxiway.errors import ComponentFailedError, OutputFaultsError
from taxiway.registry import tracking
from taxiway.registry.models import Recipe
from taxiway.settings import Settings
from taxiway.tools import remove
from taxiway.tuning import verdict
from taxiway.tuning.bench import Bench, Log
from taxiway.tuning.verdict import Verdict

FIRST_SEED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """What new parameters shall be better than.

    Attributes:
        name: For people: `visual_recognition/3` or `the defaults`.
        params: Its parameters.
    """

    name: str
    params: Mapping[str, Any]


def rival_of(base: Recipe, settings: Settings, log: Log) -> Rival:
    """Return the live version's parameters, or the defaults where nothing is live."""
    found = champion.find(base.training.handle, settings, log)
    if found is None:
        return Rival(name="the defaults", params=base.params)
    return Rival(name=f"{found.handle}/{found.version}", params=found.params)


def compare(bench: Bench, best: Mapping[str, Any], rival: Rival, repeats: int, parallel: int) -> Verdict:
    """Return whether the best parameters are better than a rival's in the first objective.

    Both are trained by the same code on the same data. A run that is done is not done again.

    Raises:
        ComponentFailedError: If one of these trainings fails.
        OutputFaultsError: If one of them leaves no such metric.
    """
    if dict(best) == dict(rival.params):
        return verdict.judge([0.0] * repeats)
    objective = bench.goal.objectives[0]
    seeds = [bench.plan.seed + FIRST_SEED + at for at in range(repeats)]
    # The two of a seed follow each other: they share an interpreter, whose hash seed is theirs.
    recipes = [
        replace(bench.base, params=params, seed=seed) for seed in seeds for params in (best, rival.params)
    ]
    with ThreadPoolExecutor(max(1, parallel)) as pool:
        running = [
            pool.submit(contextvars.copy_context().run, _measure, bench, recipe, objective.metric)
            for recipe in recipes
        ]
        losses = [objective.loss(each.result()) for each in running]
    return verdict.judge([theirs - ours for ours, theirs in zip(losses[::2], losses[1::2], strict=True)])


def _measure(bench: Bench, recipe: Recipe, metric: str) -> float:
    tags = {"taxiway.kind": "repeat", "taxiway.key": recipe.key}
    for known in tracking.find_runs(bench.plan.experiment_id, tags, bench.settings):
        if known.status == "FINISHED" and metric in known.metrics:
            return known.metrics[metric]
    return _train(bench, recipe, metric)


def _train(bench: Bench, recipe: Recipe, metric: str) -> float:
    tags = training.run_tags(recipe, "repeat", bench.provenance)
    tags |= {"mlflow.parentRunId": bench.plan.run_id or "", "taxiway.study": bench.plan.study}
    run = tracking.create_run(bench.plan.experiment_id, f"repeat {recipe.seed}", tags, bench.settings)
    status: tracking.Status = "FAILED"
    try:
        _, metrics = training.execute(
            recipe, bench.ready, run, bench.settings, bench.runner, lambda _line: None
        )
        if metric not in metrics:
            raise OutputFaultsError((f"metrics.json has no {metric!r}",), "results")
        status = "FINISHED"
        return metrics[metric]
    finally:
        tracking.finish(run.run_id, status, bench.settings)
        remove(bench.settings.home / "runs" / run.run_id)


FAILURES = (ComponentFailedError, OutputFaultsError)
