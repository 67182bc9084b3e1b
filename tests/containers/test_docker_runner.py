"""A component in a container: what it sees, what it leaves, how it ends."""

import json
import os
import pickle
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxiway.component import read_metrics
from taxiway.datasets import DatasetVersion
from taxiway.engine import Engine
from taxiway.errors import (
    ComponentFailedError,
    DiskFullError,
    JobStoppedError,
    OutOfMemoryError,
    OutputFaultsError,
    ResourceShortageError,
)
from taxiway.evaluation import evaluate
from taxiway.packaging.image import Image
from taxiway.runners import DockerRunner, Inputs, Job
from taxiway.settings import Settings
from taxiway.training import train
from taxiway.transform import transform
from tests.containers.conftest import bare_runner, begun, containers_of, mounted, registered

pytestmark = [pytest.mark.docker, pytest.mark.slow]
Until = Callable[..., None]


def test_path_runs_in_containers(
    boxed: Settings, handled: Path, handle: str, dataset: DatasetVersion
) -> None:
    registered(handled, boxed)
    made = transform(handle, boxed)
    assert (made.path / "numbers.txt").read_text() == "1 2 3"
    version = train(handle, dataset, boxed)
    assert train(handle, dataset, boxed) == version
    found = evaluate(handle, version.version, dataset, boxed)
    assert found.metrics["score"] > 0.9


def test_job_leaves_its_output_and_is_heard_at_once(
    bare: DockerRunner, make: Callable[..., Job], engine: Engine
) -> None:
    script = "import os, pathlib\nprint('hello', os.environ['TAXIWAY_HANDLE'], flush=True)\n"
    script += "pathlib.Path(os.environ['TAXIWAY_OUTPUT_DIR'], 'x').write_text('1')\n"
    lines: list[str] = []
    result = bare.run(make(script), lines.append)
    assert lines[-1] == "hello tiny"
    assert (result.output_dir / "x").read_text() == "1"
    assert (result.output_dir.parent / "log.txt").read_text() == "hello tiny\n"
    assert result.trace
    assert (result.trace.method, result.trace.faults) == ("mounts", ())
    assert containers_of(engine, bare) == []


def test_line_is_heard_while_the_component_runs(
    bare: DockerRunner, make: Callable[..., Job], until: Until
) -> None:
    job = make("import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
    with begun(bare, job, until) as heard:
        heard.stop.request()
    assert isinstance(heard.ends[0], JobStoppedError)


def test_long_line_and_last_line_without_an_end_arrive_whole(
    bare: DockerRunner, make: Callable[..., Job]
) -> None:
    """The engine cuts lines into pieces of 16 KiB, each with a time of its own."""
    lines: list[str] = []
    bare.run(make("import sys\nprint('x' * 50_000)\nsys.stdout.write('end')\n"), lines.append)
    assert lines[1:] == ["x" * 50_000, "end"]


def test_job_that_fails_says_how_and_shows_the_end_of_its_log(
    bare: DockerRunner, make: Callable[..., Job], engine: Engine
) -> None:
    with pytest.raises(ComponentFailedError, match="almost") as found:
        bare.run(make("print('almost')\nraise SystemExit(3)\n"), print)
    assert found.value.exit_code == 3
    assert containers_of(engine, bare) == []


def test_job_ended_by_a_signal_says_which(bare: DockerRunner, make: Callable[..., Job]) -> None:
    with pytest.raises(ComponentFailedError, match="signal 11"):
        bare.run(make("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"), print)


def test_component_may_do_nothing_that_it_need_not(
    bare: DockerRunner, make: Callable[..., Job], tmp_path: Path
) -> None:
    """No root, no capability, no network, nothing written but its own folders."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "x").write_text("1")
    script = """
import json, os, pathlib, socket
def tried(act):
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return "done"
out = pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"])
(out / "found.json").write_text(json.dumps({
    "uid": os.getuid(),
    "capabilities": [line for line in open("/proc/self/status") if line.startswith("CapEff")][0].split()[1],
    "data": tried(lambda: pathlib.Path(os.environ["TAXIWAY_DATA_DIR"], "y").write_text("")),
    "system": tried(lambda: pathlib.Path("/usr/local/y").write_text("")),
    "source": tried(lambda: pathlib.Path("y").write_text("")),
    "temporary": tried(lambda: pathlib.Path("/tmp/y").write_text("")),
    "network": tried(lambda: socket.create_connection(("1.1.1.1", 53), timeout=1)),
}))
"""
    result = bare.run(make(script, inputs=Inputs(data_dir=data)), print)
    found = json.loads((result.output_dir / "found.json").read_text())
    assert found.pop("capabilities").strip("0") == ""
    assert found.pop("uid") > 0
    assert (found.pop("source"), found.pop("temporary")) == ("done", "done")
    assert "done" not in found.values()
    assert not (data / "y").exists()


def test_limits_are_the_engines_own(
    bare: DockerRunner, make: Callable[..., Job], engine: Engine, client: Any, until: Until
) -> None:
    """DockerOperator's `cpus` is a weight, and it has no limit of processes."""
    limits = {"cpus": 0.5, "memory_mb": 64, "pids": 32}
    job = make("import time\nprint('begun', flush=True)\ntime.sleep(600)", resources=limits)
    with begun(bare, job, until) as heard:
        (name,) = containers_of(engine, bare)
        host = client.inspect_container(name)["HostConfig"]
        heard.stop.request()
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (
        500_000_000,
        64 * 2**20,
        64 * 2**20,
        32,
    )
    assert (host["Init"], host["CapDrop"], host["ReadonlyRootfs"]) == (True, ["ALL"], True)
    assert (host["AutoRemove"], host["Privileged"], host["NetworkMode"]) == (False, False, "none")
    assert "cpus 0.5, memory 64 MB, processes 32, gpus 0" in heard.lines[0]


def test_component_that_needs_more_memory_than_its_limit_is_told_so(
    bare: DockerRunner, make: Callable[..., Job]
) -> None:
    job = make(
        "print('allocating', flush=True)\nx = bytearray(10**9)\nprint(sum(x))", resources={"memory_mb": 32}
    )
    with pytest.raises(OutOfMemoryError, match="limit of 32 MB") as found:
        bare.run(job, print)
    assert "allocating" in found.value.log_tail


@pytest.mark.parametrize(
    ("limits", "lacking"),
    [({"cpus": 4096}, "cpus = 4096"), ({"memory_mb": 2**40}, "memory_mb"), ({"gpus": 1}, "no GPU")],
    ids=["cpus", "memory", "gpus"],
)
def test_shortage_is_explained_before_anything_starts(
    bare: DockerRunner, make: Callable[..., Job], engine: Engine, limits: dict[str, int], lacking: str
) -> None:
    with pytest.raises(ResourceShortageError, match=lacking):
        bare.run(make("print('started')", resources=limits), print)
    assert containers_of(engine, bare) == []


def test_deaf_component_is_ended_within_its_grace(
    bare: DockerRunner,
    make: Callable[..., Job],
    engine: Engine,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Airflow kills a task soon after it asked: a container that ignores SIGTERM must be gone by then."""
    script = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\n"
    graces, stop = list[int](), engine._client.stop

    def noted(container: str, timeout: int) -> None:
        graces.append(timeout)
        stop(container, timeout=timeout)

    monkeypatch.setattr(engine._client, "stop", noted)
    with begun(bare, make(script + "time.sleep(600)"), until, "deaf") as heard:
        bare.stop(1.0)
        assert containers_of(engine, bare) == []
    assert [type(end) for end in heard.ends] == [JobStoppedError]
    assert graces[0] == 1


class Trap:
    """Runs when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


def test_output_is_never_unpickled(bare: DockerRunner, make: Callable[..., Job], tmp_path: Path) -> None:
    """DockerOperator's `retrieve_output` runs what a container left: ours are files."""
    payload = pickle.dumps(Trap(tmp_path / "sprung"))
    script = f"import os\nopen(os.environ['TAXIWAY_OUTPUT_DIR'] + '/metrics.json', 'wb').write({payload!r})\n"
    result = bare.run(make(script), print)
    with pytest.raises(OutputFaultsError, match="not JSON"):
        read_metrics(result.output_dir)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret"], ids=["absolute", "upwards"])
def test_output_with_a_link_that_leads_out_is_refused(
    bare: DockerRunner, make: Callable[..., Job], target: str
) -> None:
    job = make(f"import os\nos.symlink({target!r}, os.environ['TAXIWAY_OUTPUT_DIR'] + '/model')")
    with pytest.raises(OutputFaultsError, match="container"):
        bare.run(job, print)
    assert not job.output_dir.exists()


def test_disk_that_fills_in_the_container_is_the_components_own_failure(
    bare: DockerRunner, make: Callable[..., Job]
) -> None:
    script = "f = open('/dev/shm/x', 'wb')\nwhile True:\n    f.write(bytes(2**24))\n"
    with pytest.raises(ComponentFailedError, match="No space left on device"):
        bare.run(make(script), print)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_disk_that_fills_on_this_host_leaves_the_result_for_a_retry(
    bare: DockerRunner, make: Callable[..., Job], tmp_path: Path, engine: Engine
) -> None:
    """Nothing is trained again: the container waits, and the retry takes what it left."""
    small = tmp_path / "small"
    small.mkdir()
    with mounted(small, "size=1m"):
        script = (
            "import os, random\nopen(os.environ['TAXIWAY_OUTPUT_DIR'] + '/x', 'wb').write(bytes(2**22))\n"
        )
        job = replace(make(script + "print('trained')"), folder=small / "job")
        with pytest.raises(DiskFullError):
            bare.run(job, print)
        subprocess.run(["mount", "-o", "remount,size=16m", str(small)], check=True)
        lines: list[str] = []
        result = bare.run(job, lines.append)
        assert (result.output_dir / "x").stat().st_size == 2**22
        assert "ended with 0: going on with it" in lines[0]


def test_job_of_another_owner_is_no_orphan_of_ours(
    bare: DockerRunner, make: Callable[..., Job], tmp_path: Path, plain_image: Image, engine: Engine
) -> None:
    other = bare_runner(tmp_path / "other", plain_image, engine)
    job = make("print(1)")
    container = other._start(other._plan(job), print)
    try:
        assert bare.reap(0) == ()
    finally:
        engine.remove(container)


def test_component_that_somebody_else_stops_is_no_result(
    bare: DockerRunner, make: Callable[..., Job], engine: Engine, until: Until
) -> None:
    """Many a training saves what it has when it is asked to end, and exits with 0: half a model, and no error."""
    script = """
import os, pathlib, signal, sys, time
def save(*_):
    pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"], "half").write_text("half")
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("begun", flush=True)
time.sleep(600)
"""
    with begun(bare, make(script), until) as heard:
        (name,) = containers_of(engine, bare)
        engine._client.stop(name, timeout=20)
    (end,) = heard.ends
    assert isinstance(end, ComponentFailedError)
    assert end.exit_code == -15


def test_container_that_nobody_attends_to_is_forgotten_at_once(
    bare: DockerRunner,
    make: Callable[..., Job],
    engine: Engine,
    plain_image: Image,
    tmp_path: Path,
    until: Until,
) -> None:
    """As that of a trial, whose retry is another job."""
    job = make("import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
    other = bare_runner(tmp_path, plain_image, engine)
    with begun(bare, job, until) as heard:
        assert other.is_known(job.package, job.folder)
        other.forget(job.package, job.folder)
        assert len(containers_of(engine, bare)) == 1, "somebody attends to it"
        heard.stop.request()
    left = bare._start(bare._plan(job), print)
    assert containers_of(engine, bare)
    other.forget(job.package, job.folder)
    assert not other.is_known(job.package, job.folder)
    assert engine.find(left) is None
