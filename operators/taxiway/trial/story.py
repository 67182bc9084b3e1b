"""The story that the trial plays: a first version, a better one, and a bad one that does not get far.

Each chapter is a run of the same DAG, triggered over Airflow's REST API and followed to its end, while steady traffic
flows. The story only asks and looks: Airflow's tasks do the work and the controller moves the traffic.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from taxiway.trial.airflow_api import Task
from taxiway.trial.console import Console
from taxiway.trial.errors import StoryBrokenError
from taxiway.trial.load import Counts, Load
from taxiway.trial.samples import keep_samples, read_images
from taxiway.trial.services import DAG_ID, HANDLE
from taxiway.trial.stage import Stage
from taxiway.trial.summary import MIN_REQUESTS, earlier_accuracies
from taxiway_serving.names import READY_PATH

RATE_RPS: Final = 50.0
TRIALS: Final = 6
_PROJECT: Final = "visual_recognition"
_BAD: Final = "visual_recognition_regression"
_CHAPTER_DEADLINE_S: Final = 900.0
_LOOK_EVERY_S: Final = 0.5
_TAIL_LINES: Final = 15
_ROLLED_BACK: Final = re.compile("rolled ?back", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A DAG run that has ended."""

    chapter: str
    id: str
    state: str
    began_s: float
    tasks: tuple[Task, ...]

    def failed(self) -> Task | None:
        return next((task for task in self.tasks if task.state == "failed"), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """A model version that the story met.

    Attributes:
        version: Its number.
        accuracy: As its evaluation reported; None when it was live before the trial began and is not met again.
        role: What it is in the story.
        is_rolled_back: Whether its rollout ended so.
    """

    version: int
    accuracy: float | None
    role: str
    is_rolled_back: bool = False

    def state(self, live: int | None) -> str:
        """Return what became of it, given the version that is live now."""
        if self.is_rolled_back:
            return "rolled back"
        return "live" if self.version == live else "replaced"


class Story:
    """Plays the chapters on a stage.

    Args:
        stage: The running services.
        console: Where progress is printed.
        trials: Of the tuning of version 2, above 0.
    """

    def __init__(self, stage: Stage, console: Console, *, trials: int = TRIALS) -> None:
        self._stage, self._console, self._trials = stage, console, trials
        self._load: Load | None = None
        self.met: dict[int, Met] = {}
        self.rollback_s: float | None = None

    @property
    def counts(self) -> Counts:
        if self._load is None:
            return Counts(versions={})
        return self._load.counts

    def play(self) -> None:
        """Play every chapter.

        Raises:
            TrialError: If one does not go as it should.
        """
        self._end_what_was_interrupted()
        if self._stage.watch.live is None:
            self._first_version()
        else:
            self._live_from_before(self._stage.watch.live)
        self._better_version()
        self._bad_version()
        self._wait(lambda: self.counts.requests >= MIN_REQUESTS, "too few requests were answered")

    def look(self) -> None:
        """Do what has to be done all the time: see that the services live, and draw the live line."""
        self._stage.check()
        if self._load is not None:
            shares, counts = self._stage.watch.shares, self.counts
            self._console.live(shares, rate_rps=RATE_RPS, requests=counts.requests, failed=counts.failed)

    def stop(self) -> None:
        """End the traffic."""
        if self._load is not None:
            self._load.stop()

    def _first_version(self) -> None:
        run = self._run_dag("version 1", {"trials": 0})
        version = self._promoted(run)
        self._meet(run, version, "the first deployment")

    def _live_from_before(self, version: int) -> None:
        accuracy = earlier_accuracies(self._stage.layout.summary_file).get(version)
        self.met[version] = Met(version=version, accuracy=accuracy, role="live since an earlier trial")
        self._console.event("version 1", f"version {version} is live since an earlier trial")
        self._wait(self._endpoint_is_ready, "the endpoint is not ready")
        self._start_load()

    def _endpoint_is_ready(self) -> bool:
        url = f"{self._stage.addresses.endpoint}{READY_PATH}"
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(url, trust_env=False, timeout=5.0).is_success
        return False

    def _better_version(self) -> None:
        run = self._run_dag("version 2", {"trials": self._trials})
        version = self._promoted(run)
        is_new = version not in self.met
        self._meet(run, version, "tuned" if is_new else "tuned, and live already")

    def _bad_version(self) -> None:
        message = "Read the image in another way"
        self._stage.bundle.overlay(_BAD, _PROJECT, message)
        self._console.event("version 3", f"a commit changes the inference code: {message!r}")
        live = self._stage.watch.live
        run = self._run_dag("version 3", {"trials": self._trials})
        self._expect_rollback(run, live)
        version = self._version(run)
        self._meet(run, version, "fails on a part of the requests", is_rolled_back=True)
        self.rollback_s = self._measure_rollback(run, version)
        self._console.event(run.chapter, f"rolled back {self.rollback_s:.1f} s after its first bad answer")

    def _run_dag(self, chapter: str, conf: Mapping[str, Any]) -> Run:
        began_s = time.time()
        run_id = f"trial-{chapter.replace(' ', '-')}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime(began_s))}"
        self._stage.airflow.trigger(DAG_ID, run_id, conf)
        given = ", ".join(f"{name}={value}" for name, value in conf.items())
        self._console.event(chapter, f"DAG run triggered ({given})")
        state, tasks = self._follow(chapter, run_id)
        return Run(chapter=chapter, id=run_id, state=state, began_s=began_s, tasks=tasks)

    def _follow(self, chapter: str, run_id: str) -> tuple[str, tuple[Task, ...]]:
        airflow, told = self._stage.airflow, dict[str, str]()
        state, tasks = "queued", tuple[Task, ...]()

        def has_ended() -> bool:
            nonlocal state, tasks
            state = airflow.run_state(DAG_ID, run_id)
            tasks = airflow.tasks(DAG_ID, run_id)
            self._tell(chapter, tasks, told)
            self._keep_samples(run_id, tasks)
            if self._load is None and self._stage.watch.shares:
                self._start_load()
            return state in {"success", "failed"}

        self._wait(has_ended, f"the DAG run {run_id} has not ended")
        return state, tasks

    def _tell(self, chapter: str, tasks: tuple[Task, ...], told: dict[str, str]) -> None:
        for task in tasks:
            if told.get(task.name) != task.state:
                told[task.name] = task.state
                if line := _task_line(task):
                    self._console.event(chapter, line)

    def _keep_samples(self, run_id: str, tasks: tuple[Task, ...]) -> None:
        """Keep digits for the traffic as soon as the first transform made them."""
        samples = self._stage.layout.samples
        is_made = any(task.name == "transform" and task.state == "success" for task in tasks)
        if is_made and not any(samples.iterdir()):
            data = self._stage.airflow.result(DAG_ID, run_id, "transform")["path"]
            keep_samples(self._stage.data(data), samples)

    def _start_load(self) -> None:
        layout = self._stage.layout
        own = layout.checkout / "examples" / _PROJECT / "samples"
        images = read_images(layout.samples, own)
        url = self._stage.addresses.endpoint
        self._load = Load(url, images, rate_rps=RATE_RPS, log=layout.log("failed-requests"))
        self._load.start()
        self._console.event("traffic", f"{RATE_RPS:.0f} requests/s to {url}/predict from now on")

    def _promoted(self, run: Run) -> int:
        """Return the version that a run brought live.

        Raises:
            StoryBrokenError: If the run failed, or another version is live.
        """
        if run.state != "success":
            raise self._broken(run, run.failed())
        version = self._version(run)
        self._wait_for_all_traffic(version)
        return version

    def _wait_for_all_traffic(self, version: int | None) -> None:
        def has_all() -> bool:
            watch = self._stage.watch
            return watch.live == version and dict(watch.shares) == {version: 100.0}

        self._wait(has_all, f"version {version} does not have all of the traffic", deadline_s=60.0)

    def _expect_rollback(self, run: Run, live: int | None) -> None:
        failed = run.failed()
        if run.state == "success" or failed is None:
            raise StoryBrokenError(run.chapter, "the bad version was promoted; a rollback was due")
        is_by_design = failed.name == "traffic" and _ROLLED_BACK.search(self._log(run, failed))
        if not is_by_design:
            raise self._broken(run, failed)
        self._wait_for_all_traffic(live)

    def _measure_rollback(self, run: Run, version: int) -> float:
        found: Mapping[str, Any] = {}

        def is_measured() -> bool:
            nonlocal found
            seen = self._stage.watch.rollout_of(version, since_s=run.began_s)
            found = self._stage.controller.rollout(HANDLE, seen["id"]) if seen else {}
            return found.get("rolled_back_at_s") is not None

        self._wait(is_measured, f"no rollback of version {version} was reported", deadline_s=15.0)
        if found["first_bad_at_s"] is None:
            raise StoryBrokenError(run.chapter, f"version {version} was rolled back without a bad answer")
        return float(found["rolled_back_at_s"] - found["first_bad_at_s"])

    def _version(self, run: Run) -> int:
        return int(self._stage.airflow.result(DAG_ID, run.id, "train")["version"])

    def _meet(self, run: Run, version: int, role: str, *, is_rolled_back: bool = False) -> None:
        evaluation = self._stage.airflow.result(DAG_ID, run.id, "evaluate") or {}
        accuracy = evaluation.get("metrics", {}).get("accuracy")
        self.met[version] = Met(version=version, accuracy=accuracy, role=role, is_rolled_back=is_rolled_back)
        shown = "" if accuracy is None else f", accuracy {accuracy:.3f}"
        self._console.event(run.chapter, f"model version {version}: {role}{shown}")

    def _end_what_was_interrupted(self) -> None:
        """End the DAG runs and the rollout that an interrupted trial left: nobody follows them any more."""
        for run_id in self._stage.airflow.unfinished_runs(DAG_ID):
            self._stage.airflow.fail_run(DAG_ID, run_id)
            self._console.event("start", f"ended the DAG run {run_id} that was interrupted")
        rollout = self._stage.watch.unfinished_rollout
        if rollout is not None:
            self._stage.controller.act(HANDLE, rollout["id"], "abort")
            self._console.event(
                "start", f"ended the rollout of version {rollout['version']} that was interrupted"
            )

    def _wait(
        self, is_done: Callable[[], bool], what: str, *, deadline_s: float = _CHAPTER_DEADLINE_S
    ) -> None:
        deadline = time.monotonic() + deadline_s
        while not is_done():
            self.look()
            if time.monotonic() > deadline:
                raise StoryBrokenError("story", f"{what} after {deadline_s:.0f} s")
            time.sleep(_LOOK_EVERY_S)

    def _broken(self, run: Run, failed: Task | None) -> StoryBrokenError:
        if failed is None:
            return StoryBrokenError(run.chapter, f"the DAG run {run.id} failed")
        lines = self._log(run, failed).splitlines()
        log = self._stage.task_log(run.id, failed.name, failed.try_number)
        what = f"the task {failed.name} failed after {failed.duration_s:.0f} s"
        return StoryBrokenError(run.chapter, what, "\n".join(lines[-_TAIL_LINES:]), log)

    def _log(self, run: Run, task: Task) -> str:
        return self._stage.airflow.log(DAG_ID, run.id, task)


def _task_line(task: Task) -> str | None:
    """Return what is worth a line about a task's new state, None for what is not."""
    if task.has_ended:
        how = {"success": "done", "upstream_failed": "not run"}.get(task.state, task.state)
        return f"{task.name} {how} ({task.duration_s:.1f} s)"
    return f"{task.name} is tried again" if task.state == "up_for_retry" else None
