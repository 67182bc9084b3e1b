"""A lost worker, a killed task, an engine that goes away: one container, and one result."""

import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from taxiway import engine as engines
from taxiway.engine import Engine
from taxiway.packaging.image import Image
from taxiway.runners import DockerRunner, Inputs, Job
from taxiway.settings import Containers
from tests.containers.conftest import URL, bare_runner, caught, containers_of

pytestmark = [pytest.mark.docker, pytest.mark.slow]
Until = Callable[..., None]

# It runs until it is let go on: a file in a folder that is mounted.
STEADY = """
import os, pathlib, time
go, output = pathlib.Path(os.environ["TAXIWAY_DATA_DIR"], "go"), pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
print("begun in", os.uname().nodename, flush=True)
while not go.exists():
    time.sleep(0.05)
(output / "x").write_text("trained")
print("ended", flush=True)
"""
CALLER = """
import sys
from pathlib import Path
from taxiway import engine
from taxiway.engine import Engine
from taxiway.packaging.image import Image
from taxiway.runners import DockerRunner, Inputs, Job
from taxiway.settings import Containers
from tests.containers.conftest import plain_package
folder, url, name, image, script = Path(sys.argv[1]), *sys.argv[2:]
found = Containers(url=url)
runner = DockerRunner(Engine(engine.connect(found), url), lambda _: Image(name=name, id=image), found, folder / "home")
package = plain_package({"command": "python -c {script}", "threads": 1})
job = Job(package=package, folder=folder / "job", inputs=Inputs(data_dir=folder / "data"), params={"script": script})
runner.run(job, lambda line: print(line, flush=True))
"""


@pytest.fixture
def steady(tmp_path: Path, make: Callable[..., Job]) -> Job:
    """Return a job that waits for the file `go` in its data."""
    (tmp_path / "data").mkdir()
    return make(STEADY, inputs=Inputs(data_dir=tmp_path / "data"))


@pytest.fixture
def caller(tmp_path: Path, plain_image: Image, root: Path) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Return a function that starts a worker with the job."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CALLER, str(tmp_path), URL, plain_image.name, plain_image.id, STEADY]
        started.append(subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_killed_worker_leaves_its_container_to_the_retry(
    steady: Job,
    bare: DockerRunner,
    caller: Callable[[], subprocess.Popen[str]],
    engine: Engine,
    tmp_path: Path,
) -> None:
    """The retry hears all of the log, and its result is that of a run which nothing happened to."""
    process = caller()
    assert process.stdout
    begun = next(line for line in process.stdout if line.startswith("begun"))
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    (name,) = containers_of(engine, bare)
    (tmp_path / "data" / "go").touch()
    lines: list[str] = []
    result = bare.run(steady, lines.append)
    assert lines == [
        f"container {name} of an earlier try {lines[0].split('try ')[1]}",
        begun.strip(),
        "ended",
    ]
    assert (result.output_dir / "x").read_text() == "trained"
    assert containers_of(engine, bare) == []
    log = (result.output_dir.parent / "log.txt").read_text()
    again = bare.run(steady, print)
    assert (again.output_dir / "x").read_text() == "trained"
    assert [line.split()[0] for line in log.splitlines()] == ["begun", "ended"]


def test_container_that_failed_alone_is_started_anew(
    make: Callable[..., Job], bare: DockerRunner, engine: Engine, until: Until
) -> None:
    job = make("raise SystemExit(3)")
    container = bare._start(bare._plan(job), print)
    until(lambda: not (engine.find(container) or pytest.fail("gone")).is_running, 120)
    lines: list[str] = []
    with pytest.raises(Exception, match="ended with 3"):
        bare.run(job, lines.append)
    assert "ended with 3: starting anew" in lines[0]


def test_container_of_another_job_under_the_same_name_is_replaced(
    make: Callable[..., Job], bare: DockerRunner, engine: Engine
) -> None:
    """A retry with other limits does not go on with what has the old ones."""
    before, after = make("import time\ntime.sleep(600)"), make("print('after')")
    bare._start(bare._plan(before), print)
    lines: list[str] = []
    bare.run(after, lines.append)
    assert lines[-1] == "after"
    assert containers_of(engine, bare) == []


def test_orphan_is_reaped_when_nobody_came_for_long(
    make: Callable[..., Job], bare: DockerRunner, engine: Engine
) -> None:
    job = make("import time\ntime.sleep(600)")
    plan = bare._plan(job)
    bare._start(plan, print)
    alone = bare._attendance._mark(plan.name)
    assert bare.reap(older_than_s=3_600) == ()
    os.utime(alone, (0, alone.stat().st_mtime - 7_200))
    with bare._attendance.of(plan.name):
        assert bare.reap(older_than_s=0) == ()
    assert bare.reap(older_than_s=3_600) == (), "alone since a moment ago"
    os.utime(alone, (0, alone.stat().st_mtime - 7_200))
    assert bare.reap(older_than_s=3_600) == (plan.name,)
    assert containers_of(engine, bare) == []


def test_container_that_was_never_started_is_made_again(
    make: Callable[..., Job], bare: DockerRunner, engine: Engine
) -> None:
    """Killed between creating and starting: some of its inputs may be missing."""
    job = make("print('whole')")
    bare._create(bare._plan(job))
    lines: list[str] = []
    bare.run(job, lines.append)
    assert "starting anew" in lines[0]
    assert lines[-1] == "whole"


@dataclass
class OwnEngine:
    """An engine that a test starts and stops: never one that was there before.

    Containers outlive it, as on every host that is set up for that (`live-restore`).
    """

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    def start(self, until: Until) -> Engine:
        # In a network of its own: two engines in one would take each other's bridge.
        command = ["unshare", "--net", "dockerd", "-H", self.url, "--live-restore"]
        command += ["--bridge=none", "--iptables=false"]
        for option in ("data-root", "exec-root", "pidfile"):
            command += [f"--{option}", str(self.folder / option)]
        with (self.folder / "log.txt").open("ab") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        until(self._listens, 60)
        return Engine(engines.connect(Containers(url=self.url)), self.url)

    def stop(self) -> None:
        self.processes[-1].terminate()
        self.processes[-1].wait(120)

    def clear(self) -> None:
        """Stop it with its containers, and undo the mount that it leaves where containers may outlive it."""
        if self.processes and self.processes[-1].poll() is None:
            client = engines.connect(Containers(url=self.url))
            for container in client.containers(all=True):
                client.remove_container(container["Id"], force=True)
            client.close()
            self.stop()
        subprocess.run(["umount", str(self.folder / "data-root")], check=False, capture_output=True)

    def _listens(self) -> bool:
        assert self.processes[-1].poll() is None, (self.folder / "log.txt").read_text()[-3000:]
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.folder / "docker.sock")) == 0


@pytest.fixture
def own_engine(until: Until) -> Iterator[OwnEngine]:
    """Return the means to start an engine; nothing of it is left."""
    if os.geteuid() != 0 or not shutil.which("dockerd"):
        pytest.skip("only root with a dockerd may start an engine")
    with tempfile.TemporaryDirectory(prefix="tw-") as folder:
        own = OwnEngine(Path(folder))
        try:
            yield own
        finally:
            own.clear()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_engine_that_goes_away_finds_its_container_again(
    own_engine: OwnEngine, steady: Job, client: Any, plain_image: Image, tmp_path: Path, until: Until
) -> None:
    """The task fails as one that may be tried again, and its retry goes on with what ran all the time."""
    engine, lines = own_engine.start(until), list[str]()
    own_client = engine._client
    own_client.load_image(client.get_image(plain_image.id))
    own_client.tag(plain_image.id, *plain_image.name.split(":"))
    runner, ends = bare_runner(tmp_path, plain_image, engine), list[str]()

    def run() -> None:
        error = caught(lambda: runner.run(steady, lines.append))
        ends.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: lines and lines[-1].startswith("begun"), 120)
    begun = lines[-1]
    own_engine.stop()
    thread.join(120)
    assert ends[0].startswith(f"TransportError: the Docker engine at {own_engine.url}")
    own_client.close()
    again = bare_runner(tmp_path, plain_image, own_engine.start(until))
    (tmp_path / "data" / "go").touch()
    lines.clear()
    result = again.run(steady, lines.append)
    assert lines[1:] == [begun, "ended"]
    assert (result.output_dir / "x").read_text() == "trained"
    assert containers_of(again._engine, again) == []
    gc.collect()
