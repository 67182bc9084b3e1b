"""Names what made a model worse: mixes the ingredients of a good and a bad version, and trains the mixtures.

The ingredients are code, data, parameters and environment. One is changed at a time, from good to bad, so that no more
trainings are needed than there are differences, four at most. Nothing is registered.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from taxiway import training
from taxiway.errors import ComponentFailedError, InvalidSpecError, OutputFaultsError
from taxiway.packaging.package import FILES, LOCK, MANIFEST, CodePackage, home_of
from taxiway.registry import models, packages, tracking
from taxiway.registry.models import ModelVersion, Recipe
from taxiway.runners import Runner, on_this_host
from taxiway.settings import Settings
from taxiway.tools import digest, fresh_folder, remove

INGREDIENTS = ("code", "data", "parameters", "environment")
Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One mixture: the good version with one ingredient of the bad one.

    Attributes:
        ingredient: Which one.
        value: What its training measured; None if it failed.
        is_guilty: Whether that lies on the bad side.
        run_id: Its MLflow run.
    """

    ingredient: str
    value: float | None
    is_guilty: bool
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What made the difference.

    Attributes:
        good: The good version.
        bad: The bad one.
        metric: What they were compared by.
        good_value: What the good one measured.
        bad_value: What the bad one did.
        differing: Ingredients in which they differ.
        guilty: Those of them that alone make the good version bad; empty if only several together do.
        trials: What was trained.
    """

    good: int
    bad: int
    metric: str
    good_value: float
    bad_value: float
    differing: tuple[str, ...]
    guilty: tuple[str, ...]
    trials: tuple[Trial, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        if self.guilty:
            verdict = f"guilty: {' and '.join(self.guilty)}"
        else:
            verdict = f"no single ingredient does it: {' and '.join(self.differing)} together"
        fall = (
            f"{self.metric} {self.good_value:.4g} in version {self.good}, {self.bad_value:.4g} in {self.bad}"
        )
        return f"{verdict} ({fall}; {len(self.trials)} trainings)"


def bisect(
    handle: str,
    good: int | str,
    bad: int | str,
    settings: Settings,
    *,
    metric: str,
    runner: Runner | None = None,
    log: Log = print,
) -> Finding:
    """Return which ingredient makes the bad version worse than the good one.

    Args:
        handle: The handle.
        good: Version or alias.
        bad: Version or alias.
        settings: Where everything is.
        metric: A number that training leaves in `metrics.json`. A mixture counts as bad from half-way on.
        runner: Where it trains; None is processes on this host.
        log: Called with a line for each mixture.

    Raises:
        ModelNotFoundError: If there is no such version.
        InvalidSpecError: If the two do not differ, or the metric was not measured, or is the same.
    """
    versions = models.get(handle, good, settings), models.get(handle, bad, settings)
    recipes = [_recipe(version, settings) for version in versions]
    differing = tuple(name for name in INGREDIENTS if _part(recipes[0], name) != _part(recipes[1], name))
    values = _values(versions, metric, differing)
    half = sum(values) / 2
    trials: list[Trial] = []
    for name in differing:
        if len(differing) == 1:
            break
        value, run_id = _train(_mixed(recipes[0], recipes[1], name, settings), settings, runner, metric, log)
        is_guilty = value is None or (value < half) == (values[1] < half)
        shown = "failed" if value is None else f"{metric} {value:.4g}"
        log(f"{handle}/{versions[0].version} with the {name} of {versions[1].version}: {shown}")
        trials.append(Trial(ingredient=name, value=value, is_guilty=is_guilty, run_id=run_id))
    guilty = tuple(trial.ingredient for trial in trials if trial.is_guilty)
    return Finding(
        good=versions[0].version,
        bad=versions[1].version,
        metric=metric,
        good_value=values[0],
        bad_value=values[1],
        differing=differing,
        guilty=differing if len(differing) == 1 else guilty,
        trials=tuple(trials),
    )


def _recipe(version: ModelVersion, settings: Settings) -> Recipe:
    package = packages.lookup(version.handle, "training", settings, version.training_digest)
    return Recipe(
        training=package,
        dataset=version.dataset,
        params=version.params,
        seed=version.seed,
        source_models=version.source_models,
    )


def _part(recipe: Recipe, ingredient: str) -> Any:
    """Return what of a recipe is one ingredient; source models are data, the seed is a parameter."""
    package = recipe.training
    parts = {
        "code": (package.source_hash, package.manifest["command"], package.manifest["threads"]),
        "data": (recipe.dataset.hash, dict(recipe.source_models)),
        "parameters": (dict(recipe.params), recipe.seed),
        "environment": (package.lock_hash, package.python),
    }
    return parts[ingredient]


def _values(
    versions: tuple[ModelVersion, ModelVersion], metric: str, differing: tuple[str, ...]
) -> tuple[float, float]:
    names = [f"{each.handle}/{each.version}" for each in versions]
    faults = [
        f"{name} has not measured {metric!r}; it has {', '.join(sorted(each.metrics))}"
        for name, each in zip(names, versions, strict=True)
        if metric not in each.metrics
    ]
    if not differing:
        faults.append(f"{' and '.join(names)} were made of the same; there is nothing to find")
    if not faults and versions[0].metrics[metric] == versions[1].metrics[metric]:
        faults.append(f"both measured {metric} {versions[0].metrics[metric]:g}; take another metric")
    if faults:
        raise InvalidSpecError(tuple(faults), "bisect")
    return versions[0].metrics[metric], versions[1].metrics[metric]


def _mixed(good: Recipe, bad: Recipe, ingredient: str, settings: Settings) -> Recipe:
    """Return the good recipe with one ingredient of the bad one."""
    if ingredient == "data":
        return replace(good, dataset=bad.dataset, source_models=bad.source_models)
    if ingredient == "parameters":
        return replace(good, params=bad.params, seed=bad.seed)
    both = (bad.training, good.training) if ingredient == "code" else (good.training, bad.training)
    return replace(good, training=_joined(*both, settings))


def _joined(code: CodePackage, environment: CodePackage, settings: Settings) -> CodePackage:
    """Return a package with the source of one and the environment of another, on this host alone."""
    identity = {"source": code.digest, "lock": environment.lock_hash, "python": environment.python}
    mixed = replace(
        code,
        digest=digest(identity),
        lock_hash=environment.lock_hash,
        python=environment.python,
        version=None,
    )
    for package in (code, environment):
        packages.fetch(package, settings)
    folder = home_of(mixed.digest, settings)
    if not folder.exists():
        with fresh_folder(folder) as draft:
            shutil.copytree(home_of(code.digest, settings) / FILES, draft / FILES)
            shutil.copyfile(home_of(environment.digest, settings) / FILES / LOCK, draft / FILES / LOCK)
            (draft / FILES / MANIFEST).write_text(json.dumps(mixed.to_json(), indent=2, sort_keys=True))
    return mixed


def _train(
    recipe: Recipe, settings: Settings, runner: Runner | None, metric: str, log: Log
) -> tuple[float | None, str]:
    """Train a mixture in an MLflow run of its own, and return what it measured; a mixture that fails has nothing."""
    where = runner or on_this_host(settings)
    bench = training.prepare(recipe, settings, where, lambda _line: None)
    tags: Mapping[str, str] = training.run_tags(recipe, "bisect", None)
    run = tracking.create_run(bench.experiment_id, f"bisect {recipe.key[:12]}", tags, settings)
    status: tracking.Status = "FAILED"
    try:
        result, metrics = training.execute(recipe, bench, run, settings, where, lambda _line: None)
        remove(result.output_dir)
        status = "FINISHED"
        return metrics.get(metric), run.run_id
    except (ComponentFailedError, OutputFaultsError) as failure:
        log(str(failure))
        return None, run.run_id
    finally:
        tracking.finish(run.run_id, status, settings)
