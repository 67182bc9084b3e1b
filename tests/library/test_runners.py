"""A component runs alone, is heard at once, and ends with whoever started it."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from taxiway.errors import ComponentFailedError, JobStoppedError
from taxiway.packaging import Materialised
from taxiway.runners import Job, JobResult, ProcessRunner, Stop, WarmRunner
from taxiway.tools import claimed
from tests.library.jobs import end_caller, is_alive, tiny_package

Until = Callable[..., None]


def make_job(tmp_path: Path, script: str, *, command: str = "python main.py", **params: object) -> Job:
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    (source / "main.py").write_text(script)
    return Job(package=tiny_package(command), folder=tmp_path / "job", params=params)


def run(job: Job, log: Callable[[str], None] = print, stop: Stop | None = None) -> JobResult:
    ready = Materialised(source_dir=job.folder.parent / "source", python=Path(sys.executable))
    return ProcessRunner(lambda _: ready).run(job, log, stop)


def test_job_leaves_its_output_and_is_heard(tmp_path: Path) -> None:
    script = "import os, pathlib\nprint('hello', os.environ['TAXIWAY_HANDLE'])\n"
    script += "pathlib.Path(os.environ['TAXIWAY_OUTPUT_DIR'], 'x').write_text('1')\n"
    lines: list[str] = []
    result = run(make_job(tmp_path, script), lines.append)
    assert lines == ["hello tiny"]
    assert (result.output_dir / "x").read_text() == "1"
    assert (tmp_path / "job" / "log.txt").read_text() == "hello tiny\n"


def test_job_that_fails_says_how_and_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(ComponentFailedError) as caught:
        run(make_job(tmp_path, "print('almost')\nraise SystemExit(3)\n"), print)
    assert caught.value.exit_code == 3
    assert "almost" in str(caught.value)


def test_job_ended_by_a_signal_says_which(tmp_path: Path) -> None:
    script = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
    with pytest.raises(ComponentFailedError, match="signal 11"):
        run(make_job(tmp_path, script), print)


@pytest.mark.parametrize("is_early", [False, True], ids=["while it runs", "before it starts"])
def test_job_ends_when_its_caller_asks(tmp_path: Path, *, is_early: bool) -> None:
    stop = Stop()
    if is_early:
        stop.request()
    with pytest.raises(JobStoppedError):
        run(
            make_job(tmp_path, "print(1, flush=True)\nimport time\ntime.sleep(60)\n"),
            lambda _: stop.request(),
            stop,
        )
    assert stop.is_requested


def test_job_that_ended_well_before_it_was_asked_to_is_a_result(tmp_path: Path) -> None:
    stop = Stop()
    assert run(make_job(tmp_path, "print(1)\n"), print, stop).output_dir.is_dir()
    stop.request()


def test_job_starts_from_an_empty_output_and_a_copy_of_its_source(tmp_path: Path) -> None:
    script = "import os, pathlib\nout = pathlib.Path(os.environ['TAXIWAY_OUTPUT_DIR'])\n"
    script += "assert not list(out.iterdir())\n(out / 'x').write_text('')\n"
    script += "pathlib.Path('main.py').write_text('broken(')\n"
    job = make_job(tmp_path, script)
    for _ in range(2):
        result = run(job, print)
        assert [path.name for path in result.output_dir.iterdir()] == ["x"]
    assert (tmp_path / "source" / "main.py").read_text() == script


def test_job_inherits_no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "s3cret")
    lines: list[str] = []
    run(make_job(tmp_path, "import os\nprint(dict(os.environ))\n"), lines.append)
    assert "s3cret" not in lines[0]


def test_job_command_takes_parameters_as_an_mlproject_does(tmp_path: Path) -> None:
    lines: list[str] = []
    job = make_job(
        tmp_path,
        "import sys\nprint(sys.argv[1:])\n",
        command="python main.py --c {c} {other}",
        c=1,
    )
    run(job, lines.append)
    assert lines == ["['--c', '1', '{other}']"]


@pytest.mark.parametrize("is_warm", [False, True], ids=["fresh", "warm"])
def test_environment_is_held_while_a_job_runs_in_it(tmp_path: Path, until: Until, *, is_warm: bool) -> None:
    job = make_job(tmp_path, "print('begun', flush=True)\n")
    folder = tmp_path / "environment"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    ready = Materialised(source_dir=tmp_path / "source", python=folder / "bin" / "python")
    held: list[bool] = []

    def look(_line: str) -> None:
        held.append(is_held(folder))

    with WarmRunner(lambda _: ready, tmp_path / "warm", print) as warm:
        (warm if is_warm else ProcessRunner(lambda _: ready)).run(job, look)
        assert is_held(folder) is is_warm, "by the interpreter that is kept"
    assert held == [True]
    until(lambda: not is_held(folder))


def is_held(folder: Path) -> bool:
    try:
        with claimed(folder):
            return False
    except BlockingIOError:
        return True


def test_job_leaves_no_background_process(tmp_path: Path, until: Until) -> None:
    script = "import subprocess, sys\n"
    script += "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid)\n"
    lines: list[str] = []
    run(make_job(tmp_path, script), lines.append)
    until(lambda: not is_alive(int(lines[0])))


CALLER = """
import sys
from pathlib import Path
from taxiway.packaging import CodePackage, Materialised
from taxiway.runners import Job, ProcessRunner
folder = Path(sys.argv[1])
package = CodePackage(handle="x", kind="training", digest="", source_hash="", lock_hash="", python="",
    manifest={"command": "python main.py", "threads": 1})
ready = Materialised(source_dir=folder / "source", python=Path(sys.executable))
ProcessRunner(lambda _: ready).run(Job(package=package, folder=folder / "job"), print)
"""

FAMILY = """
import os, subprocess, sys, time, pathlib
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
out = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
(out / "draft").write_text(f"{os.getpid()} {child.pid}")
(out / "draft").rename(out / "pids")
time.sleep(120)
"""


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=["kill", "term", "int"]
)
def test_job_and_its_children_end_with_their_caller(tmp_path: Path, until: Until, number: int) -> None:
    make_job(tmp_path, FAMILY)
    end_caller(CALLER, tmp_path, number, until)
