"""Measures the parameters that a search found beside the model that they shall replace, on items it did not look at.

The parameters are trained again, with seeds that the search did not use, and each of these models is measured by the
handle's registered evaluation, as the gate measures; so is the rival, which is one model: the live version as it is, or
the defaults, trained with the same seeds.
"""

import contextvars
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from taxiway import champion, component, training, tries
from taxiway.errors import PackageNotRegisteredError
from taxiway.evaluation import evaluating, measuring
from taxiway.evaluation.comparison import item_differences
from taxiway.evaluation.predictions import ACCURACY
from taxiway.evaluation.values import Bars, Measured
from taxiway.registry import packages, tracking
from taxiway.registry.models import ModelVersion, Recipe
from taxiway.runners import Stop
from taxiway.settings import Settings
from taxiway.tools import digest, exclusive, remove
from taxiway.tuning import verdict
from taxiway.tuning.bench import Bench, Log
from taxiway.tuning.verdict import Verdict

FIRST_SEED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """What new parameters shall be better than: one model.

    Attributes:
        name: For people: `visual_recognition/3` or `the defaults`.
        params: Its parameters.
        version: The live version that it is; None is a training with these parameters.
    """

    name: str
    params: Mapping[str, Any]
    version: ModelVersion | None = None


def rival_of(base: Recipe, settings: Settings, log: Log) -> Rival:
    """Return the live version, or the defaults where nothing is live."""
    found = champion.find(base.training.handle, settings, log)
    if found is None:
        return Rival(name="the defaults", params=base.params)
    return Rival(name=f"{found.handle}/{found.version}", params=found.params, version=found)


def compare(bench: Bench, best: Mapping[str, Any], rival: Rival, repeats: int, parallel: int) -> Verdict:
    """Return whether the best parameters make better models than the rival is; what was measured is not measured again.

    Raises:
        ComponentFailedError: If one of the trainings or evaluations fails.
        OutputFaultsError: If one of them leaves no results.
    """
    if _is_same(bench.base, best, rival):
        return Verdict(
            better="no", reason="the parameters are those that are there", difference=0.0, low=0.0, high=0.0
        )
    try:
        code = packages.lookup(bench.base.training.handle, "evaluation", bench.settings)
    except PackageNotRegisteredError:
        return Verdict(
            better="inconclusive",
            reason="no evaluation is registered, which measures what the search did not see",
        )
    bars, stop = evaluating.bars_of(code, {}), Stop()
    judging = measuring.Bench(
        code=code,
        dataset=bench.plan.dataset,
        settings=bench.settings,
        provenance=bench.provenance,
        runner=bench.runner,
        log=lambda line: bench.log(f"evaluation | {line}"),
        stop=stop,
    )
    seeds = [bench.plan.seed + FIRST_SEED + at for at in range(repeats)]
    recipes = [replace(bench.base, params=best, seed=seed) for seed in seeds]
    # Of defaults one training would be one draw: theirs are as many as ours, with the same seeds.
    is_trained = rival.version is None
    defaults = [replace(bench.base, params=rival.params, seed=seed) for seed in seeds if is_trained]
    found = _measure_all(bench, judging, rival, [*defaults, *recipes], parallel, stop)
    theirs, ours = found[:-repeats], found[-repeats:]
    return _judged(ours, theirs if is_trained else theirs * repeats, bars)


def _is_same(base: Recipe, best: Mapping[str, Any], rival: Rival) -> bool:
    """Tell whether the rival is what the best parameters make: the same code and data, too."""
    found = rival.version
    is_same_code = found is None or (found.training_digest, found.dataset.hash) == (
        base.training.digest,
        base.dataset.hash,
    )
    return is_same_code and dict(best) == dict(rival.params)


def _measure_all(
    bench: Bench,
    judging: measuring.Bench,
    rival: Rival,
    recipes: Sequence[Recipe],
    parallel: int,
    stop: Stop,
) -> list[Measured]:
    """Return what the rival measured, where it is a version, and after it the models of the recipes."""
    works: list[Callable[[], Measured]] = [partial(_repeat, bench, judging, each, stop) for each in recipes]
    if (version := rival.version) is not None:
        works.insert(0, lambda: measuring.measure(version, judging)[1])
    with ThreadPoolExecutor(max(1, parallel)) as pool:
        running = [pool.submit(contextvars.copy_context().run, work) for work in works]
        try:
            return [each.result() for each in running]
        except BaseException:
            stop.request()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _judged(ours: Sequence[Measured], theirs: Sequence[Measured], bars: Bars) -> Verdict:
    metric = bars.compare or ACCURACY
    rows = [
        item_differences(metric, bars.direction, one.predictions, other.predictions)
        for one, other in zip(ours, theirs, strict=True)
    ]
    why = next((row for row in rows if isinstance(row, str)), None)
    if why is not None:
        return Verdict(better="inconclusive", reason=f"{metric} cannot be compared item by item: {why}")
    return verdict.judge(np.array(rows, dtype=float), metric, bars.least_items, np.random.default_rng(0))


def _repeat(bench: Bench, judging: measuring.Bench, recipe: Recipe, stop: Stop) -> Measured:
    """Return what the model of a recipe measures, which is trained for it and then removed."""
    trained: list[Path] = []

    def files() -> Path:
        trained.append(_train(bench, recipe, stop))
        return component.model_folder(trained[0] / "output")

    subject = measuring.Subject(
        kind="repeat evaluation",
        key=digest([recipe.key, judging.code.digest, judging.dataset.hash]),
        name=f"evaluate repeat {recipe.seed}",
        tags=_own_tags(bench),
        files=files,
    )
    try:
        return measuring.measure_subject(subject, judging)[1]
    finally:
        for folder in trained:
            remove(folder)


def _own_tags(bench: Bench) -> dict[str, str]:
    return {"mlflow.parentRunId": bench.plan.run_id or "", "taxiway.study": bench.plan.study}


def _train(bench: Bench, recipe: Recipe, stop: Stop) -> Path:
    """Train a recipe, in the run of a try that was killed where there is one; return the folder that it leaves."""
    tags = training.run_tags(recipe, "repeat", bench.provenance) | _own_tags(bench)
    known = {"taxiway.kind": "repeat", "taxiway.key": recipe.key}
    with exclusive(bench.settings.home / "runs" / f"{recipe.key[:32]}.lock"):
        found = tracking.find_runs(bench.plan.experiment_id, known, bench.settings)
        run = tries.open_run(
            [each for each in found if each.status != "FINISHED"],
            tags,
            bench.settings,
            experiment_id=bench.plan.experiment_id,
            name=f"repeat {recipe.seed}",
            package=recipe.training,
            runner=bench.runner,
            params=recipe.params,
        )
        status: tracking.Status = "FAILED"
        try:
            result, _ = training.execute(
                recipe,
                bench.ready,
                run,
                bench.settings,
                bench.runner,
                lambda line: bench.log(f"repeat {recipe.seed} | {line}"),
                stop,
            )
            status = "FINISHED"
            return result.output_dir.parent
        finally:
            tracking.finish(run.run_id, status, bench.settings)
