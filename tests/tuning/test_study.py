"""Where a study is kept: a line that was cut is mended, a lock dies with its holder."""

import subprocess
import sys
from pathlib import Path

import pytest

from taxiway.datasets.versions import DatasetVersion
from taxiway.settings import Settings
from taxiway.tuning import study
from taxiway.tuning.claims import LEASE_S, SIGN, WORKER, Worker
from taxiway.tuning.goal import Goal, Objective
from taxiway.tuning.plan import Limits, StudyPlan

SPACE: dict[str, dict[str, object]] = {
    "c": {"type": "float", "low": 0.0, "high": 1.0},
    "k": {"type": "categorical", "choices": ["a", "b"]},
}
GOAL = Goal(space=SPACE, objectives=(Objective(metric="score", direction="maximize"),))
DATA = DatasetVersion.from_json(
    {
        "name": "n",
        "version": 1,
        "tag": "n@v1",
        "commit": "c",
        "hash": "h",
        "size_bytes": 1,
        "files": 1,
        "repository": "r",
    }
)


@pytest.fixture
def plan() -> StudyPlan:
    return StudyPlan(
        study="study",
        session="session",
        opened_at_s=0,
        handle="tiny",
        training="d",
        dataset=DATA,
        goal=GOAL,
        params={},
        source_models={},
        trials=3,
        limits=Limits(patience=2),
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, data_repository=tmp_path / "data")


def test_plan_survives_json(plan: StudyPlan) -> None:
    assert StudyPlan.from_json(plan.to_json()) == plan


def test_line_that_was_cut_is_cut_off_and_the_study_goes_on(plan: StudyPlan, settings: Settings) -> None:
    with study.opened(plan, settings) as first:
        first.tell(first.ask(study.distributions(GOAL)), 1.0)
    journal = settings.home / "studies" / "study.journal"
    with journal.open("a") as file:
        file.write('{"op_code":4,"worker_id":"x')
    with study.opened(plan, settings) as second:
        second.tell(second.ask(study.distributions(GOAL)), 2.0)
    with study.opened(plan, settings) as third:
        assert [each.value for each in third.get_trials()] == [1.0, 2.0]


def test_writer_that_was_killed_holds_nobody_up(plan: StudyPlan, settings: Settings) -> None:
    with study.opened(plan, settings):
        pass
    lock = settings.home / "studies" / "study.lock"
    code = (
        f"import fcntl, os, signal\\nf = os.open({str(lock)!r}, os.O_RDWR)\\nfcntl.flock(f, fcntl.LOCK_EX)\\n"
    )
    code = code.replace("\\n", "\n") + "os.kill(os.getpid(), signal.SIGKILL)\n"
    subprocess.run([sys.executable, "-c", code], check=False)
    with study.opened(plan, settings) as found:
        found.tell(found.ask(study.distributions(GOAL)), 1.0)


def test_study_may_lie_in_a_shared_folder(plan: StudyPlan, settings: Settings, tmp_path: Path) -> None:
    shared = Settings(home=tmp_path / "one", data_repository=tmp_path, study_storage=str(tmp_path / "shared"))
    with study.opened(plan, shared):
        assert (tmp_path / "shared" / "study.journal").exists()


def test_study_may_lie_in_a_database(plan: StudyPlan, tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/studies.db"
    settings = Settings(home=tmp_path / "one", data_repository=tmp_path, study_storage=place)
    with study.opened(plan, settings) as found:
        trial = found.ask(study.distributions(GOAL))
        Worker(found, tmp_path / "one" / "studies").claim(trial)
        found.tell(trial, 1.0)
    with study.opened(plan, settings) as again:
        assert study.outcomes(again.get_trials(), GOAL)[0].losses == (-1.0,)


def test_address_of_a_storage_is_not_shown(settings: Settings) -> None:
    shown = Settings(
        home=settings.home,
        data_repository=settings.home,
        study_storage="postgresql+psycopg2://user:s3cret@host/db",
    )
    assert "s3cret" not in repr(shown)


def test_trial_is_abandoned_when_its_worker_is_gone(plan: StudyPlan, settings: Settings) -> None:
    folder = settings.home / "studies"
    with study.opened(plan, settings) as found:
        here = Worker(found, folder)
        with here.working(), Worker(found, folder).working() as other:
            trial = found.ask(study.distributions(GOAL))
            other.claim(trial)
            assert not here.is_abandoned(found.get_trials()[0])
        assert here.is_abandoned(found.get_trials()[0])


@pytest.mark.parametrize(("age_s", "gone"), [(0.0, False), (LEASE_S + 5, True)], ids=["alive", "silent"])
def test_worker_of_another_host_is_gone_when_it_is_silent(
    plan: StudyPlan, settings: Settings, age_s: float, *, gone: bool
) -> None:
    import time

    with study.opened(plan, settings) as found:
        trial = found.ask(study.distributions(GOAL))
        trial.set_user_attr(WORKER, {"name": "far", "place": "elsewhere:/x"})
        found.set_user_attr(f"{SIGN}far", time.time() - age_s)
        assert Worker(found, settings.home / "studies").is_abandoned(found.get_trials()[0]) is gone


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({}, Limits()),
        ({"retries": "0", "patience": "", "timeout_s": "2.5"}, Limits(retries=0, timeout_s=2.5)),
    ],
    ids=["nothing", "texts"],
)
def test_limits_are_read_as_templates_make_them(given: dict[str, object], limits: Limits) -> None:
    assert Limits.from_json(given) == limits
