"""Runs a handle's registered evaluation package on a model version, once for version, package and data.

A measurement is an MLflow run: its metrics, and as artifacts the predictions and what the team's checks said, so that
a later version can be compared with it item by item. Nothing is judged here.
"""

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from taxiway import component, training, tries
from taxiway import provenance as who
from taxiway.datasets import versions as datasets
from taxiway.datasets.versions import DatasetVersion
from taxiway.errors import ComponentFailedError
from taxiway.evaluation import checks, predictions
from taxiway.evaluation.values import Measured
from taxiway.lineage import given
from taxiway.packaging.package import CodePackage
from taxiway.provenance import Provenance
from taxiway.registry import doubts, measured, models, tracking
from taxiway.registry.models import ModelVersion
from taxiway.runners import Inputs, Job, JobResult, Runner, Stop
from taxiway.settings import Settings
from taxiway.tools import digest, fresh_folder, in_turn, redact, remove
from taxiway.trace import Trace

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
        stop: Ends a measurement early.
    """

    code: CodePackage
    dataset: DatasetVersion
    settings: Settings
    provenance: Provenance | None
    runner: Runner
    log: Log
    stop: Stop | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is measured.

    Attributes:
        kind: Of the MLflow run: `evaluation` for a version.
        key: What the measurement depends on, beside the evaluation package and the data.
        name: Of the MLflow run.
        tags: Of the MLflow run, beside those that every measurement has.
        files: Brings the model's files; called where it was not measured yet.
        version: The version that it is, or None for a model that is none.
        doubts: Says, once the files are there, why nobody can say what the model was made of.
    """

    kind: str
    key: str
    name: str
    tags: Mapping[str, str]
    files: Callable[[], Path]
    version: ModelVersion | None = None
    doubts: Callable[[], tuple[str, ...]] = tuple


def measure(model: ModelVersion, bench: Bench) -> tuple[tracking.Run, Measured]:
    """Return the run that measured a version, and what it found; a finished one is reused.

    Raises:
        ComponentFailedError: If the evaluation fails; the MLflow run is marked as failed and kept.
        OutputFaultsError: If it leaves no metrics, or predictions that break the contract.
    """
    subject = Subject(
        kind="evaluation",
        key=digest([model.key, model.model_hash, bench.code.digest, bench.dataset.hash]),
        name=f"evaluate v{model.version}",
        tags={"taxiway.model_version": str(model.version)},
        files=lambda: models.download(model, bench.settings),
        version=model,
    )
    return measure_subject(subject, bench)


def measure_subject(subject: Subject, bench: Bench) -> tuple[tracking.Run, Measured]:
    """Return the run that measured a model, registered or not, and what it found; as `measure`."""
    settings, key = bench.settings, subject.key
    experiment = tracking.ensure_experiment(bench.code.handle, settings)
    own = {"taxiway.kind": subject.kind, "taxiway.key": key}
    with alone(key, bench):
        found = tracking.find_runs(experiment, own, settings)
        done = next((run for run in found if _is_result(run, bench)), None)
        if done is None:
            begun = tuple(run for run in found if run.status != "FINISHED")
            done = _open(subject, bench, begun, experiment, own)
            _run(subject, bench, done)
            done = tracking.get_run(done.run_id, settings)
    return done, _kept(done, subject, settings)


def alone(key: str, bench: Bench) -> AbstractContextManager[None]:
    """Hold the measurement of a key alone on this host: while it is made, and while a verdict on it is written down."""
    lock = bench.settings.home / "runs" / f"{key[:32]}.lock"
    return in_turn(lock, bench.log, "another task on this host measures the same model")


def faults(run: tracking.Run, bench: Bench) -> tuple[str, ...]:
    """Return why nobody can say what a measurement was made of; empty if it kept to its code and its inputs."""
    return doubts.of_run(bench.code, models.trace_of(run))


def _is_result(run: tracking.Run, bench: Bench) -> bool:
    """Tell whether a run holds the measurement: what made it read other files may be gone by now."""
    is_whole = run.status == "FINISHED" and measured.NAMES in run.tags
    return is_whole and (bench.settings.allow_untraceable or not faults(run, bench))


def _open(
    subject: Subject,
    bench: Bench,
    found: tuple[tracking.Run, ...],
    experiment: str,
    own: dict[str, str],
) -> tracking.Run:
    return tries.open_run(
        found,
        own | _tags(subject, bench) | dict(who.tags(bench.provenance)),
        bench.settings,
        experiment_id=experiment,
        name=subject.name,
        package=bench.code,
        runner=bench.runner,
        params={},
    )


def _run(subject: Subject, bench: Bench, run: tracking.Run) -> None:
    settings = bench.settings
    status: tracking.Status = "FAILED"
    try:
        tracking.log_dataset(run.run_id, training.dataset_input(bench.dataset), "evaluation", settings)
        with tries.alive(run, settings):
            result = _ran(_job(subject, bench, run), bench).settled()
            result = given.checked(result, settings, dataset=bench.dataset, model=subject.version)
            metrics = component.read_metrics(result.output_dir)
            _keep(result.output_dir, metrics, run, settings)
        trace = _doubted(result.trace, subject.doubts())
        tags = measured.tags(metrics) | models.trace_tags(trace)
        tracking.log(run.run_id, settings, metrics=metrics, tags=tags)
        remove(result.output_dir)
        status = "FINISHED"
    finally:
        tracking.finish(run.run_id, status, settings)


def _doubted(trace: Trace | None, doubts: tuple[str, ...]) -> Trace | None:
    """Return a trace that says what the model itself leaves to doubt; without one nothing can be relied on anyway."""
    return trace and dataclasses.replace(trace, altered=(*trace.altered, *doubts))


def _ran(job: Job, bench: Bench) -> JobResult:
    """Run the evaluation; if it fails, the error names its own command and not the program around the checks."""
    try:
        return bench.runner.run(job, bench.log, bench.stop)
    except ComponentFailedError as failed:
        own = bench.code.manifest["command"]
        if type(failed) is not ComponentFailedError or failed.command == own:
            raise
        raise ComponentFailedError(failed.component, own, failed.exit_code, failed.log_tail) from failed


def _keep(output_dir: Path, metrics: Mapping[str, float], run: tracking.Run, settings: Settings) -> None:
    """Check what was left beside the metrics, and keep it as artifacts of the run."""
    found = predictions.read(output_dir)
    if found is not None:
        predictions.check_against(found, metrics)
    checks.read(output_dir)
    names = [name for name in _KEPT if (output_dir / name).is_file()]
    if names:
        with TemporaryDirectory() as folder:
            for name in names:
                shutil.copy(output_dir / name, folder)
            tracking.upload(run.run_id, Path(folder), ARTIFACTS, settings)
    tracking.log(run.run_id, settings, tags={FILES_TAG: ",".join(names)})


def _kept(run: tracking.Run, subject: Subject, settings: Settings) -> Measured:
    content = subject.version.content if subject.version else ""
    plain = Measured(metrics=measured.of(run), content=content)
    if not run.tags.get(FILES_TAG):
        return plain
    folder = settings.home / "evaluations" / run.run_id
    if not folder.exists():
        with fresh_folder(folder) as draft:
            tracking.download(run.run_id, ARTIFACTS, draft, settings)
    found = folder / ARTIFACTS
    return dataclasses.replace(plain, predictions=predictions.read(found), checks=checks.read(found))


def _job(subject: Subject, bench: Bench, run: tracking.Run) -> Job:
    settings, manifest = bench.settings, bench.code.manifest
    command = checks.command(manifest["command"], manifest["options"].get("checks", ()))
    return Job(
        package=dataclasses.replace(bench.code, manifest={**manifest, "command": command}),
        folder=settings.home / "runs" / run.run_id,
        inputs=Inputs(
            data_dir=datasets.fetch(bench.dataset, settings),
            model_dir=subject.files(),
            secrets_dir=settings.secrets_dir,
        ),
        params=manifest["params"],
        tracking=component.Tracking(
            uri=redact(settings.tracking_uri), run_id=run.run_id, experiment_id=run.experiment_id
        ),
    )


def _tags(subject: Subject, bench: Bench) -> dict[str, str]:
    return {
        **subject.tags,
        "taxiway.handle": bench.code.handle,
        "taxiway.evaluation.digest": bench.code.digest,
        "taxiway.dataset": bench.dataset.tag,
        "mlflow.project.entryPoint": "evaluation",
    }
