"""The walk of the gate: measure a version and the champion, judge, leave a report in MLflow, open or stay closed."""

import dataclasses
import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from taxiway import champion as champions
from taxiway import provenance as who
from taxiway.datasets.versions import DatasetVersion
from taxiway.errors import GateFailedError, InvalidSpecError
from taxiway.evaluation import gate, measuring, report
from taxiway.evaluation.values import Bars, Evaluation, Measured
from taxiway.packaging.package import CodePackage
from taxiway.project.evaluation import bar_faults
from taxiway.provenance import Provenance
from taxiway.registry import models, packages, tracking, verdicts
from taxiway.registry.models import ModelVersion
from taxiway.runners import Runner, on_this_host
from taxiway.settings import Settings
from taxiway.tools import digest

Log = Callable[[str], None]
REPORT, PAGE, VERDICT = "report", "report.html", "verdict.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What a version of a handle must reach, as the handle's registered packages say.

    Attributes:
        bars: From `[tool.taxiway.evaluation]`, in the evaluation package.
        sla: From `[tool.taxiway.sla]`, in the inference package.
        contract: File of the contract that `verify` proves, or None.
    """

    bars: Bars
    sla: Mapping[str, float]
    contract: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rival:
    """What a version is held against.

    Attributes:
        version: Number of the champion, or None where there is none beside the version itself.
        measured: What that one measured on the same data.
        unknown: Why nobody can tell whether there is a champion; "" where that is known.
        notes: What is not sure of it.
        faults: Why what it measured cannot be relied on.
    """

    version: int | None = None
    measured: Measured | None = None
    unknown: str = ""
    notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def evaluate(
    handle: str,
    version: int,
    dataset: DatasetVersion,
    settings: Settings,
    *,
    minimum: Mapping[str, float] | None = None,
    maximum: Mapping[str, float] | None = None,
    compare: str | Mapping[str, str] | None = None,
    tolerance: float | None = None,
    inconclusive: str | None = None,
    digests: Mapping[str, str] | None = None,
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
        maximum: Highest value of each metric; None is the package's own.
        compare: Metric to compare, higher is better, or `{metric, direction}`; None is the package's own, "" is none.
        tolerance: How much worse than the champion's is still as good; None is the package's own, else 0.
        inconclusive: Whether what nobody can tell is to `fail` or to `pass`; None is the package's own, else `fail`.
        digests: Digest of a registered package by its kind, where not the newest one is meant.
        provenance: Who asked; None for a notebook.
        runner: Where it runs; None is a process on this host.
        log: Called with each line that the component prints.

    Raises:
        GateFailedError: If a bar is not reached, or nobody can say what the evaluation read; every reason is named.
        ComponentFailedError: If the evaluation itself fails.
        OutputFaultsError: If it leaves no metrics, or predictions that break the contract.
        ModelNotFoundError: If there is no such version, or MLflow does not have the one that is live.
        AuthenticationError: If the controller does not say which version is live, for it refuses the token.
        InvalidSpecError: If a bar is no number that can be compared, such as NaN.
    """
    code = packages.lookup(handle, "evaluation", settings, (digests or {}).get("evaluation"))
    said = {"minimum": minimum, "maximum": maximum, "compare": compare, "tolerance": tolerance}
    bars = bars_of(code, said | {"inconclusive": inconclusive})
    where = runner or on_this_host(settings)
    bench = measuring.Bench(
        code=code, dataset=dataset, settings=settings, provenance=provenance, runner=where, log=log
    )
    found = _walk(models.get(handle, version, settings), bars, bench)
    return _opened(found, bars, log)


def criteria(handle: str, settings: Settings) -> Criteria:
    """Return what a version of a handle must reach: its acceptance criteria, stored with its packages.

    Raises:
        PackageNotRegisteredError: If the handle has no registered evaluation or inference package.
    """
    code = packages.lookup(handle, "evaluation", settings)
    served = packages.lookup(handle, "inference", settings).manifest
    return Criteria(
        bars=bars_of(code, {}),
        sla=served["sla"],
        contract=served.get("contract"),
    )


def _opened(found: Evaluation, bars: Bars, log: Log) -> Evaluation:
    """Return the evaluation of a version that passed, and log what it is worth and what is not sure of it.

    Raises:
        GateFailedError: If it did not pass.
    """
    if not found.passed:
        raise GateFailedError(found.handle, found.version, found.reasons, found.report_url)
    for note in found.notes:
        log(f"note: {note}")
    values = _shown(found.metrics, bars)
    log(f"{found.handle}/{found.version} passed: {values}; report: {found.report_url}")
    return found


def _walk(model: ModelVersion, bars: Bars, bench: measuring.Bench) -> Evaluation:
    """Measure a version and what it is held against, and leave the report; whether it passed is in what is returned."""
    settings = bench.settings
    inference = packages.lookup(model.handle, "inference", settings, model.inference_digest)
    subject = report.Subject(dataset=bench.dataset.tag, bars=bars, sla=inference.manifest["sla"])
    run, ours = measuring.measure(model, bench)
    rival = _rival(model, bars, bench)
    found = _judged(run, model, ours=ours, rival=rival, subject=subject, settings=settings)
    found = _doubted(found, (*measuring.faults(run, bench), *rival.faults), settings)
    return _leave(found, run, subject, ours, rival.measured, bench)


def _rival(model: ModelVersion, bars: Bars, bench: measuring.Bench) -> _Rival:
    if not bars.compare:
        return _Rival()
    found = champions.look(model.handle, bench.settings)
    if found.version is None:
        unknown = champions.unknown(found, model.handle, bench.settings, beside=model.version)
        return _Rival(unknown=unknown)
    notes = (found.doubt,) if found.doubt else ()
    if found.version.version == model.version:
        return _Rival(notes=notes)
    run, theirs = measuring.measure(found.version, bench)
    return _Rival(
        version=found.version.version, measured=theirs, notes=notes, faults=measuring.faults(run, bench)
    )


def _doubted(found: Evaluation, doubts: tuple[str, ...], settings: Settings) -> Evaluation:
    """Return a verdict that says what makes its measurement doubtful: no pass, unless the settings allow it."""
    if not doubts:
        return found
    said = tuple(dict.fromkeys(f"the measurement cannot be relied on: {doubt}" for doubt in doubts))
    if settings.allow_untraceable:
        return dataclasses.replace(found, notes=(*found.notes, *said))
    return dataclasses.replace(found, passed=False, reasons=(*found.reasons, *said))


def _judged(
    run: tracking.Run,
    model: ModelVersion,
    *,
    ours: Measured,
    rival: _Rival,
    subject: report.Subject,
    settings: Settings,
) -> Evaluation:
    theirs, p99_ms = rival.measured, subject.sla["p99_ms"]
    findings = gate.judge(ours, theirs, subject.bars, unknown=rival.unknown, p99_ms=p99_ms)
    reasons = gate.refusals(findings, subject.bars)
    return Evaluation(
        handle=model.handle,
        version=model.version,
        metrics=dict(ours.metrics),
        champion=rival.version,
        champion_metrics=dict(theirs.metrics) if theirs else None,
        passed=not reasons,
        reasons=reasons,
        notes=(*gate.notes(findings, subject.bars), *rival.notes),
        findings=findings,
        url=tracking.run_url(run, settings),
    )


def _leave(
    found: Evaluation,
    run: tracking.Run,
    subject: report.Subject,
    ours: Measured,
    theirs: Measured | None,
    bench: measuring.Bench,
) -> Evaluation:
    """Leave the report and the verdict beside those of other bars and other people; return where the report is."""
    settings, asked_by = bench.settings, bench.provenance
    verdict = found.to_json() | {"bars": dataclasses.asdict(subject.bars), "sla": dict(subject.sla)}
    mark = digest([verdict, dict(who.identity(asked_by))])[:12]
    found = dataclasses.replace(found, report_url=f"{found.url}/artifacts/{REPORT}/{mark}/{PAGE}")
    said = "; ".join(found.reasons) or "passed"
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    told = verdicts.Verdict(said=said, by=verdicts.asker(asked_by), at=now)
    with TemporaryDirectory() as text, measuring.alone(run.tags["taxiway.key"], bench):
        folder = Path(text)
        (folder / PAGE).write_text(report.page(found, subject, ours, theirs), encoding="utf-8")
        document = verdict | {"report_url": found.report_url, "by": told.by, "at": told.at}
        (folder / VERDICT).write_text(json.dumps(document, indent=2), encoding="utf-8")
        tracking.upload(run.run_id, folder, f"{REPORT}/{mark}", settings)
        latest = tracking.get_run(run.run_id, settings)
        tracking.log(run.run_id, settings, tags=verdicts.tags(latest, mark, told))
    return found


def bars_of(code: CodePackage, said: Mapping[str, Any]) -> Bars:
    """Return the bars of an evaluation package.

    Args:
        code: The package.
        said: Over the package's own, by key; None leaves the package's.

    Raises:
        InvalidSpecError: If a bar is no number that can be compared, such as NaN; every fault is named.
    """
    options, keys = code.manifest["options"], Bars.__dataclass_fields__
    given: dict[str, Any] = {name: options[name] for name in keys if options.get(name) is not None}
    given |= {name: value for name, value in said.items() if value is not None}
    faults = bar_faults(given)
    if faults:
        raise InvalidSpecError(tuple(faults), "evaluation")
    classes = given.get("class_minimum", {})
    own = {
        **_compared(given.get("compare")),
        "slices": tuple(given.get("slices", ())),
        "checks": tuple(given.get("checks", ())),
        "class_minimum": classes if isinstance(classes, Mapping) else {gate.EVERY: classes},
    }
    return Bars(**{**given, **own})


def _compared(said: Any) -> dict[str, Any]:
    """Return metric and direction of a comparison, of which a project may say the metric alone."""
    if isinstance(said, Mapping):
        return {"compare": said["metric"], "direction": said["direction"]}
    return {"compare": said or None, "direction": "maximize"}


def _shown(metrics: Mapping[str, float], bars: Bars) -> str:
    names = dict.fromkeys([*bars.minimum, *bars.maximum, *([bars.compare] if bars.compare else [])])
    return ", ".join(f"{name} {metrics[name]:.4g}" for name in names if name in metrics) or "no bar is set"
