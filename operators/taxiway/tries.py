"""Which MLflow run a try of a job goes on in: that of the try before it, unless that holds what cannot be taken back.

What a component logged to a run by itself stays there: MLflow deletes no metric, and no parameter is ever changed.
"""

from collections.abc import Mapping, Sequence

from taxiway.packaging.package import CodePackage
from taxiway.registry import tracking
from taxiway.runners import Runner
from taxiway.settings import Settings
from taxiway.tools import remove

ABANDONED = "abandoned"


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
        begun: Runs of earlier tries that have no result, the newest first.
        tags: Of the run.
        settings: Where everything is.
        experiment_id: For a new run.
        name: For a new run.
        package: What the job runs.
        runner: Where; a job that it goes on with keeps its run, whatever is in there.
        params: Parameters that Taxiway itself logs: any other is the component's own.
    """
    if not begun:
        return tracking.create_run(experiment_id, name, tags, settings)
    last = begun[0]
    is_clean = not last.metrics and set(last.params) <= set(params)
    if is_clean or runner.is_known(package, settings.home / "runs" / last.run_id):
        tracking.reopen(last.run_id, tags, settings)
        return last
    _abandon(last, package, settings, runner)
    run = tracking.create_run(experiment_id, name, tags, settings)
    tracking.log(last.run_id, settings, tags={"taxiway.superseded_by": run.run_id})
    return run


def _abandon(run: tracking.Run, package: CodePackage, settings: Settings, runner: Runner) -> None:
    folder = settings.home / "runs" / run.run_id
    runner.forget(package, folder)
    remove(folder)
    tracking.log(run.run_id, settings, tags={"taxiway.kind": ABANDONED})
    tracking.finish(run.run_id, "KILLED", settings)
