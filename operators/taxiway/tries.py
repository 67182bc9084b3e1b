"""Which MLflow run a try of a job goes on in: that of the try before it, unless that holds what cannot be taken back.

What a component logged to a run by itself stays there: MLflow deletes no metric, and no parameter is ever changed.
A job holds a lock of its home while it runs, so an earlier try of this host and home has ended. Of another one nobody
here knows: its run says now and then that it is alive, and is left alone until it has been silent for long.
"""

import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from taxiway.errors import TaxiwayError
from taxiway.packaging.package import CodePackage
from taxiway.registry import tracking
from taxiway.runners import Runner
from taxiway.settings import Settings
from taxiway.tools import remove

ABANDONED = "abandoned"
SAY_S, SILENT_S, END_S = 30.0, 300.0, 1.0
HOST, HOME, ALIVE_AT = "taxiway.host", "taxiway.home", "taxiway.alive_at"


def open_run(
    begun: Sequence[tracking.Run],
    tags: Mapping[str, str],
    settings: Settings,
    *,
    experiment_id: str,
    name: str,
    package: CodePackage,
    runner: Runner,
    params: Mapping[str, object],
) -> tracking.Run:
    """Return the run for the next try of a job, open.

    Args:
        begun: Runs of earlier tries that have no result, the newest first. One that may be alive elsewhere is left
            alone, and a new one is opened beside it.
        tags: Of the run.
        settings: Where everything is.
        experiment_id: For a new run.
        name: For a new run.
        package: What the job runs.
        runner: Where; a job that it goes on with keeps its run, whatever is in there.
        params: Parameters that Taxiway itself logs: any other is the component's own.
    """
    own = {**tags, **_signs(settings)}
    ended = [run for run in begun if _has_ended(run, package, settings, runner)]
    if not ended:
        return tracking.create_run(experiment_id, name, own, settings)
    last = ended[0]
    is_clean = not last.metrics and set(last.params) <= set(params)
    if is_clean or runner.is_known(package, settings.home / "runs" / last.run_id):
        tracking.reopen(last.run_id, own, settings)
        return last
    _abandon(last, package, settings, runner)
    run = tracking.create_run(experiment_id, name, own, settings)
    tracking.log(last.run_id, settings, tags={"taxiway.superseded_by": run.run_id})
    return run


@contextmanager
def alive(run: tracking.Run, settings: Settings, every_s: float = SAY_S) -> Iterator[None]:
    """Say now and then, while the block lasts, that somebody works in a run."""
    over = threading.Event()

    def say() -> None:
        while not over.wait(every_s):
            # The work is worth more than the sign of it, which is given again soon.
            with suppress(TaxiwayError):
                tracking.log(run.run_id, settings, tags=_signs(settings))

    thread = threading.Thread(target=say, name="a run is alive", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(END_S)


def _signs(settings: Settings) -> dict[str, str]:
    return {**_place(settings), ALIVE_AT: str(int(time.time()))}


def _place(settings: Settings) -> dict[str, str]:
    return {HOST: socket.gethostname(), HOME: str(settings.home)}


def _has_ended(run: tracking.Run, package: CodePackage, settings: Settings, runner: Runner) -> bool:
    """Tell whether nobody works in a run any more, or works in what this try would go on with."""
    place = _place(settings)
    is_ours = all(run.tags.get(key, value) == value for key, value in place.items())
    is_silent = time.time() - float(run.tags.get(ALIVE_AT, 0.0)) > SILENT_S
    if run.status != "RUNNING" or is_ours or is_silent:
        return True
    return runner.is_known(package, settings.home / "runs" / run.run_id)


def _abandon(run: tracking.Run, package: CodePackage, settings: Settings, runner: Runner) -> None:
    folder = settings.home / "runs" / run.run_id
    runner.forget(package, folder)
    remove(folder)
    tracking.log(run.run_id, settings, tags={"taxiway.kind": ABANDONED})
    tracking.finish(run.run_id, "KILLED", settings)
