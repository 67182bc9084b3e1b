"""A try goes on in the run of the one before it, unless somebody elsewhere may be at work in that."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway import tries
from taxiway.packaging import CodePackage, Materialised
from taxiway.registry import tracking
from taxiway.runners import ProcessRunner
from taxiway.settings import Settings

pytestmark = pytest.mark.slow
PACKAGE = CodePackage(
    handle="tiny", kind="training", digest="d" * 64, source_hash="", lock_hash="", python=""
)


@pytest.fixture
def attempt(handle: str, live: Settings) -> Callable[..., tracking.Run]:
    """Return a function that opens the run of a try, in any home, as one of the same job."""
    experiment = tracking.ensure_experiment(handle, live)
    ready = Materialised(source_dir=live.home, python=Path(sys.executable))

    def tried(settings: Settings) -> tracking.Run:
        begun = tracking.find_runs(experiment, {"taxiway.kind": "training"}, settings)
        return tries.open_run(
            begun,
            {"taxiway.kind": "training"},
            settings,
            experiment_id=experiment,
            name="try",
            package=PACKAGE,
            runner=ProcessRunner(lambda _: ready),
            params={},
        )

    return tried


@pytest.fixture
def elsewhere(live: Settings, tmp_path: Path) -> Settings:
    """Return settings of another home, whose locks are none of ours."""
    return replace(live, home=tmp_path / "elsewhere")


def test_run_of_a_try_before_is_gone_on_with_at_home(
    attempt: Callable[..., tracking.Run], live: Settings
) -> None:
    assert attempt(live).run_id == attempt(live).run_id


def test_run_that_may_be_alive_elsewhere_is_left_alone(
    attempt: Callable[..., tracking.Run], live: Settings, elsewhere: Settings
) -> None:
    there = attempt(elsewhere)
    here = attempt(live)
    assert here.run_id != there.run_id
    assert attempt(live).run_id == here.run_id
    assert attempt(elsewhere).run_id == there.run_id
    found = tracking.get_run(there.run_id, live)
    assert (found.status, found.tags["taxiway.kind"]) == ("RUNNING", "training")


def test_run_that_was_silent_for_long_or_failed_elsewhere_is_gone_on_with(
    attempt: Callable[..., tracking.Run], live: Settings, elsewhere: Settings
) -> None:
    there = attempt(elsewhere)
    long_ago = str(int(time.time() - 2 * tries.SILENT_S))
    tracking.log(there.run_id, live, tags={tries.ALIVE_AT: long_ago})
    assert attempt(live).run_id == there.run_id
    assert attempt(elsewhere).run_id != there.run_id, "by now it is alive here"
    tracking.finish(there.run_id, "FAILED", live)
    assert attempt(replace(live, home=live.home / "third")).run_id == there.run_id


def test_run_says_that_it_is_alive_while_somebody_works_in_it(
    attempt: Callable[..., tracking.Run], live: Settings, until: Callable[..., None]
) -> None:
    run = attempt(live)
    tracking.log(run.run_id, live, tags={tries.ALIVE_AT: "0"})
    with tries.alive(run, live, every_s=0.01):
        until(lambda: tracking.get_run(run.run_id, live).tags[tries.ALIVE_AT] != "0", 60)
