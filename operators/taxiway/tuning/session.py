"""A search from its opening to its result: in one call, or as the three steps that Airflow's tasks take.

`open_study` decides what every worker must agree on, any number of calls of `search.work` do the work, and
`close_study` says what came out. `tune` does all three.
"""

import contextlib
import dataclasses
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from taxiway import provenance as who
from taxiway import training
from taxiway.arguments import typed
from taxiway.datasets.versions import DatasetVersion
from taxiway.errors import (
    InvalidSpecError,
    JobStoppedError,
    NoFeasibleTrialError,
    TaxiwayError,
    TransportError,
)
from taxiway.provenance import Provenance
from taxiway.registry import models, tracking
from taxiway.registry.recipe import Recipe
from taxiway.runners import Runner
from taxiway.settings import Settings
from taxiway.tools import exclusive
from taxiway.tuning import comparison, keeping, plots, search, study, verdict
from taxiway.tuning.bench import Bench, Log, make_ready, runner_of_many
from taxiway.tuning.choice import Choice, choose
from taxiway.tuning.claims import Worker
from taxiway.tuning.goal import Goal, goal_of
from taxiway.tuning.plan import Limits, StudyPlan, study_name
from taxiway.tuning.result import TuneResult
from taxiway.tuning.verdict import Verdict

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

REPEATS = 5
OPENED = "taxiway.opened_at_s"
"""When a task's search began, less what lay between its tries: a retry goes on with the time that is left."""


@typed
def tune(  # noqa: PLR0913 - what opens, works at and closes a study, in one call
    handle: str,
    dataset: DatasetVersion,
    settings: Settings,
    *,
    trials: int,
    goal: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    limits: Limits | None = None,
    digests: Mapping[str, str] | None = None,
    parallel: int = 2,
    repeats: int = REPEATS,
    provenance: Provenance | None = None,
    runner: Runner | None = None,
    log: Log = print,
) -> TuneResult:
    """Search until the study has `trials` finished trials, and return the best parameters.

    Args:
        handle: Its registered training package is what a trial runs.
        dataset: What each trial trains on.
        settings: Where everything is.
        trials: Finished trials to reach over all calls; 0 returns the defaults and starts nothing.
        goal: What to search and for what, in the words of `[tool.taxiway.tuning]`; each key replaces the package's.
        params: Over the package's defaults, for what is not searched.
        seed: Of every trial and of the sampler.
        limits: When the search gives up.
        digests: Digest of a registered package by its kind, where not the newest one is meant.
        parallel: Trials at a time.
        repeats: Seeds with which the best parameters are compared with the live version's, 3 to 30; 0 compares nothing.
        provenance: Who asked; None for a notebook.
        runner: Where trials run; None is processes on this host that fork from a warm interpreter.
        log: Called with each line of progress.

    Raises:
        InvalidSpecError: If space, objectives, constraints or a number is missing or wrong.
        ComponentFailedError: If every trial failed; the last one's error.
        NoFeasibleTrialError: If no trial keeps the constraints.
    """
    _check_repeats(repeats)
    by: dict[str, Any] = {"provenance": provenance, "log": log}
    asked: dict[str, Any] = {"goal": goal, "params": params, "seed": seed, "limits": limits}
    with runner_of_many(runner, settings, seed, log) as where:
        plan = open_study(handle, dataset, settings, trials=trials, digests=digests, **asked, **by)
        with _failed_unless_worked(plan, settings):
            search.work(plan, settings, parallel=parallel, runner=where, **by)
        return close_study(plan, settings, parallel=parallel, repeats=repeats, runner=where, **by)


def open_study(
    handle: str,
    dataset: DatasetVersion,
    settings: Settings,
    *,
    trials: int,
    goal: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    limits: Limits | None = None,
    digests: Mapping[str, str] | None = None,
    provenance: Provenance | None = None,
    log: Log = print,
) -> StudyPlan:
    """Open a study: fix the package, the data and what is searched, for every worker; arguments as `tune` takes them.

    Raises:
        InvalidSpecError: If space, objectives, constraints or a number is missing or wrong.
    """
    base = training.recipe_of(handle, dataset, settings, params=params, seed=seed, digests=digests, log=log)
    plan = StudyPlan(
        study="",
        session=uuid.uuid4().hex,
        opened_at_s=time.time(),
        handle=handle,
        training=base.training.digest,
        dataset=dataset,
        goal=None,
        params=base.params,
        seed=seed,
        source_models=base.source_models,
        trials=trials,
        limits=limits or Limits(),
    )
    faults = plan.limits.faults()
    if trials < 0 or faults:
        fault = () if trials >= 0 else (f"trials must be 0 or more, got {trials}",)
        raise InvalidSpecError((*fault, *faults), "tuning")
    if trials == 0:
        return plan
    read, pruner = goal_of(base.training.manifest["tuning"], goal or {})
    named = dataclasses.replace(plan, goal=read, study=study_name(base, read), pruner=pruner)
    return _with_run(named, base, settings, provenance)


def close_study(
    plan: StudyPlan,
    settings: Settings,
    *,
    parallel: int = 2,
    repeats: int = REPEATS,
    provenance: Provenance | None = None,
    runner: Runner | None = None,
    log: Log = print,
) -> TuneResult:
    """Return what a study found, with its pictures in MLflow; no trial of it is left open.

    Args:
        plan: The study, whose workers have ended.
        settings: Where everything is.
        parallel: Trainings at a time, of the comparison.
        repeats: Seeds of the comparison with the live version; 0 compares nothing.
        provenance: Who asked.
        runner: Where the comparison trains; None is as in `tune`.
        log: Called with each line of progress.

    Raises:
        NoFeasibleTrialError: If no trial keeps the constraints.
        InvalidSpecError: If no trial ended well: the workers say why.
    """
    _check_repeats(repeats)
    if plan.goal is None or plan.run_id is None:
        return TuneResult(params=plan.params)
    status: tracking.Status = "FAILED"
    try:
        with runner_of_many(runner, settings, plan.seed, log) as where:
            bench = make_ready(plan, plan.goal, settings, runner=where, provenance=provenance, log=log)
            result = _close(bench, parallel, repeats)
        status = "FINISHED"
        return result
    finally:
        tracking.finish(plan.run_id, status, settings)


@contextlib.contextmanager
def _failed_unless_worked(plan: StudyPlan, settings: Settings) -> Iterator[None]:
    """Mark a study's run as failed where its search does not come to an end: nobody closes it then."""
    try:
        yield
    except BaseException:
        if plan.run_id:
            tracking.finish(plan.run_id, "FAILED", settings)
        raise


def _close(bench: Bench, parallel: int, repeats: int) -> TuneResult:
    plan, settings = bench.plan, bench.settings
    with study.opened(plan, settings) as found:
        with Worker(found, settings.home / "studies").working() as me:
            search.Search(bench, found, me).settle()
        trials = found.get_trials(deepcopy=False)
        keeping.publish(bench, trials)
        taken = _taken(plan, bench.goal, trials)
        result = _result(plan, bench.goal, trials, taken)
        bench.log(f"study {plan.study}: trial {taken.number} is taken: {taken.reason}")
        plots.upload(found, plan, bench.goal, settings, bench.log)
    result = _judged(result, bench, parallel, repeats)
    best = {
        "taxiway.best_run_id": trials[taken.number].user_attrs[study.RUN],
        "taxiway.reason": taken.reason,
    }
    _note(result, best, plan, settings)
    return result


def _note(result: TuneResult, tags: Mapping[str, str], plan: StudyPlan, settings: Settings) -> None:
    """Write down in the study's run what was found, with the verdict where there is one."""
    numbers = {f"best_{name}": value for name, value in result.values.items()}
    if result.better:
        ends = {"difference": result.difference, "low": result.low, "high": result.high}
        numbers |= {name: value for name, value in ends.items() if value is not None}
        tags = {
            **tags,
            "taxiway.better": result.better,
            "taxiway.verdict": result.verdict[: models.MOST_TAG],
            "taxiway.rival": result.rival,
        }
    tracking.log(plan.run_id or "", settings, metrics=numbers, tags=tags)


def _taken(plan: StudyPlan, goal: Goal, trials: "list[FrozenTrial]") -> Choice:
    found = study.outcomes(trials, goal)
    taken = choose(found, goal)
    if taken is not None:
        return taken
    ended = [each for each in found if each.losses]
    if not ended:
        raise InvalidSpecError((f"none of {len(trials)} trials ended well",), f"study {plan.study}")
    closest = min(ended, key=lambda each: each.violation)
    broken = tuple(name for name, value in trials[closest.number].constraints.items() if value > 0)
    raise NoFeasibleTrialError(plan.study, len(found), closest.number, broken)


def _result(plan: StudyPlan, goal: Goal, trials: "list[FrozenTrial]", taken: Choice) -> TuneResult:
    best, names = trials[taken.number], [each.metric for each in goal.objectives]
    front = [
        {"number": number, "params": dict(trials[number].params), "values": list(trials[number].values)}
        for number in taken.front
    ]
    failed = [each for each in trials if each.state.name == "FAIL" and study.SURPLUS not in each.user_attrs]
    return TuneResult(
        params={**plan.params, **best.params},
        value=best.values[0],
        values=dict(zip(names, best.values, strict=True)),
        study=plan.study,
        trials=sum(study.is_finished(each) for each in trials),
        pruned=sum(each.state.name == "PRUNED" for each in trials),
        failed=len(failed),
        reason=taken.reason,
        front=front,
        stopped_by=search.stopped_by(plan, trials),
        run_id=plan.run_id,
        url=plan.url,
    )


def _judged(result: TuneResult, bench: Bench, parallel: int, repeats: int) -> TuneResult:
    if repeats == 0:
        return result
    try:
        rival = comparison.rival_of(bench.base, bench.settings, bench.log)
        found = comparison.compare(bench, result.params, rival, repeats, parallel)
    except (JobStoppedError, TransportError):
        raise
    except TaxiwayError as exc:
        # The search has ended well; what it found is not thrown away because nobody can say how good it is.
        bench.log(f"the parameters could not be compared with what is there: {exc}")
        return dataclasses.replace(result, better="inconclusive", verdict=f"could not be compared: {exc}")
    bench.log(_sentence(found, rival.name))
    return dataclasses.replace(
        result,
        better=found.better,
        verdict=found.reason,
        rival=rival.name,
        difference=found.difference,
        low=found.low,
        high=found.high,
    )


def _sentence(found: Verdict, rival: str) -> str:
    ends = ""
    if found.difference is not None:
        ends = f"; difference {found.difference:+.4g}, 95 % interval {found.low:+.4g} to {found.high:+.4g}"
    return f"better than {rival}: {found.better}; {found.reason}{ends}"


def _check_repeats(repeats: int) -> None:
    if repeats and not verdict.FEWEST <= repeats <= verdict.MOST:
        fault = f"repeats must be 0, or {verdict.FEWEST} to {verdict.MOST}, got {repeats}"
        raise InvalidSpecError((fault,), "tuning")


def _with_run(plan: StudyPlan, base: Recipe, settings: Settings, provenance: Provenance | None) -> StudyPlan:
    experiment = tracking.ensure_experiment(plan.handle, settings)
    own = {"taxiway.kind": "study", "taxiway.study": plan.study}
    tags = training.run_tags(base, "study", provenance) | own
    with exclusive(settings.home / "studies" / f"{plan.study}.opening"):
        found = tracking.find_runs(experiment, {**own, **who.identity(provenance)}, settings)
        spent_s = _spent_s(found[0], plan.opened_at_s) if found and provenance else 0.0
        opened_at_s = plan.opened_at_s - spent_s
        tags[OPENED] = repr(opened_at_s)
        if found:
            run = found[0]
            tracking.reopen(run.run_id, tags, settings)
        else:
            run = tracking.create_run(experiment, f"tune {base.dataset.tag}", tags, settings)
    url = tracking.run_url(run, settings)
    return dataclasses.replace(
        plan, experiment_id=experiment, run_id=run.run_id, url=url, opened_at_s=opened_at_s
    )


def _spent_s(run: tracking.Run, now_s: float) -> float:
    """Return how long a task searched in the tries before this one; nothing where its search came to its end."""
    if run.status == "FINISHED" or OPENED not in run.tags:
        return 0.0
    # One that was killed may have searched until a moment ago.
    ended_at_s = now_s if run.status == "RUNNING" else run.ended_at_s
    return max(0.0, ended_at_s - float(run.tags[OPENED]))
