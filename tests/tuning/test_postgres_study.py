"""A study on a real PostgreSQL: workers begin it at once, share its trials, and miss one that was killed."""

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxiway.datasets import DatasetVersion
from taxiway.errors import ComponentFailedError
from taxiway.settings import Settings
from taxiway.tuning import Limits, study, tune
from taxiway.tuning.claims import LEASE_S, SIGN, WORKER, Worker
from taxiway.tuning.plan import StudyPlan
from tests.postgres import PASSWORD, Postgres
from tests.tuning.test_study import GOAL, plan

__all__ = ["plan"]
TRIALS = 8
Until = Callable[..., None]
WORK = """
import json, os, signal, sys
from pathlib import Path
from taxiway.settings import Settings
from taxiway.tuning import study
from taxiway.tuning.claims import Worker
from taxiway.tuning.plan import StudyPlan

plan = StudyPlan.from_json(json.loads(sys.argv[1]))
home, number, place, dies = Path(sys.argv[2]), int(sys.argv[3]), sys.stdin.read(), sys.argv[4] == "dies"
settings = Settings(home=home, data_repository=home, study_storage=place)
(home / "studies").mkdir(parents=True, exist_ok=True)
with (
    study.opened(plan, settings, worker=number) as found,
    Worker(found, home / "studies").working() as me,
):
    for _ in range(int(sys.argv[5])):
        trial = found.ask(study.distributions(plan.goal))
        me.claim(trial)
        trial.report(0.5, 0)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        found.tell(trial, trial.params["c"])
"""


def begun(plan: StudyPlan, home: Path, number: int, url: str, *, dies: bool = False) -> subprocess.Popen[str]:
    told = [json.dumps(plan.to_json()), str(home), str(number), "dies" if dies else "works", str(TRIALS)]
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, *told],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(url)
    process.stdin.close()
    process.stdin = None
    return process


@pytest.mark.slow
def test_study_on_postgresql_is_shared_by_workers_that_begin_it_at_once(
    plan: StudyPlan, tmp_path: Path, postgres: Postgres
) -> None:
    url = postgres.database()
    homes = [tmp_path / name for name in ("one", "two", "three")]
    workers = [begun(plan, home, number, url) for number, home in enumerate(homes[:2])]
    dying = begun(plan, homes[2], 2, url, dies=True)
    for worker in workers:
        told, _ = worker.communicate(timeout=180)
        assert worker.returncode == 0, told
        assert PASSWORD not in told
    assert dying.wait(timeout=180) == -9
    if dying.stdout is not None:
        dying.stdout.close()

    settings = Settings(home=tmp_path / "four", data_repository=tmp_path, study_storage=url)
    with study.opened(plan, settings) as found:
        trials = found.get_trials()
        ended = [trial for trial in trials if study.is_finished(trial)]
        assert [trial.number for trial in trials] == list(range(2 * TRIALS + 1))
        assert len(study.outcomes(trials, GOAL)) == len(ended) == 2 * TRIALS
        assert len({trial.user_attrs[WORKER]["name"] for trial in ended}) == 2
        (left,) = (trial for trial in trials if not study.is_finished(trial))
        here = Worker(found, tmp_path / "four" / "studies")
        assert not here.is_abandoned(left)
        sign = SIGN + left.user_attrs[WORKER]["name"]
        found.set_user_attr(sign, found.user_attrs[sign] - LEASE_S - 5)
        assert here.is_abandoned(left)


@pytest.mark.slow
@pytest.mark.usefixtures("registered")
def test_search_on_postgresql_leaves_no_connection_open(
    handle: str, dataset: DatasetVersion, live: Settings, postgres: Postgres, tmp_path: Path, until: Until
) -> None:
    """Threads that run trials, watch them or show a sign of life have sessions of their own."""
    url = postgres.database()
    where = replace(live, study_storage=url)
    asked: dict[str, Any] = {"params": {"steps": 2}, "parallel": 3, "repeats": 0, "log": lambda _: None}
    found = tune(handle, dataset, where, trials=3, **asked)
    assert (found.trials, found.stopped_by) == (3, "trials")
    ours = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    database = url.rpartition("/")[2]
    # A server notices that its client has gone a moment later.
    until(lambda: not postgres.execute(ours, database=database), 60)
    gc.collect()

    # Nor does one that fails.
    fall = tmp_path / "fall"
    fall.touch()
    with pytest.raises(ComponentFailedError):
        tune(
            handle,
            dataset,
            where,
            trials=1,
            limits=Limits(retries=0),
            **asked | {"params": {"fall": str(fall)}},
        )
    until(lambda: not postgres.execute(ours, database=database), 60)
    gc.collect()
