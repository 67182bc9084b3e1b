"""One worker of a study: asks for trials, runs them and tells what came out, until the study has what was asked.

Any number of workers, on any number of hosts, may do so at once.
"""

import contextlib
import contextvars
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from taxiway.provenance import Provenance
from taxiway.registry import tracking
from taxiway.runners import Runner, Stop
from taxiway.settings import Settings
from taxiway.tools import exclusive
from taxiway.tuning import choice, keeping, study, trial
from taxiway.tuning.bench import Bench, Log, make_ready, runner_of_many
from taxiway.tuning.claims import UNCLAIMED_S, WORKER, Worker
from taxiway.tuning.plan import StudyPlan

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

StoppedBy = Literal["trials", "patience", "timeout", ""]


def work(
    plan: StudyPlan,
    settings: Settings,
    *,
    worker: int = 0,
    parallel: int = 1,
    provenance: Provenance | None = None,
    runner: Runner | None = None,
    log: Log = print,
) -> int:
    """Run trials until the study has those that were asked for, and return how many finished here.

    Args:
        plan: The study, opened.
        settings: Where everything is.
        worker: Number of this worker, from 0.
        parallel: Trials at a time.
        provenance: Who asked.
        runner: Where trials run; None is processes on this host that fork from a warm interpreter.
        log: Called with a line for each trial.

    Raises:
        ComponentFailedError: If trials failed here for good and the study has no trial that ended well.
        OutputFaultsError: The same, if what they left was wrong.
    """
    if plan.goal is None:
        return 0
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(runner_of_many(runner, settings, plan.seed, log))
        bench = make_ready(plan, plan.goal, settings, runner=where, provenance=provenance, log=log)
        found = stack.enter_context(study.opened(plan, settings, worker=worker))
        me = stack.enter_context(Worker(found, settings.home / "studies").working())
        with ThreadPoolExecutor(1) as late:
            search = Search(replace(bench, late=late), found, me)
            search.forget_failed()
            search.sweep()
            while True:
                if not search.is_done():
                    _run_threads(search, max(1, parallel))
                # What a worker left open that died is known now, and may be missing in the number.
                search.settle()
                if search.is_done():
                    break
        trials = search.trials()
        keeping.publish(bench, trials)
    if search.failures and not any(each.state.name == "COMPLETE" for each in trials):
        raise search.failures[-1]
    return search.finished_here


def stopped_by(plan: StudyPlan, trials: "list[FrozenTrial]") -> StoppedBy:
    """Return why no more trials are to be begun, or "" while some are."""
    goal = plan.goal
    given_up = sum(each.user_attrs.get(study.GIVEN_UP) == plan.session for each in trials)
    finished = sum(study.is_finished(each) for each in trials)
    if goal is None or finished + given_up >= plan.trials:
        return "trials"
    limits = plan.limits
    if limits.patience and choice.is_stuck(study.outcomes(trials, goal), limits.patience):
        return "patience"
    if limits.timeout_s is not None and time.time() >= plan.opened_at_s + limits.timeout_s:
        return "timeout"
    return ""


class Search:
    """What one worker does at a study; shared by its threads."""

    def __init__(self, bench: Bench, found: "optuna.Study", worker: Worker) -> None:
        self._bench, self._study, self._worker = bench, found, worker
        self._asking = bench.settings.home / "studies" / f"{bench.plan.study}.asking"
        self._ending = threading.Event()
        self._telling = threading.Lock()
        self._stops: dict[int, Stop] = {}
        self.failures: list[trial.Failure] = []
        self.finished_here = 0

    def trials(self) -> "list[FrozenTrial]":
        """Return every trial of the study as it is now."""
        return self._study.get_trials(deepcopy=False)

    def is_done(self) -> bool:
        """Tell whether no more trials are to be begun, with those that run counted as if they ended well."""
        trials = self.trials()
        return bool(stopped_by(self._bench.plan, trials)) or self._taken(trials) >= self._bench.plan.trials

    def work(self) -> None:
        """Run trials until none is to be begun, here or in another thread."""
        try:
            while not self._ending.is_set():
                asked = self._ask()
                if asked is None:
                    return
                self._run(asked)
        except BaseException:
            self._ending.set()
            raise

    def stop(self) -> None:
        """Begin no more trials, and end those that run; they are told as failed, for nobody judged them."""
        self._ending.set()
        for each in tuple(self._stops.values()):
            each.request()

    def forget_failed(self) -> None:
        """End what failed trials left running, as where the engine went away under them."""
        for each in self.trials():
            if each.state.name == "FAIL":
                self._forget(each)

    def sweep(self, signs: dict[str, float] | None = None) -> bool:
        """Close the trials that a killed worker left open, and let each be tried again.

        Args:
            signs: The last sign of life of each worker of another host when the caller began to look.

        Returns:
            Whether some are left of which nobody can say yet: they were asked for a moment ago, or by one who died
            then, or their worker has shown no sign of life since the caller began.
        """
        is_unclear = False
        for each in self.trials():
            if each.state.name != "RUNNING":
                continue
            if self._worker.is_abandoned(each):
                self._close(each)
            else:
                is_unclear |= WORKER not in each.user_attrs
                is_unclear |= signs is not None and self._worker.is_silent(each, signs)
        return is_unclear

    def settle(self) -> None:
        """Sweep until every open trial is somebody's who lives."""
        signs: dict[str, float] = {}
        while self.sweep(signs):
            time.sleep(UNCLAIMED_S / 20)

    def _ask(self) -> "Trial | None":
        """Return a new trial, claimed; None where none is to be begun."""
        # Between hosts there is no such lock: what two of them ask for at once is told apart by its number.
        with exclusive(self._asking):
            if self.is_done():
                return None
            asked = self._study.ask(study.distributions(self._bench.goal))
            self._worker.claim(asked)
        before = [each for each in self.trials() if each.number < asked.number]
        if self._taken(before) < self._bench.plan.trials:
            return asked
        asked.set_user_attr(study.SURPLUS, True)
        self._tell(asked.number, "FAIL")
        return None

    def _taken(self, trials: "list[FrozenTrial]") -> int:
        """Return how many of the trials that were asked for are done, under way or given up."""
        session = self._bench.plan.session
        return sum(
            study.is_finished(each)
            or each.state.name == "RUNNING"
            or each.user_attrs.get(study.GIVEN_UP) == session
            for each in trials
        )

    def _run(self, asked: "Trial") -> None:
        """Run a trial and tell how it ended, whatever happens."""
        is_told, stop = False, Stop()
        self._stops[asked.number] = stop
        try:
            if self._ending.is_set():
                stop.request()
            end = trial.run(self._bench, asked, stop)
            if end.failure is None:
                self._tell(asked.number, "COMPLETE" if end.values else "PRUNED", end.values)
            else:
                self._fail(asked, end.failure)
            is_told = True
        finally:
            del self._stops[asked.number]
            if not is_told:
                self._tell(asked.number, "FAIL")
        keeping.tidy(self._bench, self.trials())
        if end.failure is None:
            self.finished_here += 1
            self._say(asked, end.values)

    def _fail(self, asked: "Trial", failure: trial.Failure) -> None:
        attempt = int(asked.user_attrs.get(study.ATTEMPT, 1))
        is_given_up = attempt > self._bench.plan.limits.retries
        if is_given_up:
            self.failures.append(failure)
            asked.set_user_attr(study.GIVEN_UP, self._bench.plan.session)
        self._tell(asked.number, "FAIL")
        if not is_given_up:
            self._retry(asked.number, asked.params, attempt)
        what = (
            "is given up"
            if is_given_up
            else f"is tried again, {attempt} of {self._bench.plan.limits.retries}"
        )
        self._bench.log(f"trial {asked.number} failed and {what}: {failure}")

    def _close(self, left: "FrozenTrial") -> None:
        """Tell a trial whose worker is gone as failed; of several that do so, one lets it be tried again."""
        self._forget(left)
        if not self._tell(left.number, "FAIL"):
            return
        self._bench.log(f"trial {left.number} was left open by a worker that is gone; it is tried again")
        # A trial that ends its worker each time, for its need of memory, is not tried for ever.
        attempt = int(left.user_attrs.get(study.ATTEMPT, 1))
        if left.params and attempt <= self._bench.plan.limits.retries and not self.is_done():
            self._retry(left.number, left.params, attempt)
        own, settings = trial.own_tags(self._bench.plan.study, left.number), self._bench.settings
        for run in tracking.find_runs(self._bench.plan.experiment_id, own, settings):
            if run.status == "RUNNING":
                tracking.finish(run.run_id, "KILLED", settings)

    def _forget(self, ended: "FrozenTrial") -> None:
        """End what a trial may have left running: a container outlives its worker, and a new try is another job."""
        if study.RUN in ended.user_attrs:
            folder = self._bench.settings.home / "runs" / ended.user_attrs[study.RUN]
            self._bench.runner.forget(self._bench.base.training, folder)

    def _retry(self, number: int, params: Mapping[str, Any], attempt: int) -> None:
        self._study.enqueue_trial(
            dict(params), user_attrs={study.ATTEMPT: attempt + 1, study.RETRY_OF: number}
        )

    def _tell(self, number: int, state: str, values: list[float] | None = None) -> bool:
        """Tell how a trial ended; return whether it was still open."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        with self._telling:
            try:
                self._study.tell(number, values, state=TrialState[state])
            except (UpdateFinishedTrialError, ValueError):
                # Another worker, which took this one for lost, was first: the first word stands.
                return False
        return True

    def _say(self, asked: "Trial", values: list[float] | None) -> None:
        pairs = zip(self._bench.goal.objectives, values or (), strict=False)
        what = ", ".join(f"{each.metric} {value:.4g}" for each, value in pairs) or "ended early"
        self._bench.log(f"trial {asked.number}: {what} with {asked.params}")


def _run_threads(search: Search, count: int) -> None:
    with ThreadPoolExecutor(count) as pool:
        try:
            # Each thread holds the locks that this one does, and hands them down to what it starts.
            running = [pool.submit(contextvars.copy_context().run, search.work) for _ in range(count)]
            for each in running:
                each.result()
        except BaseException:
            # A task whose time is over, or a cell that is interrupted: the threads would work on to the last trial.
            search.stop()
            raise
