"""A job that is forked from a warm interpreter is no other to its script, its caller and its end than a fresh one."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway.errors import ComponentFailedError, JobStoppedError
from taxiway.packaging import CodePackage, Materialised, environment
from taxiway.runners import Job, ProcessRunner, Runner, Stop, WarmRunner, watch
from taxiway.runners.runner import UNLOOKED, Inputs
from tests.library.jobs import end_caller, is_alive, tiny_package

Until = Callable[..., None]
LOADED = "import colorsys, sys\nprint('colorsys' in sys.builtin_module_names)\n"


@pytest.fixture
def said() -> list[str]:
    """Return what the warm runner said of itself."""
    return []


@pytest.fixture
def ready(tmp_path: Path) -> Materialised:
    (tmp_path / "source").mkdir()
    return Materialised(source_dir=tmp_path / "source", python=Path(sys.executable))


@pytest.fixture
def warm(tmp_path: Path, ready: Materialised, said: list[str]) -> Iterator[WarmRunner]:
    with WarmRunner(lambda _: ready, tmp_path / "warm", said.append) as made:
        yield made


@pytest.fixture
def cold(ready: Materialised) -> ProcessRunner:
    return ProcessRunner(lambda _: ready)


def job(
    ready: Materialised,
    script: str,
    *,
    command: str = "python main.py",
    seed: int | None = 7,
    **params: object,
) -> Job:
    (ready.source_dir / "main.py").write_text(script)
    folder = ready.source_dir.parent / f"job-{time.monotonic_ns()}"
    return Job(package=tiny_package(command), folder=folder, params=params, seed=seed)


def lines_of(runner: Runner, made: Job) -> list[str]:
    lines: list[str] = []
    runner.run(made, lines.append)
    return lines


def test_job_finds_its_imports_loaded(ready: Materialised, warm: WarmRunner, cold: ProcessRunner) -> None:
    script = "import sys\nprint('colorsys' in sys.modules)\nimport colorsys\n"
    made = job(ready, script)
    assert (lines_of(cold, made), lines_of(warm, made)) == (["False"], ["True"])


def test_job_finds_loaded_what_its_own_modules_import(ready: Materialised, warm: WarmRunner) -> None:
    (ready.source_dir / "helper.py").write_text("try:\n    import colorsys\nexcept ImportError:\n    raise\n")
    script = "import sys\nprint('colorsys' in sys.modules, 'helper' in sys.modules)\nimport helper\n"
    assert lines_of(warm, job(ready, script)) == ["True False"]


def test_job_does_not_find_loaded_what_only_a_function_imports(ready: Materialised, warm: WarmRunner) -> None:
    script = "import sys\ndef f():\n    import colorsys\nprint('colorsys' in sys.modules)\n"
    assert lines_of(warm, job(ready, script)) == ["False"]


SEEN = """
import os, sys, json, random
print(json.dumps({
    "argv": sys.argv, "name": __name__, "file": os.path.basename(__file__), "path": os.path.basename(sys.path[0]),
    "folder": os.path.basename(os.getcwd()), "hash": hash("taxiway"),
    "main": sys.modules["__main__"].__dict__ is globals(),
    "variables": sorted(os.environ), "params": os.environ["TAXIWAY_PARAMS"], "flags": sys.flags.hash_randomization,
}))
"""


@pytest.mark.parametrize(
    "command", ["python main.py --c {c}", "python -m main --c {c}"], ids=["script", "module"]
)
def test_job_sees_what_it_sees_in_a_fresh_process(
    ready: Materialised, warm: WarmRunner, cold: ProcessRunner, command: str
) -> None:
    made = job(ready, SEEN, command=command, c=1)
    fresh = lines_of(cold, made)
    assert lines_of(warm, made) == fresh
    assert lines_of(warm, made) == fresh


def test_job_has_the_hash_seed_of_its_own_seed(
    ready: Materialised, warm: WarmRunner, cold: ProcessRunner
) -> None:
    made = job(ready, "print([hash(str(n)) for n in range(9)])\n")
    other = replace(made, seed=8)
    assert lines_of(warm, made) == lines_of(cold, made)
    assert lines_of(warm, other) == lines_of(cold, other) != lines_of(warm, made)


def test_jobs_share_no_random_state(ready: Materialised, warm: WarmRunner) -> None:
    script = "import numpy, random\nprint(random.random(), numpy.random.rand())\n"
    first, second = (lines_of(warm, job(ready, script))[0].split() for _ in range(2))
    assert not set(first) & set(second)


def test_job_that_fails_says_how_and_shows_its_own_traceback(
    ready: Materialised, warm: WarmRunner, cold: ProcessRunner
) -> None:
    made = job(ready, "print('almost')\n\ndef f():\n    raise ValueError('no')\n\nf()\n")
    for runner in (cold, warm):
        with pytest.raises(ComponentFailedError) as caught:
            runner.run(made, lambda _: None)
        assert caught.value.exit_code == 1
        assert caught.value.log_tail.splitlines()[:2] == ["almost", "Traceback (most recent call last):"]
        assert "line 6" in caught.value.log_tail.splitlines()[2]
        assert caught.value.log_tail.endswith("ValueError: no")


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("raise SystemExit(3)\n", 3),
        ("raise SystemExit('no')\n", 1),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", -11),
    ],
    ids=["exit", "text", "signal"],
)
def test_job_ends_with_its_own_code(ready: Materialised, warm: WarmRunner, script: str, code: int) -> None:
    with pytest.raises(ComponentFailedError) as caught:
        warm.run(job(ready, script), print)
    assert caught.value.exit_code == code


LEFT_OPEN = """
import os
from helper import keep
file = open(os.path.join(os.environ["TAXIWAY_OUTPUT_DIR"], "main.txt"), "w")
file.write("written")
keep.append(open(os.path.join(os.environ["TAXIWAY_OUTPUT_DIR"], "helper.txt"), "w"))
keep[0].write("written")
"""


def test_files_that_a_job_left_open_are_written(
    ready: Materialised, warm: WarmRunner, cold: ProcessRunner
) -> None:
    (ready.source_dir / "helper.py").write_text("keep = []\n")
    for runner in (cold, warm):
        output = runner.run(job(ready, LEFT_OPEN), print).output_dir
        assert {path.name: path.read_text() for path in output.iterdir()} == dict.fromkeys(
            ("main.txt", "helper.txt"), "written"
        )


def test_job_waits_for_its_threads(ready: Materialised, warm: WarmRunner) -> None:
    script = "import threading, time\ndef f():\n    time.sleep(0.2)\n    print('end')\n"
    script += "threading.Thread(target=f).start()\n"
    assert lines_of(warm, job(ready, script)) == ["end"]


def test_job_runs_what_it_registered_for_its_end(ready: Materialised, warm: WarmRunner) -> None:
    assert lines_of(warm, job(ready, "import atexit\natexit.register(print, 'end')\n")) == ["end"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        "",
        "import signal\nsignal.signal(15, signal.SIG_IGN)\n",
        "import signal, sys\nsignal.signal(15, lambda *_: sys.exit(0))\n",
    ],
    ids=["meek", "stubborn", "saving"],
)
def test_job_ends_when_its_caller_asks(ready: Materialised, warm: WarmRunner, script: str) -> None:
    stop = Stop()
    made = job(ready, script + "import time\nprint(1, flush=True)\ntime.sleep(60)\n")
    with pytest.raises(JobStoppedError):
        warm.run(made, lambda _: stop.request(), stop)


def test_job_leaves_no_background_process(ready: Materialised, warm: WarmRunner, until: Until) -> None:
    script = "import subprocess, sys\n"
    script += "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid)\n"
    left = int(lines_of(warm, job(ready, script))[0])
    until(lambda: not is_alive(left))


def test_jobs_run_beside_each_other(ready: Materialised, warm: WarmRunner, until: Until) -> None:
    """Each waits for the other's file: neither would end alone."""
    from concurrent.futures import ThreadPoolExecutor

    script = "import json, os, pathlib, time\np = json.loads(os.environ['TAXIWAY_PARAMS'])\n"
    script += "pathlib.Path(p['mine']).touch()\nwhile not pathlib.Path(p['other']).exists():\n    time.sleep(0.01)\n"
    a, b = (str(ready.source_dir.parent / name) for name in "ab")
    jobs = [job(ready, script, mine=x, other=y) for x, y in ((a, b), (b, a))]
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(warm.run, made, print) for made in jobs]
        assert [run.result(120).output_dir.is_dir() for run in runs] == [True, True]


def test_interpreter_that_was_killed_is_started_again(
    ready: Materialised, warm: WarmRunner, until: Until
) -> None:
    script = (
        "import os\nwith open(f'/proc/{os.getppid()}/stat') as file:\n    print(file.read().split()[3])\n"
    )
    zygote = int(lines_of(warm, job(ready, script))[0])
    os.kill(zygote, signal.SIGKILL)
    until(lambda: not is_alive(zygote))
    assert int(lines_of(warm, job(ready, script))[0]) != zygote


@pytest.mark.parametrize(
    ("command", "script", "why"),
    [
        ("python main.py", "import noisy\nprint('ran')\n", "starts threads (2 run)"),
        ("python main.py", "print('ran')\n", "hides modules that are imported already: json"),
        ("sh main.sh", "", "is no script of Python"),
        ("python -c \"print('ran')\"", "", "is no script of Python"),
    ],
    ids=["threads", "hidden module", "shell", "text"],
)
def test_package_that_cannot_be_kept_warm_runs_in_fresh_processes(
    ready: Materialised,
    warm: WarmRunner,
    said: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    script: str,
    why: str,
) -> None:
    made = job(ready, script, command=command)
    (ready.source_dir / "main.sh").write_text("echo ran\n")
    if "hides" in why:
        (ready.source_dir / "json.py").write_text("")
    if "threads" in why:
        # Part of the environment, not of the source: only those are imported ahead.
        (tmp_path / "installed").mkdir()
        (tmp_path / "installed" / "noisy.py").write_text(
            "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        )
        monkeypatch.setattr("taxiway.runners.watch.HOOK", tmp_path / "installed")
    for _ in range(2):
        assert lines_of(warm, made) == ["ran"]
    assert len(said) == 1
    assert why in said[0]


def test_job_in_a_fork_is_watched_as_in_a_fresh_process(
    ready: Materialised, warm: WarmRunner, cold: ProcessRunner, tmp_path: Path
) -> None:
    secret, data = tmp_path / "secret.txt", tmp_path / "data"
    data.mkdir()
    for path in (secret, data / "numbers.txt"):
        path.write_text("1")
    script = "import json, os\n"
    script += f"open({str(secret)!r}).read()\n"
    script += "open(os.path.join(os.environ['TAXIWAY_DATA_DIR'], 'numbers.txt')).read()\n"
    script += "open(os.path.join(os.environ['TAXIWAY_OUTPUT_DIR'], 'x'), 'w').write('1')\n"
    traces = []
    for runner in (cold, warm, warm):
        made = replace(job(ready, script), inputs=Inputs(data_dir=data))
        # What is younger than the job and lies in a temporary folder counts as its own.
        found = runner.run(made, print).trace
        assert found is not None
        traces.append(
            (found.method, found.source_hash, found.changed, found.undeclared_count, dict(found.read))
        )
    assert traces[0] == traces[1] == traces[2]
    assert traces[0][0] == "audit hook"
    assert traces[0][3] == 1


CALLER = """
import sys
from pathlib import Path
from taxiway.packaging import CodePackage, Materialised, environment
from taxiway.runners import Job, WarmRunner
folder = Path(sys.argv[1])
package = CodePackage(handle="x", kind="training", digest="", source_hash="", lock_hash="", python="",
    manifest={"command": "python main.py", "threads": 1})
ready = Materialised(source_dir=folder / "source", python=Path(sys.executable))
with WarmRunner(lambda _: ready, folder / "warm", print) as warm:
    warm.run(Job(package=package, folder=folder / "job"), print)
"""

FAMILY = """
import os, signal, subprocess, sys, time, pathlib
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
zygote = open(f"/proc/{os.getppid()}/stat").read().split()[3]
out = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
(out / "draft").write_text(f"{os.getpid()} {child.pid} {os.getppid()} {zygote}")
(out / "draft").rename(out / "pids")
time.sleep(120)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=["kill", "term", "int"]
)
def test_nothing_outlives_the_caller(ready: Materialised, tmp_path: Path, until: Until, number: int) -> None:
    (ready.source_dir / "main.py").write_text(FAMILY)
    end_caller(CALLER, tmp_path, number, until)


STRAY = """
import json, os, pathlib
for path in json.loads(os.environ["TAXIWAY_PARAMS"]).get("stray", []):
    pathlib.Path(path).write_text("raise SystemExit('what a job left')")
print("ran")
"""


@pytest.mark.parametrize(
    ("what", "fault"),
    [("source", ()), ("environment", ("its environment is not what was installed: stray.py",))],
    ids=["source", "environment"],
)
def test_what_a_job_wrote_into_what_is_shared_is_no_fault_of_the_jobs_after_it(
    tmp_path: Path, ready: Materialised, said: list[str], what: str, fault: tuple[str, ...]
) -> None:
    made = job(ready, STRAY)
    package = replace(made.package, source_hash=watch.code(ready.source_dir).hash)
    pythons: list[Path] = []

    def materialise(_package: CodePackage) -> Materialised:
        (ready.source_dir / "main.py").write_text(STRAY)
        pythons.append(environment_in(tmp_path / f"environment-{len(pythons)}"))
        return Materialised(source_dir=ready.source_dir, python=pythons[-1])

    with WarmRunner(materialise, tmp_path / "warm", said.append) as runner:
        runner.prepare(package)
        stray = ready.source_dir / "main.py" if what == "source" else site_of(pythons[0]) / "stray.py"
        first = runner.run(replace(made, package=package, params={"stray": [str(stray)]}), print)
        assert first.trace is not None
        assert first.trace.faults == (UNLOOKED,)
        lines: list[str] = []
        told = first.settled().trace
        assert told is not None
        assert told.faults == fault
        later = replace(made, package=package, folder=tmp_path / "later")
        seen = runner.run(later, lines.append).settled().trace
    assert lines == ["ran"]
    assert seen is not None
    assert (seen.faults, seen.source_hash) == ((), package.source_hash)
    assert len(pythons) == 2
    assert said == []


def environment_in(folder: Path) -> Path:
    """Return the interpreter of an environment as it was installed, with one package in it."""
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.symlink_to(sys.executable)
    site_of(python).mkdir(parents=True)
    (site_of(python) / "known.py").touch()
    (folder / ".complete").write_text(json.dumps(environment._files(folder)))
    return python


def site_of(python: Path) -> Path:
    return python.parents[1] / "lib" / "python3" / "site-packages"
