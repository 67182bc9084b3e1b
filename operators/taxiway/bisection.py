"""Names what made a model worse: mixes the ingredients of a good and a bad version, and trains the mixtures.

The ingredients are code, data, parameters and environment: lock, Python, image and limits. One is changed at a time,
from good to bad, so that no more trainings are needed than there are differences, four at most. A mixture that cannot
run says nothing: code that does not run in the old environment is tried with its own, which may cost one more. Nothing
is registered.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from taxiway import training, tries
from taxiway.errors import ComponentFailedError, InvalidSpecError, OutputFaultsError
from taxiway.packaging.package import FILES, LOCK, MANIFEST, CodePackage, home_of
from taxiway.registry import measured, models, packages, tracking
from taxiway.registry.models import ModelVersion
from taxiway.registry.recipe import Recipe
from taxiway.runners import Runner, on_this_host
from taxiway.settings import Settings
from taxiway.tools import digest, exclusive, fresh_folder, remove

INGREDIENTS = ("code", "data", "parameters", "environment")
CODE, AROUND = ("command", "threads", "options", "dockerfile"), ("image", "resources", "libraries")
"""What of a package's manifest is code, and what is its environment; a Dockerfile is a file of the source."""
Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One mixture: the good version with one ingredient of the bad one, or with two that only run together.

    Attributes:
        ingredients: Which.
        value: What its training measured; None if it failed.
        is_guilty: Whether that lies on the bad side; None where nobody knows, because it failed.
        run_id: Its MLflow run.
    """

    ingredients: tuple[str, ...]
    value: float | None
    is_guilty: bool | None
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
        guilty: Those of them that alone make the good version bad; empty if only several together do. Two that only run
            together may be guilty together.
        unknown: Those that could not be tried, because no mixture with them ran.
        trials: What was trained.
    """

    good: int
    bad: int
    metric: str
    good_value: float
    bad_value: float
    differing: tuple[str, ...]
    guilty: tuple[str, ...]
    unknown: tuple[str, ...]
    trials: tuple[Trial, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        if self.guilty:
            verdict = f"guilty: {' and '.join(self.guilty)}"
        elif self.unknown:
            tried = [name for name in self.differing if name not in self.unknown]
            verdict = f"nobody knows of {' and '.join(self.unknown)}: no mixture with it ran, see its log"
            verdict += f"; {' and '.join(tried)} alone did not do it" if tried else ""
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
        runner: Where it trains; None is as the settings say. Image, limits and options are those of the versions.
        log: Called with a line for each mixture.

    Raises:
        ModelNotFoundError: If there is no such version.
        InvalidSpecError: If the two do not differ, or the metric was not measured, or is the same.
    """
    versions = models.get(handle, good, settings), models.get(handle, bad, settings)
    recipes = _recipe(versions[0], settings), _recipe(versions[1], settings)
    differing = tuple(name for name in INGREDIENTS if _differs(recipes[0], recipes[1], name))
    values = _values(versions, metric, differing)
    bench = _Bench(*recipes, metric=metric, half=sum(values) / 2, is_lower_worse=values[1] < values[0])
    trials = _tried(bench, differing, settings, runner, log) if len(differing) > 1 else ()
    return Finding(
        good=versions[0].version,
        bad=versions[1].version,
        metric=metric,
        good_value=values[0],
        bad_value=values[1],
        differing=differing,
        guilty=_guilty(differing, trials),
        unknown=_unknown(differing, trials),
        trials=trials,
    )


@dataclass(frozen=True, slots=True)
class _Bench:
    """The two recipes, and from where on a mixture of them is bad."""

    good: Recipe
    bad: Recipe
    metric: str
    half: float
    is_lower_worse: bool

    def is_bad(self, value: float | None) -> bool | None:
        return None if value is None else (value < self.half) is self.is_lower_worse


def _tried(
    bench: _Bench, differing: tuple[str, ...], settings: Settings, runner: Runner | None, log: Log
) -> tuple[Trial, ...]:
    """Train the mixtures, each ingredient alone; code that does not run so takes its environment along."""
    trials: list[Trial] = []
    waiting: list[tuple[str, ...]] = [(name,) for name in differing]
    while waiting:
        names = waiting.pop(0)
        value, run_id = _train(_mixed(bench, names, settings), settings, runner, bench.metric, log)
        shown = "failed" if value is None else f"{bench.metric} {value:.4g}"
        log(f"the good version with the {' and '.join(names)} of the bad one: {shown}")
        trials.append(Trial(ingredients=names, value=value, is_guilty=bench.is_bad(value), run_id=run_id))
        if names == ("code",) and value is None and "environment" in differing:
            waiting.insert(0, ("code", "environment"))
        if names == ("code", "environment") and trials[-1].is_guilty is False:
            waiting.remove(("environment",))
    return tuple(trials)


def _guilty(differing: tuple[str, ...], trials: tuple[Trial, ...]) -> tuple[str, ...]:
    """Return what alone makes the good version bad; where two only run together, the one that is not cleared alone."""
    if len(differing) == 1:
        return differing
    alone = {each.ingredients[0]: each.is_guilty for each in trials if len(each.ingredients) == 1}
    guilty = {name for name, is_guilty in alone.items() if is_guilty}
    for trial in trials:
        if len(trial.ingredients) > 1 and trial.is_guilty and not guilty & {*trial.ingredients}:
            guilty |= {name for name in trial.ingredients if alone.get(name) is not False}
    return tuple(name for name in differing if name in guilty)


def _unknown(differing: tuple[str, ...], trials: tuple[Trial, ...]) -> tuple[str, ...]:
    known = {name for trial in trials if trial.is_guilty is not None for name in trial.ingredients}
    return tuple(name for name in differing if len(differing) > 1 and name not in known)


def _recipe(version: ModelVersion, settings: Settings) -> Recipe:
    package = packages.lookup(version.handle, "training", settings, version.training_digest)
    return Recipe(
        training=package,
        dataset=version.dataset,
        params=version.params,
        seed=version.seed,
        source_models=version.source_models,
    )


def _differs(good: Recipe, bad: Recipe, ingredient: str) -> bool:
    """Return whether two recipes differ in an ingredient: source models are data, the seed is a parameter.

    A parameter that only one of them has came or went with its code.
    """
    if ingredient == "parameters":
        return (_params(good, bad), bad.seed) != (dict(good.params), good.seed)
    one, other = _part(good, ingredient), _part(bad, ingredient)
    return one != other or (ingredient == "code" and good.params.keys() != bad.params.keys())


def _part(recipe: Recipe, ingredient: str) -> Any:
    package, manifest = recipe.training, recipe.training.manifest
    parts = {
        "code": (package.source_hash, *map(manifest.get, CODE)),
        "data": (recipe.dataset.hash, dict(recipe.source_models)),
        "environment": (package.lock_hash, package.python, *map(manifest.get, AROUND)),
    }
    return parts[ingredient]


def _params(names: Recipe, values: Recipe) -> dict[str, Any]:
    """Return the parameters that one recipe has, with the values of another where that one has them."""
    return {name: values.params.get(name, own) for name, own in names.params.items()}


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


def _mixed(bench: _Bench, ingredients: tuple[str, ...], settings: Settings) -> Recipe:
    """Return the good recipe with ingredients of the bad one."""
    good, bad = bench.good, bench.bad
    if ingredients == ("data",):
        return replace(good, dataset=bad.dataset, source_models=bad.source_models)
    if ingredients == ("parameters",):
        return replace(good, params=_params(good, bad), seed=bad.seed)
    if ingredients == ("environment",):
        return replace(good, training=_joined(good.training, bad.training, settings))
    environment = bad.training if "environment" in ingredients else good.training
    return replace(good, training=_joined(bad.training, environment, settings), params=_params(bad, good))


def _joined(code: CodePackage, environment: CodePackage, settings: Settings) -> CodePackage:
    """Return a package with the code of one and the environment of another, on this host alone."""
    own = {key: value for key, value in code.manifest.items() if key not in AROUND}
    around = {key: value for key, value in environment.manifest.items() if key in AROUND}
    mixed = replace(
        code,
        digest=digest([code.digest, environment.digest]),
        lock_hash=environment.lock_hash,
        python=environment.python,
        version=None,
        manifest={**own, **around, packages.MIXED: [code.digest, environment.digest]},
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
    """Train a mixture in an MLflow run of its own, and return what it measured; one that fails has nothing.

    A bisection that was killed goes on: what it trained is there, and the run that it left open is used again.
    """
    where = runner or on_this_host(settings)
    tags: Mapping[str, str] = training.run_tags(recipe, "bisect", None)
    with exclusive(settings.home / "runs" / f"{recipe.key[:32]}.bisect.lock"):
        bench = training.prepare(recipe, settings, where, lambda _line: None)
        wanted = {"taxiway.key": recipe.key, "taxiway.kind": "bisect"}
        known = tracking.find_runs(bench.experiment_id, wanted, settings)
        done = next((run for run in known if run.status == "FINISHED" and metric in measured.of(run)), None)
        if done is not None:
            return measured.of(done)[metric], done.run_id
        run = tries.open_run(
            [run for run in known if run.status != "FINISHED"],
            tags,
            settings,
            experiment_id=bench.experiment_id,
            name=f"bisect {recipe.key[:12]}",
            package=recipe.training,
            runner=where,
            params=recipe.params,
        )
        return _run(recipe, bench, run, settings, where, metric, log), run.run_id


def _run(
    recipe: Recipe,
    bench: training.Bench,
    run: tracking.Run,
    settings: Settings,
    runner: Runner,
    metric: str,
    log: Log,
) -> float | None:
    status: tracking.Status = "FAILED"
    try:
        result, metrics = training.execute(recipe, bench, run, settings, runner, lambda _line: None)
        remove(result.output_dir)
        status = "FINISHED"
        return metrics.get(metric)
    except (ComponentFailedError, OutputFaultsError) as failure:
        log(str(failure))
        return None
    finally:
        tracking.finish(run.run_id, status, settings)
