"""Optuna's study: where it is kept, how it samples, what its trials measured.

A file serves the workers of one host, or of all hosts that share its folder; PostgreSQL serves any. Optuna is imported
in functions, here and in the other modules of this package.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from taxiway.settings import Settings
from taxiway.tuning.choice import Outcome
from taxiway.tuning.goal import Goal
from taxiway.tuning.plan import StudyPlan

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

RUN, ATTEMPT, RETRY_OF = "mlflow_run_id", "taxiway_attempt", "taxiway_retry_of"
GIVEN_UP, SURPLUS = "taxiway_given_up", "taxiway_surplus"
STARTUP_TRIALS = 5
_TABLES_LOCK = 0x7461786977617902


@contextlib.contextmanager
def opened(plan: StudyPlan, settings: Settings, *, worker: int = 0) -> "Iterator[optuna.Study]":
    """Give the study of a plan, made if it is not there; nothing of its storage is open when the context has ended.

    Args:
        plan: The study's name, goal, seed and pruner.
        settings: Where it is kept.
        worker: Number of this worker: no two of them shall draw the same.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _storage(plan.study, settings) as storage:
        study = optuna.create_study(
            storage=storage,
            study_name=plan.study,
            directions=[
                "maximize" if each.direction == "maximize" else "minimize" for each in _goal(plan).objectives
            ],
            load_if_exists=True,
            pruner=_pruner(plan.pruner),
        )
        drawn = len(study.get_trials(deepcopy=False))
        study.sampler = optuna.samplers.TPESampler(
            seed=plan.seed + drawn + 10_007 * worker, multivariate=True, constant_liar=True
        )
        yield study


def distributions(goal: Goal) -> "dict[str, optuna.distributions.BaseDistribution]":
    """Return a space as Optuna takes it."""
    from optuna import distributions

    kinds: dict[str, Callable[..., optuna.distributions.BaseDistribution]] = {
        "float": distributions.FloatDistribution,
        "int": distributions.IntDistribution,
        "categorical": distributions.CategoricalDistribution,
    }
    return {
        name: kinds[item["type"]](**{key: value for key, value in item.items() if key != "type"})
        for name, item in goal.space.items()
    }


def outcomes(trials: "Iterable[FrozenTrial]", goal: Goal) -> list[Outcome]:
    """Return what finished trials measured, in the order of their numbers; failed ones are left out."""
    return [
        Outcome(
            number=each.number,
            losses=_losses(each, goal),
            violation=sum(max(0.0, value) for value in each.constraints.values()),
        )
        for each in trials
        if is_finished(each)
    ]


def _losses(trial: "FrozenTrial", goal: Goal) -> tuple[float, ...]:
    # Optuna gives a trial that was ended early the last value it reported: it is none that counts.
    if trial.state.name != "COMPLETE":
        return ()
    return tuple(each.loss(value) for each, value in zip(goal.objectives, trial.values, strict=True))


def is_finished(trial: "FrozenTrial") -> bool:
    """Tell whether a trial counts among those that were asked for: it ended well, or was ended early."""
    return trial.state.name in ("COMPLETE", "PRUNED")


def _goal(plan: StudyPlan) -> Goal:
    if plan.goal is None:
        raise ValueError("a plan without trials has no study")
    return plan.goal


def _pruner(name: str) -> "optuna.pruners.BasePruner":
    import optuna

    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS)
    return optuna.pruners.NopPruner()


@contextlib.contextmanager
def _storage(name: str, settings: Settings) -> "Iterator[optuna.storages.BaseStorage]":
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    place = settings.study_storage or str(settings.home / "studies")
    if "://" in place:
        _make_tables(place)
        with _database(place) as storage:
            yield storage
        return
    path = Path(place).expanduser() / f"{name}.journal"
    path.parent.mkdir(parents=True, exist_ok=True)
    yield JournalStorage(JournalFileBackend(str(path), lock_obj=cast("Any", _KernelLock(path))))


@contextlib.contextmanager
def _database(place: str) -> "Iterator[optuna.storages.RDBStorage]":
    """Give Optuna's storage in a database; a connection of it is closed with its session, in every thread."""
    import sqlalchemy as sa
    from optuna.storages import RDBStorage

    storage = RDBStorage(place, engine_kwargs={"poolclass": sa.NullPool})
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _make_tables(place: str) -> None:
    """Let one worker at a time make Optuna's tables in a PostgreSQL: two that begin at once would both try."""
    import sqlalchemy as sa

    engine = sa.create_engine(place)
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_lock(_TABLES_LOCK)))
                with _database(place):
                    pass
    finally:
        # The lock goes with its connection.
        engine.dispose()


class _KernelLock:
    """Lets one process at a time write to a journal; the kernel frees it when its holder dies.

    Optuna's own locks are files that a killed process leaves, and others wait 30 s for. A line that a process could
    not finish, since it was killed or the disk was full, is cut off before the next is written.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._descriptor = -1

    def acquire(self) -> bool:
        descriptor = os.open(self._journal.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._descriptor = descriptor
        _cut_broken_line(self._journal)
        return True

    def release(self) -> None:
        os.close(self._descriptor)


def _cut_broken_line(path: Path) -> None:
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        if end == 0:
            return
        file.seek(end - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
