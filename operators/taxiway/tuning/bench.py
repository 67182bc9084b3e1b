"""What the trials of one worker share, made ready once."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

from taxiway import training
from taxiway.provenance import Provenance
from taxiway.registry.recipe import Recipe
from taxiway.runners import DockerRunner, Runner, kept_warm, on_this_host
from taxiway.settings import Settings
from taxiway.tuning.goal import Goal
from taxiway.tuning.plan import StudyPlan

Log = Callable[[str], None]
_NO_PRUNING = (
    "note: no trial is ended early, for in a container without a network it cannot log to MLflow while it runs; "
    'set TAXIWAY_CONTAINER_NETWORK, or pruner = "none"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What the trials of one worker share.

    Attributes:
        plan: The study.
        goal: What is searched.
        base: What every trial is made of, but for what is searched.
        ready: Code and data on this host.
        settings: Where everything is.
        runner: Where trials run.
        provenance: Who asked.
        log: Called with a line for each trial.
        late: Where what is seen of a trial only some time after its end is written down; None waits for it.
    """

    plan: StudyPlan
    goal: Goal
    base: Recipe
    ready: training.Bench
    settings: Settings
    runner: Runner
    provenance: Provenance | None
    log: Log
    late: Executor | None = None


def make_ready(
    plan: StudyPlan,
    goal: Goal,
    settings: Settings,
    *,
    runner: Runner,
    provenance: Provenance | None,
    log: Log,
) -> Bench:
    """Return the bench of a worker, its code and data on this host."""
    base = plan.recipe(settings)
    if plan.pruner != "none" and isinstance(runner, DockerRunner) and settings.containers.network == "none":
        log(_NO_PRUNING)
    return Bench(
        plan=plan,
        goal=goal,
        base=base,
        ready=training.prepare(base, settings, runner),
        settings=settings,
        runner=runner,
        provenance=provenance,
        log=log,
    )


@contextlib.contextmanager
def runner_of_many(given: Runner | None, settings: Settings, seed: int, log: Log) -> Iterator[Runner]:
    """Give a runner of many jobs: the one that was given, a warm one for processes, or what the settings name."""
    if given is not None:
        yield given
    elif settings.runner == "process":
        with kept_warm(settings, log, seed) as warm:
            yield warm
    else:
        yield on_this_host(settings)
