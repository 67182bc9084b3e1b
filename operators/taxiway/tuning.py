"""Searches parameters with Optuna: the one place that imports it, inside functions.

A study is named by what it searches, and kept in a journal file, so that a call that is killed goes on where it was.
Each trial is a run of the training component and a nested MLflow run; the best one's model is kept as the result of
its recipe, so that training with the best parameters finds it done.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from taxiway import provenance as who
from taxiway import training
from taxiway.datasets.versions import DatasetVersion
from taxiway.errors import ComponentFailedError, InvalidSpecError, OutputFaultsError
from taxiway.project.tuning import DIRECTIONS, space_faults
from taxiway.provenance import Provenance
from taxiway.registry import tracking
from taxiway.registry.models import Recipe
from taxiway.runners import Runner, on_this_host
from taxiway.settings import Settings
from taxiway.tools import digest, exclusive, remove

if TYPE_CHECKING:
    import optuna

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneResult:
    """What a search found.

    Attributes:
        params: Every parameter of the best trial, defaults included; the defaults alone where there was no trial.
        value: What the best trial measured, or None.
        study: Name of the study.
        trials: Trials that finished, over all calls.
        run_id: MLflow run that the trials are nested in, or None.
        url: Its page.
    """

    params: Mapping[str, Any]
    value: float | None = None
    study: str = ""
    trials: int = 0
    run_id: str | None = None
    url: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What a study searches, and for what.

    Attributes:
        space: `{name: {type, low, high, log, step} | {type, choices}}`.
        metric: Name of a metric in `metrics.json`.
        direction: `maximize` or `minimize`.
    """

    space: Mapping[str, Mapping[str, Any]]
    metric: str
    direction: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """One call of `tune`, made ready."""

    base: Recipe
    bench: training.Bench
    objective: Objective
    study: "optuna.Study"
    parent: tracking.Run
    settings: Settings
    runner: Runner
    provenance: Provenance | None
    log: Log


def tune(
    handle: str,
    dataset: DatasetVersion,
    settings: Settings,
    *,
    trials: int,
    space: Mapping[str, Any] | None = None,
    metric: str | None = None,
    direction: str | None = None,
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    parallel: int = 2,
    provenance: Provenance | None = None,
    runner: Runner | None = None,
    log: Log = print,
) -> TuneResult:
    """Search until the study has `trials` finished trials, and return the best parameters.

    Args:
        handle: Its registered training package is what a trial runs.
        dataset: What each trial trains on.
        settings: Where everything is; the study lives under `home/studies`.
        trials: Trials to reach in all; 0 returns the defaults and starts nothing.
        space: What to search; None is the package's own, from `[tool.taxiway.tuning]`.
        metric: What to compare; None is the package's own.
        direction: `maximize` or `minimize`; None is the package's own.
        params: Over the package's defaults, for what is not searched.
        seed: Of every trial and of the sampler.
        parallel: Trials at a time.
        provenance: Who asked; None for a notebook.
        runner: Where trials run; None is processes on this host.
        log: Called with each line of progress.

    Raises:
        InvalidSpecError: If space, metric or direction is missing or wrong.
        ComponentFailedError: If every trial failed; the last one's error.
    """
    base = training.recipe_of(handle, dataset, settings, params=params, seed=seed, log=log)
    if trials == 0:
        return TuneResult(params=base.params)
    objective = _objective(base.training.manifest["tuning"], space, metric, direction)
    name = digest([base.key, dataclasses.asdict(objective)])[:32]
    with exclusive(settings.home / "studies" / f"{name}.lock"):
        study = _study(name, objective, settings, seed)
        where = runner or on_this_host(settings)
        bench = training.prepare(base, settings, where)
        parent = _parent(base, bench, name, settings, provenance)
        search = _Search(
            base=base,
            bench=bench,
            objective=objective,
            study=study,
            parent=parent,
            settings=settings,
            runner=where,
            provenance=provenance,
            log=log,
        )
        return _run(search, trials, parallel)


def _run(search: _Search, trials: int, parallel: int) -> TuneResult:
    status: tracking.Status = "FAILED"
    try:
        _sweep(search)
        missing = max(0, trials - _count(search.study, "COMPLETE"))
        search.log(f"study {search.study.study_name}: {trials - missing} of {trials} trials are done")
        with ThreadPoolExecutor(max(1, parallel)) as pool:
            errors = [error for error in pool.map(lambda _: _trial(search), range(missing)) if error]
        if _count(search.study, "COMPLETE") == 0 and errors:
            raise errors[-1]
        result = _best(search)
        status = "FINISHED"
        return result
    finally:
        tracking.finish(search.parent.run_id, status, search.settings)


def _trial(search: _Search) -> ComponentFailedError | OutputFaultsError | None:
    """Run one trial from asking to telling; a failed one is told as failed, and the search goes on."""
    from optuna.trial import TrialState

    trial = search.study.ask(_distributions(search.objective.space))
    recipe = replace(search.base, params={**search.base.params, **trial.params})
    run = _open(search, recipe, trial.number)
    trial.set_user_attr("mlflow_run_id", run.run_id)
    status: tracking.Status = "FAILED"
    try:
        _, metrics = training.execute(recipe, search.bench, run, search.settings, search.runner, _silent)
        value = _value(metrics, search.objective.metric)
        status = "FINISHED"
    except (ComponentFailedError, OutputFaultsError) as exc:
        search.log(f"trial {trial.number} failed: {exc}")
        return exc
    finally:
        tracking.finish(run.run_id, status, search.settings)
        if status == "FAILED":
            search.study.tell(trial, state=TrialState.FAIL)
    search.study.tell(trial, value)
    search.log(f"trial {trial.number}: {search.objective.metric} {value:.4f} with {trial.params}")
    return None


def _best(search: _Search) -> TuneResult:
    """Return the best trial, its model kept where its files are still on this host."""
    best = search.study.best_trial
    recipe = replace(search.base, params={**search.base.params, **best.params})
    run = tracking.get_run(best.user_attrs["mlflow_run_id"], search.settings)
    output = search.settings.home / "runs" / run.run_id / "output"
    if output.exists() and "taxiway.model_hash" not in run.tags:
        training.publish(recipe, run, output, search.settings)
    _clear(search)
    tracking.log(
        search.parent.run_id,
        search.settings,
        metrics={f"best_{search.objective.metric}": best.values[0]},
        tags={"taxiway.best_run_id": run.run_id},
    )
    return TuneResult(
        params=dict(recipe.params),
        value=best.values[0],
        study=search.study.study_name,
        trials=_count(search.study, "COMPLETE"),
        run_id=search.parent.run_id,
        url=tracking.run_url(search.parent, search.settings),
    )


def _clear(search: _Search) -> None:
    """Remove what trials left on this host: the best one's model is in MLflow, no other is asked for again."""
    for trial in search.study.get_trials(deepcopy=False):
        run_id = trial.user_attrs.get("mlflow_run_id")
        if run_id:
            remove(search.settings.home / "runs" / run_id / "output")


def _objective(
    given: Mapping[str, Any], space: Mapping[str, Any] | None, metric: str | None, direction: str | None
) -> Objective:
    found = Objective(
        space=space or given.get("space", {}),
        metric=metric or given.get("metric", ""),
        direction=direction or given.get("direction", ""),
    )
    faults = space_faults(found.space)
    if not found.metric:
        faults.append("no metric to compare trials by; give one, or [tool.taxiway.tuning].metric")
    if found.direction not in DIRECTIONS:
        faults.append(f"direction must be one of {', '.join(DIRECTIONS)}, got {found.direction!r}")
    if faults:
        raise InvalidSpecError(tuple(faults), "tuning")
    return found


def _study(name: str, objective: Objective, settings: Settings, seed: int) -> "optuna.Study":
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = settings.home / "studies" / f"{name}.journal"
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path))),
        study_name=name,
        direction="maximize" if objective.direction == "maximize" else "minimize",
        load_if_exists=True,
    )
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), constant_liar=True)
    return study


def _distributions(
    space: Mapping[str, Mapping[str, Any]],
) -> "dict[str, optuna.distributions.BaseDistribution]":
    from optuna import distributions

    kinds: dict[str, Callable[..., optuna.distributions.BaseDistribution]] = {
        "float": distributions.FloatDistribution,
        "int": distributions.IntDistribution,
        "categorical": distributions.CategoricalDistribution,
    }
    return {
        name: kinds[item["type"]](**{key: value for key, value in item.items() if key != "type"})
        for name, item in space.items()
    }


def _sweep(search: _Search) -> None:
    """Tell trials that an earlier call left running as failed: whoever ran them is gone, the lock says so."""
    from optuna.trial import TrialState

    for trial in search.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        search.study.tell(trial.number, state=TrialState.FAIL)
        with contextlib.suppress(KeyError):
            tracking.finish(trial.user_attrs["mlflow_run_id"], "KILLED", search.settings)


def _count(study: "optuna.Study", state: str) -> int:
    return sum(trial.state.name == state for trial in study.get_trials(deepcopy=False))


def _value(metrics: Mapping[str, float], name: str) -> float:
    if name not in metrics:
        raise OutputFaultsError(
            (f"metrics.json has no {name!r}; it has {', '.join(sorted(metrics))}",), "results"
        )
    return metrics[name]


def _parent(
    base: Recipe, bench: training.Bench, name: str, settings: Settings, provenance: Provenance | None
) -> tracking.Run:
    own = {"taxiway.kind": "study", "taxiway.study": name}
    tags = training.run_tags(base, "study", provenance) | own
    found = tracking.find_runs(bench.experiment_id, {**own, **who.identity(provenance)}, settings)
    if not found:
        return tracking.create_run(bench.experiment_id, f"tune {base.dataset.tag}", tags, settings)
    tracking.reopen(found[0].run_id, tags, settings)
    return found[0]


def _open(search: _Search, recipe: Recipe, number: int) -> tracking.Run:
    tags = training.run_tags(recipe, "trial", search.provenance)
    tags |= {"mlflow.parentRunId": search.parent.run_id, "taxiway.study": search.study.study_name}
    return tracking.create_run(search.bench.experiment_id, f"trial {number}", tags, search.settings)


def _silent(_line: str) -> None:
    return None
