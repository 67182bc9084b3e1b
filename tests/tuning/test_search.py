"""A search with real trials: several workers, kills, failures, early ends, constraints, verdicts, pictures."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from taxiway.datasets import DatasetVersion
from taxiway.errors import InvalidSpecError, NoFeasibleTrialError
from taxiway.provenance import Provenance
from taxiway.registry import tracking
from taxiway.runners import on_this_host
from taxiway.settings import Settings
from taxiway.tuning import Limits, StudyPlan, close_study, open_study, pruning, session, study, tune, work

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("registered")]
Until = Callable[..., None]

TUNE = """
import json, sys
from taxiway.datasets.versions import DatasetVersion
from taxiway.settings import Settings
from taxiway.tuning import tune
asked = json.loads(sys.argv[1])
dataset = DatasetVersion.from_json(asked.pop("dataset"))
tune(asked.pop("handle"), dataset, Settings.from_environment(), repeats=0, **asked)
"""


def quiet(_line: str) -> None:
    return None


def trials(plan: StudyPlan, settings: Settings) -> "list[FrozenTrial]":
    with study.opened(plan, settings) as found:
        return found.get_trials(deepcopy=False)


def runs_of(handle: str, settings: Settings) -> tuple[tracking.Run, ...]:
    experiment = tracking.ensure_experiment(handle, settings)
    found = tracking.find_runs(experiment, {"taxiway.handle": handle}, settings)
    return tuple(run for run in found if run.tags["taxiway.kind"] in ("trial", "training"))


def test_workers_together_reach_the_number_that_is_asked_and_no_more(
    handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path, until: Until
) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    plan = open_study(handle, dataset, live, trials=7, params={"hold": str(hold)}, log=quiet)
    plan = StudyPlan.from_json(json.loads(json.dumps(plan.to_json())))
    with ThreadPoolExecutor(3) as pool:
        workers = [pool.submit(work, plan, live, worker=at, parallel=2, log=quiet) for at in range(3)]
        try:
            until(lambda: len(trials(plan, live)) > 2, 240)
        finally:
            # More of them have begun than one worker runs at a time.
            hold.unlink()
        done = [each.result() for each in workers]
    found = close_study(plan, live, repeats=0, log=quiet)
    assert sum(done) == found.trials == 7
    assert sum(done) > max(done)
    assert {each.state.name for each in trials(plan, live)} == {"COMPLETE"}
    assert len({each.params["c"] for each in trials(plan, live)}) == 7
    assert [run for run in runs_of(handle, live) if "taxiway.model_hash" in run.tags]


def test_killed_search_leaves_nothing_open_and_is_resumed_to_its_number(
    handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path, until: Until
) -> None:
    hold = tmp_path / "hold"
    asked: dict[str, Any] = {"trials": 3, "params": {"hold": str(hold)}, "parallel": 2}
    environment = {
        **os.environ,
        "TAXIWAY_HOME": str(live.home),
        "MLFLOW_TRACKING_URI": live.tracking_uri,
        "TAXIWAY_DATA_REPOSITORY": str(live.data_repository),
        "TAXIWAY_DATA_REMOTE": str(live.data_remote),
    }
    text = json.dumps(asked | {"handle": handle, "dataset": dataset.to_json()})
    hold.touch()
    killed = subprocess.Popen([sys.executable, "-c", TUNE, text], env=environment, stdout=subprocess.DEVNULL)
    until(hold.with_suffix(".pid").exists, 180)
    killed.send_signal(signal.SIGKILL)
    killed.wait(60)
    hold.unlink()
    found = tune(handle, dataset, live, repeats=0, log=quiet, **asked)
    plan = open_study(handle, dataset, live, trials=3, params=asked["params"], log=quiet)
    ended = trials(plan, live)
    states = [each.state.name for each in ended]
    assert (found.trials, states.count("COMPLETE")) == (3, 3)
    assert set(states) == {"COMPLETE", "FAIL"}
    left = {each.number: each.params for each in ended if each.state.name == "FAIL" and each.params}
    again = {each.user_attrs.get(study.RETRY_OF): each.params for each in ended}
    assert left
    assert all(again[number] == params for number, params in left.items())
    assert {run.status for run in runs_of(handle, live)} == {"FINISHED", "KILLED"}
    assert not list((live.home / "runs").glob("*/output"))


def test_trial_that_was_asked_for_by_one_who_died_before_he_claimed_it_is_closed(
    handle: str, dataset: DatasetVersion, live: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taxiway.tuning.claims.UNCLAIMED_S", 0.5)
    plan = open_study(handle, dataset, live, trials=2, log=quiet)
    assert plan.goal is not None
    with study.opened(plan, live) as found:
        found.ask(study.distributions(plan.goal))
    work(plan, live, log=quiet)
    assert [each.state.name for each in trials(plan, live)] == ["FAIL", "COMPLETE", "COMPLETE"]


def test_worker_that_breaks_off_leaves_no_trial_open(
    handle: str, dataset: DatasetVersion, live: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = open_study(handle, dataset, live, trials=2, log=quiet)

    def break_off(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("taxiway.training.execute", break_off)
    with pytest.raises(KeyboardInterrupt):
        work(plan, live, log=quiet)
    assert {each.state.name for each in trials(plan, live)} == {"FAIL"}


def test_failed_trial_is_tried_again_with_its_parameters(
    handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path
) -> None:
    (tmp_path / "fall").touch()
    asked = {"fall": str(tmp_path / "fall")}
    found = tune(handle, dataset, live, trials=2, params=asked, parallel=1, repeats=0, log=quiet)
    plan = open_study(handle, dataset, live, trials=2, params=asked, log=quiet)
    first, second, _ = trials(plan, live)
    assert (found.trials, found.failed) == (2, 1)
    assert (first.state.name, second.state.name) == ("FAIL", "COMPLETE")
    assert second.params == first.params


def test_trial_that_does_badly_is_ended_early(
    handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would never end by itself."""
    monkeypatch.setattr(pruning, "LOOK_S", 0.1)
    curse = tmp_path / "curse"
    params = {"curse": str(curse), "steps": 3}
    tune(handle, dataset, live, trials=5, params=params, parallel=3, repeats=0, log=quiet)
    curse.touch()
    found = tune(handle, dataset, live, trials=6, params=params, parallel=1, repeats=0, log=quiet)
    assert (found.trials, found.pruned, found.failed) == (6, 1, 0)
    ended = [run for run in runs_of(handle, live) if run.tags.get("taxiway.pruned")]
    assert [run.status for run in ended] == ["KILLED"]
    assert not list((live.home / "runs").glob("*/output"))


def test_trial_that_was_over_before_a_look_has_its_whole_curve(
    handle: str, dataset: DatasetVersion, live: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says at its end, to which Taxiway gives a step of its own, is none of it."""
    monkeypatch.setattr(pruning, "LOOK_S", 3600.0)
    plan = open_study(handle, dataset, live, trials=2, params={"steps": 3}, log=quiet)
    work(plan, live, parallel=1, log=quiet)
    for each in trials(plan, live):
        assert each.intermediate_values == {0: 0.5, 1: 0.5, 2: 0.5}


def test_best_trial_keeps_the_constraints(handle: str, dataset: DatasetVersion, live: Settings) -> None:
    """The best of all would be the largest."""
    goal = {"metric": "size", "constraints": [{"metric": "size", "at_most": 6}]}
    found = tune(handle, dataset, live, trials=8, goal=goal, parallel=3, repeats=0, log=quiet)
    sizes = [run.metrics["size"] for run in runs_of(handle, live)]
    assert max(sizes) > 6
    assert found.value == max(size for size in sizes if size <= 6)
    assert "size at most 6" in found.reason


def test_study_that_keeps_no_constraint_is_refused_and_names_the_closest(
    handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    goal = {"constraints": [{"metric": "size", "at_most": -1}]}
    with pytest.raises(NoFeasibleTrialError, match="size at most -1"):
        tune(handle, dataset, live, trials=2, goal=goal, repeats=0, log=quiet)


def test_several_objectives_give_a_front_and_pictures_of_each(
    handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path
) -> None:
    both = [{"metric": "score", "direction": "maximize"}, {"metric": "size", "direction": "maximize"}]
    found = tune(handle, dataset, live, trials=8, goal={"objectives": both}, parallel=3, repeats=0, log=quiet)
    assert len(found.front) > 1
    assert found.values.keys() == {"score", "size"}
    assert "score and size at once" in found.reason
    assert found.run_id is not None
    folder = tracking.download(found.run_id, "study", tmp_path, live)
    names = {path.name for path in folder.iterdir()}
    assert {"history-score.png", "history-size.png", "parallel-score.png", "trials.csv"} <= names


def test_pictures_and_table_are_artifacts_of_the_study(
    handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path
) -> None:
    found = tune(handle, dataset, live, trials=4, parallel=3, repeats=0, log=quiet)
    assert found.run_id is not None
    folder = tracking.download(found.run_id, "study", tmp_path, live)
    rows = json.loads((folder / "trials.json").read_text())
    assert [row["state"] for row in rows] == ["complete"] * 4
    for name in ("history.png", "importance.png", "parallel.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_search_that_improves_nothing_ends(handle: str, dataset: DatasetVersion, live: Settings) -> None:
    found = tune(
        handle,
        dataset,
        live,
        trials=20,
        goal={"metric": "one"},
        limits=Limits(patience=3),
        parallel=1,
        repeats=0,
        log=quiet,
    )
    assert (found.trials, found.stopped_by) == (4, "patience")


def test_retry_goes_on_with_the_time_that_the_try_before_it_left(
    handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    task = Provenance(dag_id="d", run_id="r", task_id="tune")

    def reopened(status: tracking.Status, by: Provenance | None = task) -> StudyPlan:
        """Return the search, opened again after a try that took 5,000 seconds and ended so."""
        first = open_study(handle, dataset, live, trials=1, provenance=by, log=quiet)
        assert first.run_id is not None
        tracking.log(first.run_id, live, tags={session.OPENED: repr(time.time() - 5_000)})
        tracking.finish(first.run_id, status, live)
        return open_study(
            handle, dataset, live, trials=1, limits=Limits(timeout_s=3_600), provenance=by, log=quiet
        )

    for status in ("FAILED", "RUNNING"):
        late = reopened(status)
        assert time.time() - late.opened_at_s > 4_999
        assert work(late, live, log=quiet) == 0
    assert time.time() - reopened("FAILED", None).opened_at_s < 3_600, "a notebook has no retries"
    another = reopened("FINISHED")
    assert time.time() - another.opened_at_s < 3_600
    assert work(another, live, log=quiet) == 1


def test_search_whose_time_is_over_begins_no_trial(
    handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    with pytest.raises(InvalidSpecError, match="none of 0 trials"):
        tune(handle, dataset, live, trials=3, limits=Limits(timeout_s=0.001), repeats=0, log=quiet)


def test_what_cannot_be_compared_is_another_study(
    handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    space = {"c": {"type": "float", "low": 0.0, "high": 0.5}}
    others: list[dict[str, Any]] = [
        {},
        {"seed": 1},
        {"params": {"luck": 1}},
        {"goal": {"space": space}},
        {"goal": {"direction": "minimize"}},
        {"goal": {"constraints": [{"metric": "size", "at_most": 1}]}},
    ]
    names = [open_study(handle, dataset, live, trials=1, log=quiet, **other).study for other in others]
    assert len(set(names)) == len(names)
    assert open_study(handle, dataset, live, trials=9, log=quiet).study == names[0]


def test_fresh_processes_and_forks_leave_the_same_model(
    handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    for at, runner in enumerate((None, on_this_host(live))):
        tune(handle, dataset, live, trials=1, goal={"constraints": [{"metric": "size", "at_most": 10 + at}]},
             repeats=0, runner=runner, log=quiet)  # fmt: skip
    warm, fresh = runs_of(handle, live)
    assert warm.run_id != fresh.run_id
    assert warm.tags["taxiway.model_hash"] == fresh.tags["taxiway.model_hash"]
