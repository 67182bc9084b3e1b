"""A search that is ended from outside ends at once, and says nothing of what it did not see to its end."""

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from taxiway.datasets import DatasetVersion
from taxiway.errors import JobStoppedError
from taxiway.packaging import CodePackage
from taxiway.registry import tracking
from taxiway.runners import Job, JobResult, Runner, Stop, on_this_host
from taxiway.settings import Settings
from taxiway.tuning import StudyPlan, close_study, open_study, study, tune, work
from taxiway.tuning.claims import SIGN, WORKER

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("registered")]


def quiet(_line: str) -> None:
    return None


class Ended:
    """A runner that somebody ends when some jobs have ended, as a killed task ends a runner of containers."""

    def __init__(self, runner: Runner, jobs: int) -> None:
        self._runner, self._jobs = runner, jobs
        self._begun, self._ended = itertools.count(1), itertools.count(1)
        self._is_over = threading.Event()

    def prepare(self, package: CodePackage) -> None:
        self._runner.prepare(package)

    def is_known(self, package: CodePackage, folder: Path) -> bool:
        return self._runner.is_known(package, folder)

    def forget(self, package: CodePackage, folder: Path) -> None:
        self._runner.forget(package, folder)

    def run(self, job: Job, log: Callable[[str], None], stop: Stop | None = None) -> JobResult:
        if next(self._begun) > self._jobs:
            self._is_over.wait()
            raise JobStoppedError(job.name)
        result = self._runner.run(job, log, stop)
        if next(self._ended) == self._jobs:
            self._is_over.set()
        return result


class OverError(Exception):
    """The time is over."""


@contextmanager
def over_once(begun: Path) -> Iterator[None]:
    """Raise in the main thread once a file is there, as Airflow's execution_timeout does."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise OverError

    def look() -> None:
        while not begun.exists() and not ended.wait(0.05):
            pass
        if not ended.is_set():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    before, ended = signal.signal(signal.SIGALRM, end), threading.Event()
    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        signal.signal(signal.SIGALRM, before)


@contextmanager
def let_go(hold: Path, after_s: float) -> Iterator[None]:
    """Let trials that wait for ever end after all: what would hang fails instead."""
    timer = threading.Timer(after_s, hold.unlink, kwargs={"missing_ok": True})
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def states_of(plan: StudyPlan, settings: Settings) -> list[str]:
    with study.opened(plan, settings) as found:
        return [each.state.name for each in found.get_trials()]


def test_killed_task_counts_no_trial_as_pruned_and_its_retry_reaches_the_number(
    handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    ended = Ended(on_this_host(live), 2)
    with pytest.raises(JobStoppedError):
        tune(handle, dataset, live, trials=5, parallel=2, repeats=0, runner=ended, log=quiet)
    plan = open_study(handle, dataset, live, trials=5, log=quiet)
    states = states_of(plan, live)
    assert states.count("COMPLETE") == 2
    assert set(states) == {"COMPLETE", "FAIL"}
    assert len(states) <= 4
    found = tune(handle, dataset, live, trials=5, repeats=0, runner=on_this_host(live), log=quiet)
    assert (found.trials, found.pruned, found.stopped_by) == (5, 0, "trials")


@pytest.mark.parametrize("runner", ["warm", "process"])
def test_search_whose_task_runs_out_of_time_ends_its_trials_and_begins_none(
    handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path, runner: str
) -> None:
    """They would wait for ever."""
    hold = tmp_path / "hold"
    hold.touch()
    where = None if runner == "warm" else on_this_host(live)
    asked: dict[str, Any] = {"trials": 6, "params": {"hold": str(hold)}, "log": quiet}
    with let_go(hold, 120), pytest.raises(OverError), over_once(hold.with_suffix(".pid")):
        tune(handle, dataset, live, parallel=2, repeats=0, runner=where, **asked)
    assert hold.exists(), "the trials went on until they were let go"
    plan = open_study(handle, dataset, live, **asked)
    assert set(states_of(plan, live)) == {"FAIL"}
    experiment = tracking.ensure_experiment(handle, live)
    runs = tracking.find_runs(experiment, {"taxiway.kind": "trial"}, live)
    assert len(runs) in (1, 2)
    assert {run.status for run in runs} == {"KILLED"}


@pytest.mark.parametrize("trials", [1, 2])
def test_trial_of_a_worker_that_died_on_another_host_is_waited_for_and_tried_again(
    trials: int, handle: str, dataset: DatasetVersion, live: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it had the last one: nobody else would begin anything for it."""
    monkeypatch.setattr("taxiway.tuning.claims.LEASE_S", 4.0)
    plan = open_study(handle, dataset, live, trials=trials, log=quiet)
    assert plan.goal is not None
    with study.opened(plan, live) as theirs:
        left = theirs.ask(study.distributions(plan.goal))
        left.set_user_attr(WORKER, {"name": "gone", "place": "elsewhere:/home"})
        theirs.set_user_attr(f"{SIGN}gone", time.time())
    work(plan, live, log=quiet)
    states = states_of(plan, live)
    assert (states[0], states.count("COMPLETE")) == ("FAIL", trials)
    assert close_study(plan, live, repeats=0, log=quiet).stopped_by == "trials"
