"""A study goes on where it was, nests its trials, and its best trial is the training that follows."""

from pathlib import Path

import pytest

from taxiway.datasets import DatasetVersion
from taxiway.errors import ComponentFailedError, InvalidSpecError
from taxiway.packaging import package
from taxiway.registry import packages, tracking
from taxiway.settings import Settings
from taxiway.training import train
from taxiway.tuning import Limits, tune

pytestmark = pytest.mark.slow


@pytest.fixture
def registered(handled: Path, live: Settings) -> Path:
    """Return the project, its training package registered."""
    packages.register(package(str(handled), live, kinds=["training"]), live)
    return handled


def trials_of(handle: str, settings: Settings) -> tuple[tracking.Run, ...]:
    experiment = tracking.ensure_experiment(handle, settings)
    runs = tracking.find_runs(experiment, {"taxiway.handle": handle}, settings)
    return tuple(run for run in runs if run.tags["taxiway.kind"] in ("trial", "training"))


def test_no_trials_are_the_defaults(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    found = tune(handle, dataset, live, trials=0, params={"extra": 1})
    assert (found.params, found.value, found.run_id) == ({"c": 0.5, "extra": 1}, None, None)


def test_study_nests_its_trials_and_finds_better_parameters(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    found = tune(handle, dataset, live, trials=4, repeats=0)
    runs = trials_of(handle, live)
    assert len(runs) == found.trials == 4
    assert {run.tags["mlflow.parentRunId"] for run in runs} == {found.run_id}
    assert {run.status for run in runs} == {"FINISHED"}
    assert found.value == max(run.metrics["score"] for run in runs)
    assert found.params["c"] != 0.5
    assert not list((live.home / "runs").glob("*/output"))


def test_study_goes_on_to_the_number_of_trials_that_is_asked(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    first = tune(handle, dataset, live, trials=2, repeats=0)
    assert tune(handle, dataset, live, trials=2, repeats=0) == first
    second = tune(handle, dataset, live, trials=3, repeats=0)
    assert (second.study, second.trials, second.run_id) == (first.study, 3, first.run_id)
    assert len(trials_of(handle, live)) == 3


def test_best_trial_is_the_training_that_follows(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    found = tune(handle, dataset, live, trials=2, repeats=0)
    packages.register(package(str(registered), live, kinds=["inference"]), live)
    made = train(handle, dataset, live, params=found.params)
    assert made.run_id in {run.run_id for run in trials_of(handle, live)}
    assert made.metrics["score"] == found.value


def test_failed_trials_are_tried_again_and_do_not_end_the_study(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    lines: list[str] = []
    found = tune(
        handle,
        dataset,
        live,
        trials=4,
        params={"fail_below": 0.6},
        limits=Limits(retries=1),
        parallel=1,
        repeats=0,
        log=lines.append,
    )
    failed = [run for run in trials_of(handle, live) if run.status == "FAILED"]
    retried = [run for run in failed if "taxiway.retry_of" in run.tags]
    assert len(failed) == found.failed == 2 * len(retried) > 0
    assert found.trials + len(retried) == 4
    assert any("c is too small" in line for line in lines)


def test_study_whose_trials_all_fail_is_an_error(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    with pytest.raises(ComponentFailedError):
        tune(handle, dataset, live, trials=1, params={"fail_below": 2.0}, limits=Limits(retries=0))


def test_objective_that_is_wrong_is_refused_with_every_fault(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    space = {"c": {"type": "float", "low": 1.0}, "d": {"type": "guess"}}
    with pytest.raises(InvalidSpecError) as caught:
        tune(handle, dataset, live, trials=1, goal={"space": space, "direction": "up"})
    assert len(caught.value.faults) == 3
