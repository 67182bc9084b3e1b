"""Runs a handle's registered evaluation package on a model version, once for version, package and data.

A measurement is an MLflow run: its metrics, and as artifacts the predictions and what the team's checks said, so that
a later version can be compared with it item by item. Nothing is judged here.
"""

import dataclasses
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from taxiway import component, training
from taxiway import provenance as who
from taxiway.datasets import versions as datasets
from taxiway.datasets.versions import DatasetVersion
from taxiway.errors import ComponentFailedError
from taxiway.evaluation import checks, predictions
from taxiway.evaluation.values import Measured
from taxiway.packaging.package import CodePackage
from taxiway.provenance import Provenance
from taxiway.registry import models, tracking
from taxiway.registry.models import ModelVersion
from taxiway.runners import Inputs, Job, JobResult, Runner
from taxiway.settings import Settings
from taxiway.tools import digest, exclusive, fresh_folder, redact, remove

Log = Callable[[str], None]
ARTIFACTS = "evaluation"
FILES_TAG = "taxiway.evaluation.files"
_KEPT = (*predictions.NAMES, checks.FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every measurement of one call shares.

    Attributes:
        code: The registered evaluation package.
        dataset: The data.
        settings: Where everything is.
        provenance: Who asked.
        runner: Where it runs.
        log: Called with each line that the component prints.
    """

    code: CodePackage
    dataset: DatasetVersion
    settings: Settings
    provenance: Provenance | None
    runner: Runner
    log: Log


def measure(model: ModelVersion, bench: Bench) -> tuple[tracking.Run, Measured]:
    """Return the run that measured a version, and what it found; a finished one is reused.

    Raises:
        ComponentFailedError: If the evaluation fails; the MLflow run is marked as failed and kept.
        OutputFaultsError: If it leaves no metrics, or predictions that break the contract.
    """
    settings = bench.settings
    key = digest([model.key, model.model_hash, bench.code.digest, bench.dataset.hash])
    experiment = tracking.ensure_experiment(model.handle, settings)
    own = {"taxiway.kind": "evaluation", "taxiway.key": key}
    with exclusive(settings.home / "runs" / f"{key[:32]}.lock"):
        found = tracking.find_runs(experiment, own, settings)
        done = next((run for run in found if run.status == "FINISHED"), None)
        if done is None:
            done = _open(model, bench, found, experiment, own)
            _run(model, bench, done)
            done = tracking.get_run(done.run_id, settings)
    return done, _kept(done, model, settings)


def _open(
    model: ModelVersion,
    bench: Bench,
    found: tuple[tracking.Run, ...],
    experiment: str,
    own: dict[str, str],
) -> tracking.Run:
    tags = own | _tags(model, bench) | dict(who.tags(bench.provenance))
    if not found:
        return tracking.create_run(experiment, f"evaluate v{model.version}", tags, bench.settings)
    tracking.reopen(found[0].run_id, tags, bench.settings)
    return found[0]


def _run(model: ModelVersion, bench: Bench, run: tracking.Run) -> None:
    settings = bench.settings
    status: tracking.Status = "FAILED"
    try:
        tracking.log_dataset(run.run_id, training.dataset_input(bench.dataset), "evaluation", settings)
        result = _ran(_job(model, bench, run), bench)
        metrics = component.read_metrics(result.output_dir)
        _keep(result.output_dir, run, settings)
        tracking.log(run.run_id, settings, metrics=metrics)
        remove(result.output_dir)
        status = "FINISHED"
    finally:
        tracking.finish(run.run_id, status, settings)


def _ran(job: Job, bench: Bench) -> JobResult:
    """Run the evaluation; if it fails, the error names its own command and not the program around the checks."""
    try:
        return bench.runner.run(job, bench.log)
    except ComponentFailedError as failed:
        own = bench.code.manifest["command"]
        if type(failed) is not ComponentFailedError or failed.command == own:
            raise
        raise ComponentFailedError(failed.component, own, failed.exit_code, failed.log_tail) from failed


def _keep(output_dir: Path, run: tracking.Run, settings: Settings) -> None:
    """Check what was left beside the metrics, and keep it as artifacts of the run."""
    predictions.read(output_dir)
    checks.read(output_dir)
    names = [name for name in _KEPT if (output_dir / name).is_file()]
    if names:
        with TemporaryDirectory() as folder:
            for name in names:
                shutil.copy(output_dir / name, folder)
            tracking.upload(run.run_id, Path(folder), ARTIFACTS, settings)
    tracking.log(run.run_id, settings, tags={FILES_TAG: ",".join(names)})


def _kept(run: tracking.Run, model: ModelVersion, settings: Settings) -> Measured:
    plain = Measured(metrics=dict(run.metrics), model_hash=model.model_hash)
    if not run.tags.get(FILES_TAG):
        return plain
    folder = settings.home / "evaluations" / run.run_id
    if not folder.exists():
        with fresh_folder(folder) as draft:
            tracking.download(run.run_id, ARTIFACTS, draft, settings)
    found = folder / ARTIFACTS
    return dataclasses.replace(plain, predictions=predictions.read(found), checks=checks.read(found))


def _job(model: ModelVersion, bench: Bench, run: tracking.Run) -> Job:
    settings, manifest = bench.settings, bench.code.manifest
    command = checks.command(manifest["command"], manifest["options"].get("checks", ()))
    return Job(
        package=dataclasses.replace(bench.code, manifest={**manifest, "command": command}),
        folder=settings.home / "runs" / run.run_id,
        inputs=Inputs(
            data_dir=datasets.fetch(bench.dataset, settings),
            model_dir=models.download(model, settings),
            secrets_dir=settings.secrets_dir,
        ),
        params=manifest["params"],
        tracking=component.Tracking(
            uri=redact(settings.tracking_uri), run_id=run.run_id, experiment_id=run.experiment_id
        ),
    )


def _tags(model: ModelVersion, bench: Bench) -> dict[str, str]:
    return {
        "taxiway.handle": model.handle,
        "taxiway.model_version": str(model.version),
        "taxiway.evaluation.digest": bench.code.digest,
        "taxiway.dataset": bench.dataset.tag,
        "mlflow.project.entryPoint": "evaluation",
    }
