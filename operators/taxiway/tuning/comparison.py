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
from taxiway.packaging.package import CodePackage
from taxiway.registry import doubts, packages, tracking
from taxiway.registry.models import ModelVersion
from taxiway.registry.recipe import Recipe
from taxiway.runners import JobResult, Stop
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
        doubts: Why it may not be what is live, or nobody can say what it was made of.
    """

    name: str
    params: Mapping[str, Any]
    version: ModelVersion | None = None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
    """What a model measured, and why that cannot be relied on."""

    measured: Measured
    doubts: tuple[str, ...]


def rival_of(base: Recipe, settings: Settings, log: Log) -> Rival:
    """Return the live version, or the defaults where nothing is live, or nobody can tell what is."""
    known = champion.look(base.training.handle, settings)
    if known.doubt:
        log(f"note: {known.doubt}")
    if (found := known.version) is None:
        unknown = champion.unknown(known, base.training.handle, settings)
        return Rival(name="the defaults", params=base.params, doubts=(unknown,) if unknown else ())
    name = f"{found.handle}/{found.version}"
    doubts = tuple(f"{name}: {why}" for why in found.untraceable)
    return Rival(name=name, params=found.params, version=found, doubts=doubts)


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
    found = _measure_all(bench, code, best, rival, repeats, parallel)
    why = dict.fromkeys(doubt for each in found for doubt in each.doubts)
    measured = [each.measured for each in found]
    theirs, ours = measured[:-repeats], measured[-repeats:]
    # A version is one model, which all seeds are held against.
    paired = theirs if len(theirs) == repeats else theirs * repeats
    said = _judged(ours, paired, evaluating.bars_of(code, {}))
    return verdict.doubted(said, (*rival.doubts, *why))


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
    code: CodePackage,
    best: Mapping[str, Any],
    rival: Rival,
    repeats: int,
    parallel: int,
) -> list[_Evidence]:
    """Return what the rival measured, once or with each seed, and after it the models of the best parameters."""
    stop = Stop()
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
    version = rival.version
    works: list[Callable[[], _Evidence]] = []
    if version is not None:
        works.append(lambda: _evidence(*measuring.measure(version, judging), judging))
    # Of defaults one training would be one draw: theirs are as many as ours, with the same seeds.
    wanted = [best] if version is not None else [rival.params, best]
    recipes = [replace(bench.base, params=params, seed=seed) for params in wanted for seed in seeds]
    works += [partial(_repeat, bench, judging, each, stop) for each in recipes]
    with ThreadPoolExecutor(max(1, parallel)) as pool:
        try:
            running = [pool.submit(contextvars.copy_context().run, work) for work in works]
            return [each.result() for each in running]
        except BaseException:
            stop.request()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _evidence(run: tracking.Run, found: Measured, judging: measuring.Bench) -> _Evidence:
    return _Evidence(measured=found, doubts=measuring.faults(run, judging))


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


def _repeat(bench: Bench, judging: measuring.Bench, recipe: Recipe, stop: Stop) -> _Evidence:
    """Return what the model of a recipe measures, which is trained for it and then removed."""
    trained: list[JobResult] = []

    def files() -> Path:
        trained.append(_train(bench, recipe, stop))
        return component.model_folder(trained[0].output_dir)

    subject = measuring.Subject(
        kind="repeat evaluation",
        key=digest([recipe.key, judging.code.digest, judging.dataset.hash]),
        name=f"evaluate repeat {recipe.seed}",
        tags=_own_tags(bench),
        files=files,
        doubts=lambda: doubts.of_run(recipe.training, trained[0].trace),
    )
    try:
        return _evidence(*measuring.measure_subject(subject, judging), judging)
    finally:
        for each in trained:
            remove(each.output_dir.parent)


def _own_tags(bench: Bench) -> dict[str, str]:
    return {"mlflow.parentRunId": bench.plan.run_id or "", "taxiway.study": bench.plan.study}


def _train(bench: Bench, recipe: Recipe, stop: Stop) -> JobResult:
    """Train a recipe, in the run of a try that was killed where there is one; return what it leaves."""
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
            return result
        finally:
            tracking.finish(run.run_id, status, bench.settings)
