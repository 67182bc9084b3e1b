"""The supervisor with real small processes: nothing that it started, or that those started, outlives it."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from taxiway.trial import processes
from taxiway.trial.errors import ServiceFailedError
from taxiway.trial.supervisor import Service, Supervisor

pytestmark = pytest.mark.slow

SLEEP = "import time; time.sleep(600)"
# A child with a session of its own, as BentoML's workers have, that does not care for SIGTERM.
STUBBORN_TREE = f"""
import subprocess, sys, time
deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
child = subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    processes.adopt_orphans()
    supervisor = Supervisor(tmp_path / "processes.json", tmp_path, say=lambda _: None)
    yield supervisor
    supervisor.stop()
    processes.adopt_orphans(is_on=False)


def service(tmp_path: Path, code: str, *, name: str = "one", health_url: str | None = None) -> Service:
    return Service(
        name=name,
        command=(sys.executable, "-c", textwrap.dedent(code)),
        environment={"PATH": os.environ["PATH"]},
        cwd=tmp_path,
        health_url=health_url,
        grace_s=1.0,
    )


def until(is_true: Callable[[], object], *, deadline_s: float = 120.0) -> None:
    deadline = time.monotonic() + deadline_s
    while not is_true():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def printed_pid(log: Path) -> int:
    until(lambda: log.exists() and log.read_text().endswith("\n"))
    return int(log.read_text())


def test_supervisor_ends_a_tree_whose_child_ignores_the_signal(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.start(service(tmp_path, STUBBORN_TREE))
    child = printed_pid(tmp_path / "one.log")
    parent = supervisor.pid("one")

    supervisor.stop()

    assert not is_running(parent)
    assert not is_running(child)


def test_supervisor_ends_the_orphan_of_a_killed_service(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(service(tmp_path, STUBBORN_TREE))
    child = printed_pid(tmp_path / "one.log")
    until(lambda: str(child) in (tmp_path / "processes.json").read_text())
    os.kill(supervisor.pid("one"), signal.SIGKILL)

    supervisor.stop()

    assert not is_running(child)


def test_supervisor_starts_a_ready_service_again(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(service(tmp_path, SLEEP))
    supervisor.wait_ready(["one"], deadline_s=120.0)
    first = supervisor.pid("one")

    os.kill(first, signal.SIGKILL)

    until(lambda: supervisor.pid("one") != first and is_running(supervisor.pid("one")))
    supervisor.check()


def test_supervisor_reports_a_service_that_ends_before_it_is_ready(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.start(service(tmp_path, "raise SystemExit(3)", health_url="http://127.0.0.1:9/"))

    with pytest.raises(ServiceFailedError, match="one ended with code 3") as failure:
        supervisor.wait_ready(["one"], deadline_s=120.0)

    assert failure.value.log == tmp_path / "one.log"


def test_supervisor_gives_up_on_a_service_that_ends_again_and_again(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    code = (
        "import pathlib; p = pathlib.Path('count'); p.write_text(p.read_text() + 'x' if p.exists() else 'x')"
    )
    waiting_first = f"{code}\nimport time\nwhile not pathlib.Path('go').exists(): time.sleep(0.02)"
    supervisor.start(service(tmp_path, waiting_first))
    supervisor.wait_ready(["one"], deadline_s=120.0)
    (tmp_path / "go").touch()

    def has_given_up() -> bool:
        with contextlib.suppress(ServiceFailedError):
            supervisor.check()
            return False
        return True

    until(has_given_up)
    assert len((tmp_path / "count").read_text()) == 4


def test_supervisor_names_the_service_that_is_not_ready_in_time(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    supervisor.start(service(tmp_path, SLEEP, health_url="http://127.0.0.1:9/health"))

    with pytest.raises(
        ServiceFailedError, match=r"one was not ready after 0 s \(http://127.0.0.1:9/health\)"
    ):
        supervisor.wait_ready(["one"], deadline_s=0.1)


@pytest.mark.parametrize(
    ("code", "what"), [("pass", None), ("raise SystemExit(2)", "code 2")], ids=["good", "bad"]
)
def test_supervisor_runs_a_job_to_its_end(
    supervisor: Supervisor, tmp_path: Path, code: str, what: str | None
) -> None:
    expectation = pytest.raises(ServiceFailedError, match=what) if what else contextlib.nullcontext()

    with expectation:
        supervisor.run(service(tmp_path, code), deadline_s=120.0)


def test_supervisor_stops_twice_and_leaves_no_record(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(service(tmp_path, SLEEP))

    supervisor.stop()
    supervisor.stop()

    assert not (tmp_path / "processes.json").exists()


def test_leftovers_of_a_killed_trial_are_ended_by_the_next(tmp_path: Path) -> None:
    trial = subprocess.Popen([sys.executable, "-c", _trial_code(tmp_path)])
    child = printed_pid(tmp_path / "one.log")
    until(lambda: str(child) in (tmp_path / "processes.json").read_text())
    trial.kill()
    trial.wait()
    assert is_running(child)

    ended = processes.end_leftovers(tmp_path / "processes.json", grace_s=0.5)

    assert ended
    assert not is_running(child)


def test_leftovers_spare_another_process_with_a_used_pid(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEP]) as bystander:
        other = processes.Known(pid=bystander.pid, created_s=time.time() - 3600, name="python")
        (tmp_path / "processes.json").write_text(
            f'[{{"pid": {other.pid}, "created_s": {other.created_s}, "name": "x"}}]'
        )

        assert processes.end_leftovers(tmp_path / "processes.json") == ()

        assert bystander.poll() is None
        bystander.kill()


def test_reaper_of_a_process_that_adopts_nobody_leaves_each_child_to_who_waits_for_it() -> None:
    reaper = processes.OrphanReaper()
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as child:
        until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        for _ in range(3):
            reaper.look([])
        assert child.wait() == 3


def _trial_code(folder: Path) -> str:
    return f"""
import os, pathlib, sys, time
from taxiway.trial.supervisor import Service, Supervisor
home = pathlib.Path({str(folder)!r})
supervisor = Supervisor(home / "processes.json", home)
command = (sys.executable, "-c", {STUBBORN_TREE!r})
supervisor.start(Service(name="one", command=command, environment=dict(os.environ), cwd=home))
time.sleep(600)
"""
