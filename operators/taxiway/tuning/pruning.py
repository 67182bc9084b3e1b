"""Ends a trial early that does worse than others did, from the metrics that its code logs to MLflow with a step.

Works for any framework: the code knows nothing of it. What MLflow does not answer prunes nothing.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from taxiway.errors import TransportError
from taxiway.registry import tracking
from taxiway.runners import Stop
from taxiway.settings import Settings

if TYPE_CHECKING:
    from optuna.trial import Trial

BADLY = "it does worse than the others did"
LOOK_S = 2.0
FEWEST_STEPS = 2


@contextlib.contextmanager
def watching(trial: "Trial", run_id: str, metric: str, settings: Settings, stop: Stop) -> Iterator[None]:
    """Look at a metric of a run again and again while the context lasts, and ask for its end where it does badly.

    A trial that has come to its end is looked at once more: others are held against its whole curve.

    Args:
        trial: The trial, which is told each new step.
        run_id: Its MLflow run.
        metric: The objective; a trial that logs it once has no curve and is never ended.
        settings: Which MLflow.
        stop: What ends the trial's job; its reason is then `BADLY`.
    """
    ended = threading.Event()
    watch = _Watch(trial, run_id, metric, settings, stop)
    thread = threading.Thread(target=watch.look, args=(ended,), daemon=True, name=f"trial {trial.number}")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    with contextlib.suppress(TransportError):
        watch.told()


class _Watch:
    def __init__(self, trial: "Trial", run_id: str, metric: str, settings: Settings, stop: Stop) -> None:
        self._trial, self._run_id, self._metric = trial, run_id, metric
        self._settings, self._stop = settings, stop
        self._steps: set[int] = set()

    def look(self, ended: threading.Event) -> None:
        while not ended.wait(LOOK_S):
            # While MLflow is away nobody knows how the trial does: it runs on, and is looked at again.
            with contextlib.suppress(TransportError):
                if self._is_bad():
                    self._stop.request(BADLY)
                    return

    def told(self) -> bool:
        """Tell the trial each step that came since the last look, and return whether there was one."""
        history = tracking.metric_history(self._run_id, self._metric, self._settings)
        known = len(self._steps)
        for step, value in history:
            if step >= 0 and step not in self._steps:
                self._trial.report(value, step)
                self._steps.add(step)
        return len(self._steps) > known

    def _is_bad(self) -> bool:
        return self.told() and len(self._steps) >= FEWEST_STEPS and self._trial.should_prune()
