"""Components as jobs of a real Swarm of two nodes, on the node that does not manage it: no disk is shared with it.

Inputs and results travel through a real MLflow server, which the nodes reach by this machine's port of their switch.
"""

import contextlib
import itertools
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.swarm_nodes import Swarm, wait_until
from taxiway import component
from taxiway.datasets import DatasetVersion
from taxiway.datasets.versions import fetch
from taxiway.errors import (
    ComponentFailedError,
    JobLostError,
    JobStoppedError,
    OutOfMemoryError,
    ResourceShortageError,
    ToolFailedError,
)
from taxiway.packaging import image as images
from taxiway.packaging.image import Image
from taxiway.registry import models, packages
from taxiway.runners import Inputs, Job, Stop, SwarmRunner, named
from taxiway.runners.plan import JOB
from taxiway.runners.swarm_engine import JobEngine
from taxiway.runners.swarm_post import FOLDER, Post
from taxiway.runners.swarm_service import NAME
from taxiway.runners.swarm_store import JobStore
from taxiway.settings import Containers, Settings
from taxiway.tuning import tune
from tests.containers.conftest import built_plain, make, registered, silent

__all__ = ["make"]
pytestmark = [pytest.mark.docker, pytest.mark.slow]
Make = Callable[..., Job]

ON_SECOND = ("node.hostname==node2",)


@pytest.fixture(scope="module")
def mlflow_of_nodes(swarm: Swarm, mlflow_uri: str) -> Iterator[str]:
    """Return the address of the session's MLflow server as the nodes reach it."""
    host = swarm.first.address.rpartition(".")[0] + ".1"
    with socket.create_server((host, 0)) as listening:
        thread = threading.Thread(target=_forward, args=(listening, int(mlflow_uri.rpartition(":")[2])))
        thread.start()
        yield f"http://{host}:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


def _forward(listening: socket.socket, port: int) -> None:
    """Hand every connection on to a port of loopback, until nobody listens any more."""
    pairs: list[tuple[socket.socket, socket.socket]] = []
    pumps: list[threading.Thread] = []
    with contextlib.suppress(OSError):
        while True:
            near = listening.accept()[0]
            try:
                far = socket.create_connection(("127.0.0.1", port))
            except OSError:
                near.close()
                continue
            pairs.append((near, far))
            for ends in ((near, far), (far, near)):
                pumps.append(threading.Thread(target=_pump, args=ends))
                pumps[-1].start()
    # A peer whose container or cable is gone says nothing any more.
    for end in itertools.chain(*pairs):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    for pump in pumps:
        pump.join()
    for end in itertools.chain(*pairs):
        end.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65_536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def engine(swarm: Swarm) -> JobEngine:
    return JobEngine(swarm.first.client, swarm.first.url)


@pytest.fixture(scope="module")
def plain_image(
    swarm: Swarm, engine: JobEngine, base: str, tmp_path_factory: pytest.TempPathFactory
) -> Image:
    """Return an image of an environment with nothing in it, which the second node has as well."""
    containers = Containers(url=swarm.first.url, base_image=base)
    made = built_plain(engine, containers, tmp_path_factory.mktemp("images"))
    bring(swarm, made.id)
    return made


def bring(swarm: Swarm, image: str) -> None:
    swarm.second.client.load_image(b"".join(swarm.first.client.get_image(image)))


@pytest.fixture
def containers(swarm: Swarm, base: str, mlflow_of_nodes: str) -> Containers:
    return Containers(
        url=swarm.first.url, base_image=base, tracking_uri=mlflow_of_nodes, constraints=ON_SECOND
    )


@pytest.fixture
def runner(
    tmp_path: Path, plain_image: Image, engine: JobEngine, mlflow_uri: str, containers: Containers
) -> Iterator[SwarmRunner]:
    """Return a runner that needs no registry: every package's image is the plain one."""
    home = tmp_path / "home" / "swarm"
    post = Post(JobStore(mlflow_uri, ""), "", containers.tracking_uri or "", home, lambda _: "0")
    made = SwarmRunner(engine, lambda _: plain_image, post, containers, home)
    yield made
    made.stop()
    made.reap(0)


# It runs until it is let go on: a file in its own container.
STEADY = """
import os, pathlib, time
print("begun", flush=True)
while not pathlib.Path("/tmp/go").exists():
    time.sleep(0.05)
pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"], "x").write_text("trained")
print("ended", flush=True)
"""
CURIOUS = """
import json, os, pathlib, subprocess
def tried(act):
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return "done"
data, secrets = pathlib.Path(os.environ["TAXIWAY_DATA_DIR"]), pathlib.Path(os.environ["TAXIWAY_SECRETS_DIR"])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print("x" * 50_000)
subprocess.Popen(["python", "-c", "import time; time.sleep(1000)"])
pathlib.Path(os.environ["TAXIWAY_OUTPUT_DIR"], "found.json").write_text(json.dumps({
    "data": (data / "x").read_text(),
    "secret": (secrets / "deep" / "token").read_text(),
    "uid": os.getuid(),
    "capabilities": status["CapEff"].strip("0\\t\\n"),
    "new privileges": status["NoNewPrivs"].strip(),
    "letter": tried(lambda: open("/run/secrets/taxiway.json")),
    "changed": tried(lambda: (data / "x").write_text("2")),
    "added": tried(lambda: (data / "y").write_text("2")),
    "system": tried(lambda: pathlib.Path("/usr/local/y").write_text("")),
    "source": tried(lambda: pathlib.Path("y").write_text("")),
    "temporary": tried(lambda: pathlib.Path("/tmp/y").write_text("")),
    "shared": tried(lambda: pathlib.Path("/dev/shm/y").write_text("")),
}))
print("end", end="")
"""
CALLER = """
import json, sys
from pathlib import Path
from taxiway import engine
from taxiway.packaging.image import Image
from taxiway.runners import Job, SwarmRunner
from taxiway.runners.swarm_engine import JobEngine
from taxiway.runners.swarm_post import Post
from taxiway.runners.swarm_store import JobStore
from taxiway.settings import Containers
from tests.containers.conftest import plain_package
asked = json.loads(sys.argv[1])
containers, home = Containers(url=asked["url"], constraints=tuple(asked["constraints"])), Path(asked["home"])
post, image = Post(JobStore(asked["store"], ""), "", asked["address"], home, lambda _: "0"), Image(**asked["image"])
found = JobEngine(engine.connect(containers), containers.url)
runner = SwarmRunner(found, lambda _: image, post, containers, home)
package = plain_package({"command": "python -c {script}", "threads": 1})
job = Job(package=package, folder=Path(asked["folder"]), params={"script": asked["script"]})
runner.run(job, lambda line: print(line, flush=True))
"""


@pytest.fixture
def left(swarm: Swarm, engine: JobEngine, mlflow_folder: Path) -> Callable[[], set[str]]:
    """Return a function that names what has come up since and is still there; inputs stay for the next job."""

    def there() -> set[str]:
        found = {each.id for each in engine.services({JOB: "true"})} | set(engine.secrets({JOB: "true"}))
        for node in (swarm.first.client, swarm.second.client):
            found |= {each["Id"] for each in node.containers(all=True)}
            found |= {each["Name"] for each in node.volumes()["Volumes"] or ()}
        stored = (mlflow_folder / "artifacts").glob(f"*/{FOLDER}/*/*")
        return found | {str(each) for each in stored if each.parent.name != "inputs"}

    before = there()
    return lambda: there() - before


def go_on(swarm: Swarm) -> None:
    """Let the steady job end."""
    client = swarm.second.client
    (container,) = client.containers(filters={"name": "taxiway-tiny-training"})
    task = client.exec_create(container["Id"], ["python", "-c", "open('/tmp/go', 'w')"])
    client.exec_start(task["Id"])


def test_component_runs_on_the_other_node_as_nobody_special(
    runner: SwarmRunner, make: Make, tmp_path: Path, left: Callable[[], set[str]]
) -> None:
    for name, text in (("data/x", "1"), ("secrets/deep/token", "hush")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    lines: list[str] = []
    given = Inputs(data_dir=tmp_path / "data", secrets_dir=tmp_path / "secrets")
    result = runner.run(make(CURIOUS, inputs=given), lines.append)
    assert lines[-3:] == [f"job {lines[0].split()[1]} is on node2", "x" * 50_000, "end"]
    assert result.trace
    assert (result.trace.faults, result.trace.read) == ((), {"dataset": 1})
    found = json.loads((result.output_dir / "found.json").read_text())
    refused = ("letter", "changed", "added", "system")
    assert [name for name in refused if found.pop(name) not in {"PermissionError", "OSError"}] == []
    assert found == {
        "data": "1",
        "secret": "hush",
        "uid": 10001,
        "capabilities": "",
        "new privileges": "1",
        "source": "done",
        "temporary": "done",
        "shared": "done",
    }
    wait_until(lambda: not left(), what="a Swarm and a store in which nothing of the job is left")


def test_killed_worker_leaves_its_job_to_the_retry_and_an_orphan_to_the_reaper(
    runner: SwarmRunner,
    make: Make,
    tmp_path: Path,
    swarm: Swarm,
    engine: JobEngine,
    plain_image: Image,
    mlflow_uri: str,
    containers: Containers,
    root: Path,
    left: Callable[[], set[str]],
) -> None:
    job = make(STEADY)
    asked = {
        "url": containers.url,
        "constraints": containers.constraints,
        "home": str(tmp_path / "home" / "swarm"),
        "store": mlflow_uri,
        "address": containers.tracking_uri,
        "image": {"name": plain_image.name, "id": plain_image.id},
        "folder": str(job.folder),
        "script": STEADY,
    }
    command = [sys.executable, "-c", CALLER, json.dumps(asked)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout
        assert "begun\n" in iter(worker.stdout.readline, "")
        worker.send_signal(signal.SIGKILL)
    (service,) = engine.services({JOB: "true"})
    assert runner.is_known(job.package, job.folder)
    assert runner.reap(older_than_s=3_600) == ()
    lines: list[str] = []

    def hear(line: str) -> None:
        lines.append(line)
        if line == "begun":
            go_on(swarm)

    result = runner.run(job, hear)
    assert lines[0] == f"job {service.name} of an earlier try is running on node2: going on with it"
    assert lines[2:] == ["begun", "ended"]
    assert (result.output_dir / "x").read_text() == "trained"
    wait_until(lambda: not left(), what="nothing of the job")
    assert not runner.is_known(job.package, job.folder)

    # Nobody comes for this one, and its worker died just before it asked for another.
    runner._start(runner._plan(job), silent)
    orphan = {"name": "taxiway-tiny-training"}
    wait_until(lambda: bool(swarm.second.client.containers(filters=orphan)), what="the orphan")
    assert runner.reap(older_than_s=3_600) == ()
    engine.create_secret("taxiway-never-made", b"{}", {**service.labels, NAME: "taxiway-never-made"})
    assert runner.reap(older_than_s=0) == (service.name,)
    wait_until(lambda: not left(), what="nothing of the orphan")


def test_job_that_fails_says_how_and_a_killed_task_ends_its_job(
    runner: SwarmRunner, make: Make, left: Callable[[], set[str]]
) -> None:
    with pytest.raises(ComponentFailedError, match="almost") as failed:
        runner.run(make("print('almost')\nraise SystemExit(75)\n"), silent)
    assert failed.value.exit_code == 75
    greedy = make("print('greedy', flush=True)\nx = bytearray(200_000_000)\n", resources={"memory_mb": 64})
    with pytest.raises(OutOfMemoryError, match="its limit of 64 MB"):
        runner.run(greedy, silent)
    for wanted, lacking in ({"cpus": 4096}, "cpus = 4096"), ({"gpus": 1}, "gpus = 1"):
        with pytest.raises(ResourceShortageError, match=lacking):
            runner.run(make("", resources=wanted), silent)

    stop = Stop()
    for end in (stop.request, runner.stop):

        def hear(line: str, end: Callable[[], None] = end) -> None:
            if line == "begun":
                end()

        with pytest.raises(JobStoppedError):
            runner.run(make(STEADY), hear, stop)
        stop = Stop()
    wait_until(lambda: not left(), what="nothing of the jobs")


def test_node_without_the_image_says_so(
    runner: SwarmRunner, make: Make, engine: JobEngine, base: str, left: Callable[[], set[str]]
) -> None:
    runner._images = lambda _: Image(name=base, id=str(engine.image_id(base)))
    with pytest.raises(ToolFailedError, match=r"node2 does not have the image .* TAXIWAY_IMAGE_REGISTRY"):
        runner.run(make(""), silent)
    wait_until(lambda: not left(), what="nothing of the job")


def test_job_whose_node_is_lost_is_begun_anew_elsewhere(
    runner: SwarmRunner, make: Make, swarm: Swarm, engine: JobEngine, left: Callable[[], set[str]]
) -> None:
    def on_begin(act: Callable[[], None]) -> Callable[[str], None]:
        return lambda line: act() if line == "begun" else None

    try:
        with pytest.raises(JobLostError, match="lost with the node node2"):
            runner.run(make(STEADY), on_begin(lambda: swarm.set_availability(swarm.second, "drain")))
    finally:
        swarm.set_availability(swarm.second, "active")
    try:
        with pytest.raises(JobLostError, match="lost with the node node2"):
            runner.run(make(STEADY), on_begin(swarm.cut))
        runner._containers = replace(runner._containers, constraints=("node.role==manager",))
        lines: list[str] = []
        runner.run(make("print('whole')"), lines.append)
        assert lines[-2:] == [f"job {lines[0].split()[1]} is on node1", "whole"]
    finally:
        swarm.mend()
        wait_until(lambda: len(engine.nodes()) == 2, what="the second node back")
    wait_until(lambda: not left(), what="nothing of the lost job")


def test_trials_and_training_leave_the_same_models_as_processes(
    live: Settings,
    handled: Path,
    handle: str,
    dataset: DatasetVersion,
    containers: Containers,
    swarm: Swarm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = replace(live, runner="swarm", containers=containers)
    registered(handled, settings, ("training",))
    code = packages.lookup(handle, "training", settings)
    elsewhere = replace(settings, containers=replace(containers, constraints=("node.role==manager",)))
    made = named("swarm", elsewhere)
    made.prepare(code)
    bring(swarm, images.tag_of(code))
    data = fetch(dataset, live)
    job = Job(
        package=code,
        folder=live.home / "runs" / "same",
        inputs=Inputs(data_dir=data),
        params={"c": 0.25},
        seed=3,
    )
    hashes = set()
    for runner in (named("process", live), made, named("swarm", settings)):
        output = runner.run(job, silent).output_dir
        hashes.add(models.hash_of(component.model_folder(output)))
    assert len(hashes) == 1

    lines: list[str] = []
    found = tune(handle, dataset, settings, trials=2, parallel=2, repeats=0, log=lines.append)
    assert (found.trials, found.failed) == (2, 0)
    assert sum(line.endswith("is on node2") for line in lines) == 2
