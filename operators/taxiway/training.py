"""Trains a handle's registered training package on a dataset version, and registers what came out.

A recipe (code, data, parameters, seed) has one result: a finished run is reused, an unfinished one of the same task is
started again, clean, in the same MLflow run. The same function serves a notebook cell and an Airflow task.
"""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxiway import component, tries
from taxiway import provenance as who
from taxiway.arguments import typed
from taxiway.datasets import versions as datasets
from taxiway.datasets.versions import DatasetVersion
from taxiway.errors import TransportError
from taxiway.lineage import given, sources
from taxiway.packaging import source
from taxiway.provenance import Provenance
from taxiway.registry import measured, mlmodel, models, packages, tracking
from taxiway.registry.models import ModelVersion
from taxiway.registry.recipe import Recipe
from taxiway.reproduction import stages
from taxiway.runners import Inputs, Job, JobResult, Runner, Stop, on_this_host
from taxiway.runners.watch import FILES, NOTES
from taxiway.settings import Settings
from taxiway.tools import in_turn, redact, remove

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a handle's training needs on this host, made ready once and shared by many runs.

    Attributes:
        data_dir: The dataset's bytes.
        source_models_dir: Folder with a subfolder for each source model, or None.
        experiment_id: MLflow experiment of the handle.
    """

    data_dir: Path
    source_models_dir: Path | None
    experiment_id: str


@typed
def train(
    handle: str,
    dataset: DatasetVersion,
    settings: Settings,
    *,
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    source_models: Mapping[str, int | str] | None = None,
    digests: Mapping[str, str] | None = None,
    provenance: Provenance | None = None,
    runner: Runner | None = None,
    log: Log = print,
) -> ModelVersion:
    """Train and register a model version; the same recipe again is the same version.

    New inference code makes a new version of the run that is already there.

    Args:
        handle: Its registered packages are looked up, so new code is used with no change of the caller.
        dataset: What to train on.
        settings: Where everything is.
        params: Over the package's defaults.
        seed: Seen by the component as `TAXIWAY_SEED`.
        source_models: Version or alias of a source model by its handle, over those of the package.
        digests: Digest of a registered package by its kind, for kinds whose newest one is not meant.
        provenance: Who asked; None for a notebook.
        runner: Where it runs; None is a process on this host.
        log: Called with each line that the component prints.

    Raises:
        PackageNotRegisteredError: If the handle has no registered training or inference package.
        DataChangedError: If the dataset's bytes on this host are not what they were.
        ComponentFailedError: If training fails; the MLflow run is marked as failed and kept.
        OutputFaultsError: If it leaves no model or no metrics.
        ModelNotFoundError: If a source model is not there.
        ArtifactChangedError: If the files of a source model are not what was registered.
        UntraceableError: If an edge of the lineage is missing, as where it read files that are none of its inputs, or
            its code or data changed while it ran; where the settings allow it, its version is marked instead.
    """
    inference = packages.lookup(handle, "inference", settings, (digests or {}).get("inference"))
    asked: dict[str, Any] = {"params": params, "seed": seed, "source_models": source_models}
    recipe = recipe_of(handle, dataset, settings, **asked, digests=digests, log=log)
    run = _run_of(recipe, settings, provenance, runner, log)
    version = models.register_version(recipe, inference, run, settings, provenance=provenance)
    stages.leave(version, settings)
    log(f"{handle}/{version.version} is registered: {version.url}")
    return version


def _run_of(
    recipe: Recipe, settings: Settings, provenance: Provenance | None, runner: Runner | None, log: Log
) -> tracking.Run:
    """Return the run that holds the result of a recipe: the finished one, or else it is trained; by one at a time."""
    lock = settings.home / "runs" / f"{recipe.key[:32]}.lock"
    with in_turn(
        lock, log, "another task on this host trains the same code with the same data and parameters"
    ):
        run = finished(recipe, settings)
        if run is None:
            return _train(recipe, settings, provenance, runner or on_this_host(settings), log)
    log(f"run {run.run_id} already trained this code on {recipe.dataset.tag} with these parameters")
    return run


def recipe_of(
    handle: str,
    dataset: DatasetVersion,
    settings: Settings,
    *,
    params: Mapping[str, Any] | None,
    seed: int,
    source_models: Mapping[str, int | str] | None = None,
    digests: Mapping[str, str] | None = None,
    log: Log = print,
) -> Recipe:
    """Return the recipe of a training: the current package of a handle or the named one, its defaults and sources.

    Raises:
        ModelNotFoundError: If a source model is not there, or has no live version.
    """
    training = packages.lookup(handle, "training", settings, (digests or {}).get("training"))
    chosen = sources.choose(training.manifest["source_models"], source_models or {}, settings, log)
    merged = dict(training.manifest["params"]) | dict(params or {})
    return Recipe(training=training, dataset=dataset, params=merged, seed=seed, source_models=chosen)


def prepare(recipe: Recipe, settings: Settings, runner: Runner, log: Log = print) -> Bench:
    """Make code, data and source models ready; `log` hears how long the data took to bring."""
    runner.prepare(recipe.training)
    return Bench(
        data_dir=datasets.fetch(recipe.dataset, settings, log=log),
        source_models_dir=sources.deliver(recipe, settings),
        experiment_id=tracking.ensure_experiment(recipe.training.handle, settings),
    )


def finished(recipe: Recipe, settings: Settings) -> tracking.Run | None:
    """Return the run that holds the result of a recipe, or None.

    One that was not seen to keep to its recipe, because it read other files or its code changed, is a result only
    where the settings allow models that cannot be traced: what made it do so may be gone by now.
    """
    experiment = tracking.ensure_experiment(recipe.training.handle, settings)
    runs = tracking.find_runs(experiment, {"taxiway.key": recipe.key, "taxiway.kind": "training"}, settings)
    done = [run for run in runs if _holds_result(run)]
    clean = [run for run in done if (trace := models.trace_of(run)) is not None and not trace.faults]
    return next(iter(clean or (done if settings.allow_untraceable else [])), None)


def _holds_result(run: tracking.Run) -> bool:
    return run.status == "FINISHED" and models.MODEL_HASH in run.tags


def run_tags(recipe: Recipe, kind: str, provenance: Provenance | None) -> dict[str, str]:
    """Return the tags of a run of a recipe: `kind` is `training` or `trial`."""
    training = recipe.training
    git = {"mlflow.source.git.commit": training.commit, "mlflow.source.git.repoURL": training.url}
    return {
        **who.tags(provenance),
        **{key: value for key, value in git.items() if value},
        "mlflow.source.git.dirty": str(training.is_dirty).lower(),
        "mlflow.project.entryPoint": "training",
        "taxiway.handle": training.handle,
        "taxiway.kind": kind,
        "taxiway.key": recipe.key,
        "taxiway.training.digest": training.digest,
        "taxiway.dataset": recipe.dataset.tag,
    }


def execute(
    recipe: Recipe,
    bench: Bench,
    run: tracking.Run,
    settings: Settings,
    runner: Runner,
    log: Log,
    stop: Stop | None = None,
    *,
    late: Executor | None = None,
    watched: AbstractContextManager[object] | None = None,
) -> tuple[JobResult, dict[str, float]]:
    """Run a recipe once in an open MLflow run; return what it left and measured, which is logged to the run.

    What can be seen only some time after its end is written down in `late`, or waited for where there is none. The run
    cannot be traced until then. `watched` is held while the component runs, and left before its numbers are logged.

    Raises:
        ComponentFailedError: If the command fails.
        JobStoppedError: If `stop` asked for its end.
        OutputFaultsError: If it leaves no model or no metrics.
    """
    with ThreadPoolExecutor(1) as beside:
        # What goes in is written down while it runs: a search makes many short runs.
        noted = beside.submit(_note_inputs, recipe, run, settings)
        with tries.alive(run, settings), watched or nullcontext():
            result = runner.run(_job(recipe, bench, run, settings), log, stop)
    noted.result()
    copies = sources.copies(recipe, bench.source_models_dir, settings)
    result = given.checked(result, settings, dataset=recipe.dataset, sources=copies)
    result = result if late else result.settled()
    metrics = component.read_metrics(result.output_dir)
    component.model_folder(result.output_dir)
    tags = measured.tags(metrics) | models.trace_tags(result.trace)
    tracking.log(run.run_id, settings, metrics=metrics, tags=tags)
    if late and result.looked:
        late.submit(_settle, result, recipe, run, settings, log)
    else:
        _say(result, recipe, log)
    return result, metrics


def _settle(result: JobResult, recipe: Recipe, run: tracking.Run, settings: Settings, log: Log) -> None:
    found = result.settled(at_once=False)
    try:
        tracking.log(run.run_id, settings, tags=models.trace_tags(found.trace))
    except TransportError as exc:
        log(f"run {run.run_id} cannot be traced: {exc}")
    _say(found, recipe, log)


def _say(result: JobResult, recipe: Recipe, log: Log) -> None:
    for fault in result.trace.faults if result.trace else ():
        log(f"{recipe.training.handle}.training: {fault}")


def _note_inputs(recipe: Recipe, run: tracking.Run, settings: Settings) -> None:
    tracking.log(run.run_id, settings, params=recipe.params)
    tracking.log_dataset(run.run_id, dataset_input(recipe.dataset), "training", settings)


def publish(recipe: Recipe, run: tracking.Run, output_dir: Path, settings: Settings) -> None:
    """Upload the model that a run left, and mark the run as the one that holds the recipe's result."""
    folder = component.model_folder(output_dir)
    source.remove_compiled(folder)
    model_hash = models.hash_of(folder)
    mlmodel.write(folder, run_id=run.run_id, key=recipe.key)
    tracking.upload(run.run_id, folder, models.MODEL, settings)
    listing = output_dir.parent / FILES
    if listing.exists():
        tracking.upload(run.run_id, listing, models.LINEAGE, settings)
    hashes = {models.MODEL_HASH: model_hash, models.MLMODEL: mlmodel.hash_of(folder)}
    tracking.log(run.run_id, settings, tags={"taxiway.kind": "training", **hashes})


def _train(
    recipe: Recipe, settings: Settings, provenance: Provenance | None, runner: Runner, log: Log
) -> tracking.Run:
    bench = prepare(recipe, settings, runner, log)
    run = _open(recipe, bench.experiment_id, settings, provenance, runner)
    log(f"training {recipe.training.handle} in {tracking.run_url(run, settings)}")
    status: tracking.Status = "FAILED"
    try:
        result, _ = execute(recipe, bench, run, settings, runner, log)
        with tries.alive(run, settings):
            publish(recipe, run, result.output_dir, settings)
        remove(result.output_dir)
        for left in (NOTES, FILES):
            (result.output_dir.parent / left).unlink(missing_ok=True)
        status = "FINISHED"
    finally:
        tracking.finish(run.run_id, status, settings)
    return tracking.get_run(run.run_id, settings)


def _open(
    recipe: Recipe, experiment_id: str, settings: Settings, provenance: Provenance | None, runner: Runner
) -> tracking.Run:
    tags = run_tags(recipe, "training", provenance)
    wanted = {"taxiway.key": recipe.key, "taxiway.kind": "training", **who.identity(provenance)}
    found = tracking.find_runs(experiment_id, wanted, settings)
    # A run whose model was registered, marked, keeps its artifacts.
    begun = [run for run in found if not _holds_result(run)]
    return tries.open_run(
        begun,
        tags,
        settings,
        experiment_id=experiment_id,
        name=f"train {recipe.dataset.tag}",
        package=recipe.training,
        runner=runner,
        params=recipe.params,
    )


def _job(recipe: Recipe, bench: Bench, run: tracking.Run, settings: Settings) -> Job:
    return Job(
        package=recipe.training,
        folder=settings.home / "runs" / run.run_id,
        inputs=Inputs(
            data_dir=bench.data_dir,
            source_models_dir=bench.source_models_dir,
            secrets_dir=settings.secrets_dir,
        ),
        params=recipe.params,
        seed=recipe.seed,
        tracking=component.Tracking(
            uri=redact(settings.tracking_uri), run_id=run.run_id, experiment_id=run.experiment_id
        ),
    )


def dataset_input(dataset: DatasetVersion) -> tracking.DatasetInput:
    """Return a dataset version as MLflow shows it beside a run."""
    facts = dataset.to_json()
    profile = {"files": dataset.files, "size_bytes": dataset.size_bytes}
    return tracking.DatasetInput(
        name=dataset.name,
        digest=dataset.hash,
        source_type="dvc",
        source=json.dumps(facts),
        profile=json.dumps(profile),
    )
