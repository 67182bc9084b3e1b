"""What a job of a Swarm does when the manager, the store, its node or another host is in its way, without a Swarm."""

import http.server
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxiway import component, errors
from taxiway.project.resources import Host, Resources
from taxiway.runners import Inputs, Job, SwarmRunner, swarm_courier
from taxiway.runners.configuration import configuration
from taxiway.runners.plan import OWNER, SPEC
from taxiway.runners.swarm_engine import JobEngine, JobTask
from taxiway.runners.swarm_post import FOLDER, KEPT_S, Post, new_attempt, reachable
from taxiway.runners.swarm_store import PROXY, JobStore
from taxiway.settings import Containers
from taxiway.tools import exclusive
from taxiway_serving.runtimes.swarm_engine import Service
from tests.containers.conftest import plain_package, silent
from tests.swarm.test_swarm_parts import IMAGE, folder_of, job, packed, store

__all__ = ["job", "store"]


class Drawer(JobStore):
    """A store in memory, which may refuse to delete."""

    def __init__(self) -> None:
        super().__init__("http://mlflow:5000", "")
        self.files: dict[str, bytes] = {}
        self.refuses = False

    def sizes(self, folder: str) -> dict[str, int]:
        found = {path.rpartition("/"): len(content) for path, content in self.files.items()}
        return {name: size for (parent, _, name), size in found.items() if parent == folder}

    def put(self, path: str, pieces: Iterable[bytes], length: int) -> None:
        self.files[path] = b"".join(pieces)

    def read(self, path: str) -> dict[str, Any] | None:
        return json.loads(self.files[path]) if path in self.files else None

    def fetch(self, path: str, sha256: str, into: Path) -> None:
        into.write_bytes(self.files[path])

    def delete(self, path: str) -> None:
        if self.refuses:
            raise errors.TransportError("MLflow", "HTTP 403: Permission denied")
        self.files = {name: each for name, each in self.files.items() if not name.startswith(path)}


class Manager(JobEngine):
    """A manager of a Swarm whose one node does with each job what it is told; it may go away."""

    def __init__(self, task: JobTask) -> None:
        super().__init__(None, "")
        self.task = task
        self.found: Service | None = None
        self.is_away = False

    def rest(self) -> None:
        pass

    def hosts(self) -> tuple[Host, ...]:
        return (Host(cpus=2, memory_mb=1024),)

    def service(self, name: str) -> Service | None:
        return self.found

    def services(self, labels: Mapping[str, str]) -> tuple[Service, ...]:
        return (self.found,) if self.found else ()

    def job_task(self, labels: Mapping[str, str]) -> JobTask:
        return self.task

    def has_tasks(self, labels: Mapping[str, str]) -> bool:
        return False

    def log_pieces(self, service: str, since_s: int | None) -> Iterator[str]:
        yield "2026-05-01T12:00:00.1Z last words\n"

    def secrets(self, labels: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        return {}

    def create_secret(self, name: str, content: bytes, labels: Mapping[str, str]) -> str:
        return "secret"

    def create_job(self, body: Mapping[str, Any]) -> str:
        self.found = Service(
            id="s", name=body["Name"], index=1, labels=body["Labels"], spec=body, since_s=0.0
        )
        return "s"

    def remove_service(self, service: str) -> None:
        if self.is_away:
            raise errors.TransportError("the manager", "no route to host")
        self.found = None


@pytest.fixture
def drawer() -> Drawer:
    return Drawer()


@pytest.fixture
def post(drawer: Drawer, tmp_path: Path) -> Post:
    return Post(drawer, "", "http://mlflow:5000", tmp_path / "home", lambda _: "0")


def runner_of(manager: Manager, post: Post, tmp_path: Path) -> SwarmRunner:
    return SwarmRunner(manager, lambda _: IMAGE, post, Containers(), tmp_path / "home")


@pytest.fixture
def reading(job: Job, tmp_path: Path) -> Job:
    """Return a job that reads a folder, and may use some memory."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("1")
    package = plain_package({"command": "python train.py", "threads": 1, "resources": {"memory_mb": 64}})
    return replace(job, package=package, inputs=Inputs(data_dir=tmp_path / "data"))


def test_housekeeping_stands_in_no_jobs_way(reading: Job, post: Post, drawer: Drawer, tmp_path: Path) -> None:
    runner = runner_of(Manager(JobTask(state="new")), post, tmp_path)
    data = folder_of(tmp_path / "data")
    post.letter("tiny", f"{post.room('tiny')}/a", [data], None)
    (mark,) = (tmp_path / "home" / "inputs").glob("*/*.tar")

    def age() -> None:
        os.utime(mark, (0, mark.stat().st_mtime - KEPT_S - 60))

    age()
    drawer.refuses = True
    runner.prepare(reading.package)
    drawer.refuses = False
    assert len(drawer.files) == 1
    with exclusive(mark.with_suffix(".lock")):
        runner.prepare(reading.package)
    assert len(drawer.files) == 1
    # It was old when it was seen, and is promised to a job by the time its lock is held.
    post.letter("tiny", f"{post.room('tiny')}/a", [data], None)
    post._delete_if_old(mark)
    assert len(drawer.files) == 1
    age()
    runner.prepare(reading.package)
    assert (drawer.files, mark.exists()) == ({}, False)
    post._delete_if_old(mark)


def test_password_of_an_address_is_told_to_nobody(job: Job) -> None:
    address = "http://ann:hu/sh@mlflow:5000"
    assert reachable(address) == "http://mlflow:5000"
    with pytest.raises(errors.InvalidSpecError) as found:
        reachable("http://ann:hush@localhost:5000")
    assert "hush" not in str(found.value)
    tracked = replace(job, tracking=component.Tracking(uri="http://own:5000", run_id="r", experiment_id="0"))
    limits, containers = Resources(), Containers(network="bridge", tracking_uri=address)
    variables = configuration(tracked, IMAGE, limits, containers)["Env"]
    assert [each for each in variables if "mlflow:5000" in each] == ["MLFLOW_TRACKING_URI=http://mlflow:5000"]


def test_training_that_was_fetched_counts_though_the_manager_goes_away(
    job: Job, post: Post, drawer: Drawer, tmp_path: Path
) -> None:
    manager, lines = Manager(JobTask(state="complete", node="n", exit_code=0)), list[str]()
    runner = runner_of(manager, post, tmp_path)

    def hear(line: str) -> None:
        lines.append(line)
        if line == "last words":
            assert manager.found
            folder, content = manager.found.labels["taxiway.folder"], packed("x", b"trained")
            drawer.files[f"{folder}/output.tar"] = content
            receipt = {"exit_code": 0, "out_of_memory": False, "sha256": "", "bytes": len(content)}
            drawer.files[f"{folder}/receipt.json"] = json.dumps(receipt).encode()
            manager.is_away = True

    result = runner.run(job, hear)
    assert (result.output_dir / "x").read_bytes() == b"trained"
    assert "could not be removed" in lines[-1]
    manager.is_away = False
    assert runner.reap(0)
    assert (manager.found, drawer.files) == (None, {})


@pytest.mark.parametrize(
    ("exit_code", "error", "kept"),
    [
        (swarm_courier.UNDELIVERED, errors.ToolFailedError, 1),
        (swarm_courier.CHANGED, errors.ToolFailedError, 0),
        (swarm_courier.DISK_FULL, errors.DiskFullError, 1),
        (137, errors.OutOfMemoryError, 1),
        (139, errors.ComponentFailedError, 1),
    ],
)
def test_what_a_job_without_a_receipt_ended_of(
    reading: Job,
    post: Post,
    drawer: Drawer,
    tmp_path: Path,
    exit_code: int,
    error: type[errors.TaxiwayError],
    kept: int,
) -> None:
    runner = runner_of(Manager(JobTask(state="failed", node="n", exit_code=exit_code)), post, tmp_path)
    with pytest.raises(error) as found:
        runner.run(reading, silent)
    assert type(found.value) is error
    assert len(drawer.files) == kept


def test_job_that_is_told_to_end_keeps_its_last_words(job: Job, post: Post, tmp_path: Path) -> None:
    lines: list[str] = []
    runner = runner_of(Manager(JobTask(state="shutdown", node="n", exit_code=143)), post, tmp_path)
    with pytest.raises(errors.JobLostError):
        runner.run(job, lines.append)
    assert lines[-1] == "last words"


def test_another_homes_job_under_way_is_let_be(job: Job, post: Post, tmp_path: Path) -> None:
    manager = Manager(JobTask(state="running", node="n"))
    runner = runner_of(manager, post, tmp_path)
    runner._start(runner._plan(job), silent)
    own = manager.found
    assert own
    manager.found = replace(own, labels={**own.labels, OWNER: "another", SPEC: "of another"})
    with pytest.raises(errors.TransportError, match="another TAXIWAY_HOME"):
        runner.run(job, silent)
    assert manager.services({})
    # The same run's retry on a host without that home goes on with it; what is over is in nobody's way.
    manager.found = replace(own, labels={**own.labels, OWNER: "another"})
    assert runner._attach(runner._plan(job), silent)
    manager.found = replace(own, labels={**own.labels, OWNER: "another", SPEC: "of another"})
    manager.task = JobTask(state="failed", node="n", exit_code=1)
    assert runner._attach(runner._plan(job), silent) is None
    assert not manager.services({})


class Forgetful(http.server.BaseHTTPRequestHandler):
    """Artifacts as MLflow's server hands them on; the answer to the first file that it is sent is lost."""

    def do_PUT(self) -> None:
        asked, files = self.server.asked, self.server.files  # type: ignore[attr-defined]
        asked.append("PUT")
        files[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        if len(files) > 1:
            self._answer(b"{}")

    def do_GET(self) -> None:
        files = self.server.files  # type: ignore[attr-defined]
        if self.path in files:
            return self._answer(files[self.path])
        if "?" not in self.path:
            return self.send_error(404)
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        listed = [{"path": Path(path).name, "file_size": len(files[path])} for path in files]
        return self._answer(json.dumps({"files": listed}).encode())

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def forgetful() -> Iterator[http.server.HTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Forgetful) as server:
        server.asked, server.files = [], {}  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_courier_sends_nothing_twice_of_which_only_the_answer_was_lost(
    forgetful: Any, tmp_path: Path
) -> None:
    (tmp_path / "output.tar").write_bytes(b"trained")
    store = swarm_courier.Store(f"http://127.0.0.1:{forgetful.server_port}/artifacts/", "")
    store.send("0/a/output.tar", str(tmp_path / "output.tar"))
    assert forgetful.asked == ["PUT", "/artifacts?path=0%2Fa"]
    assert swarm_courier.patience_s(100_000_000) == 160


@pytest.mark.slow
def test_courier_knows_what_lies_in_mlflow(store: JobStore, mlflow_uri: str) -> None:
    path, courier = f"0/{FOLDER}/{new_attempt()}/x", swarm_courier.Store(f"{mlflow_uri}{PROXY}/", "")
    assert not courier._has(path, 1)
    store.put(path, iter([b"1"]), 1)
    assert (courier._has(path, 1), courier._has(path, 2)) == (True, False)
    store.delete(path.rpartition("/")[0])


def test_courier_tells_an_input_that_is_damaged_from_one_that_did_not_arrive(
    forgetful: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgetful.files["/artifacts/0/a.tar"] = packed("x", b"1")
    monkeypatch.setattr(swarm_courier, "LETTER", str(tmp_path / "letter"))

    def ended(path: str) -> int:
        letter = {
            "store": f"http://127.0.0.1:{forgetful.server_port}/artifacts/",
            "authorization": "",
            "inputs": [{"path": path, "sha256": "0" * 64, "target": str(tmp_path / "data")}],
        }
        (tmp_path / "letter").write_text(json.dumps(letter))
        # Never a program that there is: the courier ends all that its user runs, which here is no container's.
        return swarm_courier.main([str(tmp_path / "none")])

    assert (ended("0/a.tar"), ended("0/b.tar")) == (swarm_courier.CHANGED, swarm_courier.UNDELIVERED)
