"""Measures a model version with the handle's registered evaluation package, and holds it against its bars.

Each measurement is an MLflow run and is made once for a version, an evaluation package and a dataset. The bars are
pure: `judge` takes numbers and returns reasons.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from taxiway import champion as champions
from taxiway import component, training
from taxiway import provenance as who
from taxiway.datasets import versions as datasets
from taxiway.datasets.versions import DatasetVersion
from taxiway.errors import GateFailedError, InvalidSpecError
from taxiway.packaging.package import CodePackage
from taxiway.project.evaluation import bar_faults
from taxiway.provenance import Provenance
from taxiway.registry import models, packages, tracking
from taxiway.registry.models import ModelVersion
from taxiway.runners import Inputs, Job, Runner, on_this_host
from taxiway.settings import Settings
from taxiway.tools import digest, exclusive, redact, remove

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """What a version must reach.

    Attributes:
        minimum: Lowest value of each metric.
        compare: Metric that must not fall below the champion's, or None.
        tolerance: How far below the champion's is still as good, in the metric's own unit.
    """

    minimum: Mapping[str, float]
    compare: str | None = None
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured, and whether it was enough.

    Attributes:
        handle: The handle.
        version: The version that was measured.
        metrics: What it measured.
        champion: The version it was compared with, or None where there is none.
        champion_metrics: What that one measured on the same data.
        passed: Whether every bar was reached.
        reasons: Why not, one for each bar; empty if it passed.
        url: Page of the measurement in MLflow's UI.
    """

    handle: str
    version: int
    metrics: Mapping[str, float]
    champion: int | None = None
    champion_metrics: Mapping[str, float] | None = None
    passed: bool
    reasons: tuple[str, ...] = ()
    url: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self) | {"reasons": list(self.reasons)}


def evaluate(
    handle: str,
    version: int,
    dataset: DatasetVersion,
    settings: Settings,
    *,
    minimum: Mapping[str, float] | None = None,
    compare: str | None = None,
    tolerance: float | None = None,
    provenance: Provenance | None = None,
    runner: Runner | None = None,
    log: Log = print,
) -> Evaluation:
    """Measure a version, and the champion on the same data, and hold it against its bars.

    Args:
        handle: The handle.
        version: The version to measure.
        dataset: The data to measure on.
        settings: Where everything is.
        minimum: Lowest value of each metric; None is the package's own, from `[tool.taxiway.evaluation]`.
        compare: Metric to compare with the champion; None is the package's own.
        tolerance: How far below the champion's is still as good; None is the package's own, else 0.
        provenance: Who asked; None for a notebook.
        runner: Where it runs; None is a process on this host.
        log: Called with each line that the component prints.

    Raises:
        GateFailedError: If a bar is not reached; every reason is named.
        ComponentFailedError: If the evaluation itself fails.
        ModelNotFoundError: If there is no such version.
        InvalidSpecError: If a bar is no number that can be compared, such as NaN.
    """
    code = packages.lookup(handle, "evaluation", settings)
    bars = _bars(code.manifest["options"], minimum, compare, tolerance)
    run_one = runner or on_this_host(settings)
    run, metrics = _measure(
        models.get(handle, version, settings), code, dataset, settings, provenance, run_one, log
    )
    live = champions.find(handle, settings, log) if bars.compare else None
    champion = live if live and live.version != version else None
    theirs = None
    if champion:
        _, theirs = _measure(champion, code, dataset, settings, provenance, run_one, log)
    reasons = judge(metrics, theirs, bars)
    tracking.log(run.run_id, settings, tags={"taxiway.gate": "; ".join(reasons) or "passed"})
    if reasons:
        raise GateFailedError(handle, version, reasons)
    log(f"{handle}/{version} passed: {_shown(metrics, bars)}")
    return Evaluation(
        handle=handle,
        version=version,
        metrics=metrics,
        champion=champion.version if champion else None,
        champion_metrics=theirs,
        passed=True,
        url=tracking.run_url(run, settings),
    )


def judge(metrics: Mapping[str, float], champion: Mapping[str, float] | None, bars: Bars) -> tuple[str, ...]:
    """Return why metrics do not reach the bars, one reason for each; none means that they do.

    Args:
        metrics: What the version measured.
        champion: What the champion measured on the same data; None for a first version, which the minimum alone holds.
        bars: What must be reached.
    """
    reasons = []
    for name, bar in bars.minimum.items():
        if name not in metrics:
            reasons.append(f"{name} was not measured, its minimum is {bar:g}")
        elif metrics[name] < bar:
            reasons.append(f"{name} {metrics[name]:.4g} is below its minimum {bar:g}")
    if bars.compare and champion is not None:
        reasons += _against_champion(bars.compare, metrics, champion, bars.tolerance)
    return tuple(reasons)


def _against_champion(
    name: str, metrics: Mapping[str, float], champion: Mapping[str, float], tolerance: float
) -> list[str]:
    if name not in metrics:
        return [f"{name} was not measured, so it cannot be compared with the champion"]
    if name not in champion:
        return [f"{name} of the champion was not measured, so it cannot be compared"]
    if metrics[name] < champion[name] - tolerance:
        return [
            f"{name} {metrics[name]:.4g} is below the champion's {champion[name]:.4g} by more than {tolerance:g}"
        ]
    return []


def _bars(
    given: Mapping[str, Any],
    minimum: Mapping[str, float] | None,
    compare: str | None,
    tolerance: float | None,
) -> Bars:
    bars = Bars(
        minimum=given.get("minimum", {}) if minimum is None else minimum,
        compare=given.get("compare") if compare is None else compare or None,
        tolerance=given.get("tolerance", 0.0) if tolerance is None else tolerance,
    )
    faults = bar_faults({"minimum": bars.minimum, "tolerance": bars.tolerance})
    if faults:
        raise InvalidSpecError(tuple(faults), "evaluation")
    return bars


def _measure(
    model: ModelVersion,
    code: CodePackage,
    dataset: DatasetVersion,
    settings: Settings,
    provenance: Provenance | None,
    runner: Runner,
    log: Log,
) -> tuple[tracking.Run, dict[str, float]]:
    """Return the run that measured a version, and its metrics; a finished one is reused."""
    key = digest([model.key, model.model_hash, code.digest, dataset.hash])
    experiment = tracking.ensure_experiment(model.handle, settings)
    own = {"taxiway.kind": "evaluation", "taxiway.key": key}
    with exclusive(settings.home / "runs" / f"{key[:32]}.lock"):
        found = tracking.find_runs(experiment, own, settings)
        done = next((run for run in found if run.status == "FINISHED"), None)
        if done:
            return done, dict(done.metrics)
        tags = own | _tags(model, code, dataset) | dict(who.tags(provenance))
        if found:
            run = found[0]
            tracking.reopen(run.run_id, tags, settings)
        else:
            run = tracking.create_run(experiment, f"evaluate v{model.version}", tags, settings)
        return run, _run(model, code, dataset, run, settings, runner, log)


def _run(
    model: ModelVersion,
    code: CodePackage,
    dataset: DatasetVersion,
    run: tracking.Run,
    settings: Settings,
    runner: Runner,
    log: Log,
) -> dict[str, float]:
    status: tracking.Status = "FAILED"
    try:
        tracking.log_dataset(run.run_id, training.dataset_input(dataset), "evaluation", settings)
        result = runner.run(_job(model, code, dataset, run, settings), log)
        metrics = component.read_metrics(result.output_dir)
        tracking.log(run.run_id, settings, metrics=metrics)
        remove(result.output_dir)
        status = "FINISHED"
        return metrics
    finally:
        tracking.finish(run.run_id, status, settings)


def _job(
    model: ModelVersion, code: CodePackage, dataset: DatasetVersion, run: tracking.Run, settings: Settings
) -> Job:
    return Job(
        package=code,
        folder=settings.home / "runs" / run.run_id,
        inputs=Inputs(
            data_dir=datasets.fetch(dataset, settings),
            model_dir=models.download(model, settings),
            secrets_dir=settings.secrets_dir,
        ),
        params=code.manifest["params"],
        tracking=component.Tracking(
            uri=redact(settings.tracking_uri), run_id=run.run_id, experiment_id=run.experiment_id
        ),
    )


def _tags(model: ModelVersion, code: CodePackage, dataset: DatasetVersion) -> dict[str, str]:
    return {
        "taxiway.handle": model.handle,
        "taxiway.model_version": str(model.version),
        "taxiway.evaluation.digest": code.digest,
        "taxiway.dataset": dataset.tag,
        "mlflow.project.entryPoint": "evaluation",
    }


def _shown(metrics: Mapping[str, float], bars: Bars) -> str:
    names = dict.fromkeys([*bars.minimum, *([bars.compare] if bars.compare else [])])
    return ", ".join(f"{name} {metrics[name]:.4g}" for name in names if name in metrics) or "no bar is set"
