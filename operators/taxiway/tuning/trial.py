"""Runs one trial: the registered training with other parameters, in an MLflow run of its own below the study's."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taxiway import training
from taxiway.errors import ComponentFailedError, JobStoppedError, OutputFaultsError
from taxiway.registry import tracking
from taxiway.registry.recipe import Recipe
from taxiway.runners import Stop
from taxiway.tuning import pruning, study
from taxiway.tuning.bench import Bench

if TYPE_CHECKING:
    from optuna.trial import Trial

Failure = ComponentFailedError | OutputFaultsError


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a trial ended.

    Attributes:
        values: One for each objective, or None if it did not come to its end.
        failure: Why it failed; None for one that was ended early.
    """

    values: list[float] | None = None
    failure: Failure | None = None


def run(bench: Bench, trial: "Trial", stop: Stop) -> End:
    """Run a trial to its end, which MLflow knows when this returns; the study is not told of it.

    Raises:
        JobStoppedError: If somebody ended it who did not judge it: the trial says nothing of its parameters.
    """
    recipe = dataclasses.replace(bench.base, params={**bench.base.params, **trial.params})
    opened = _open(bench, recipe, trial)
    trial.set_user_attr(study.RUN, opened.run_id)
    status: tracking.Status = "FAILED"
    try:
        values = _execute(bench, recipe, opened, trial, stop)
        status = "FINISHED"
        return End(values=values)
    except JobStoppedError:
        status = "KILLED"
        if stop.reason != pruning.BADLY:
            raise
        tracking.log(opened.run_id, bench.settings, tags={"taxiway.pruned": "true"})
        return End()
    except (ComponentFailedError, OutputFaultsError) as exc:
        return End(failure=exc)
    finally:
        tracking.finish(opened.run_id, status, bench.settings)


def own_tags(study_name: str, number: int) -> dict[str, str]:
    """Return the tags by which the MLflow run of a trial is found, also where its worker died before it said which."""
    return {"taxiway.study": study_name, "taxiway.trial": str(number)}


def _execute(bench: Bench, recipe: Recipe, opened: tracking.Run, trial: "Trial", stop: Stop) -> list[float]:
    def log(line: str) -> None:
        bench.log(f"trial {trial.number} | {line}")

    watched = None
    if bench.plan.pruner != "none":
        metric = bench.goal.objectives[0].metric
        watched = pruning.watching(trial, opened.run_id, metric, bench.settings, stop)
    _, metrics = training.execute(
        recipe, bench.ready, opened, bench.settings, bench.runner, log, stop, late=bench.late, watched=watched
    )
    values, violations = bench.goal.measured(metrics)
    for name, violation in violations.items():
        trial.set_constraint(name, violation)
    return values


def _open(bench: Bench, recipe: Recipe, trial: "Trial") -> tracking.Run:
    tags = training.run_tags(recipe, "trial", bench.provenance)
    tags |= {"mlflow.parentRunId": bench.plan.run_id or "", **own_tags(bench.plan.study, trial.number)}
    retried = trial.user_attrs.get(study.RETRY_OF)
    tags |= {} if retried is None else {"taxiway.retry_of": f"trial {retried}"}
    return tracking.create_run(bench.plan.experiment_id, f"trial {trial.number}", tags, bench.settings)
