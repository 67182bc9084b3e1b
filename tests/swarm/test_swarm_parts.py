"""What a job of a Swarm is, where it stands and what travels for it, without a Swarm."""

import hashlib
import io
import json
import tarfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from taxiway import errors
from taxiway.engine import Printed
from taxiway.packaging.image import Image
from taxiway.project.resources import Resources
from taxiway.runners import Inputs, Job, SwarmRunner, delivery, on_engine, swarm_courier
from taxiway.runners.plan import Plan
from taxiway.runners.swarm_engine import JobTask
from taxiway.runners.swarm_post import FOLDER, Post, new_attempt, reachable
from taxiway.runners.swarm_service import NAME, body_of, labels_of, name_of
from taxiway.runners.swarm_store import JobStore
from taxiway.runners.swarm_watch import said_of
from taxiway.settings import Containers, Settings, tracking_authorization
from taxiway_serving.runtimes.swarm_engine import pieces
from tests.containers.conftest import plain_package

IMAGE = Image(name="taxiway/tiny.training:d", id="sha256:1")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    package = plain_package({"command": "python train.py", "threads": 1})
    return Job(package=package, folder=tmp_path / "job", params={"password": "in no letter"})


@pytest.fixture
def store(mlflow_uri: str) -> JobStore:
    return JobStore(mlflow_uri, "")


def plan_of(job: Job, image: Image = IMAGE, **resources: object) -> Plan:
    limits = Resources(**resources)  # type: ignore[arg-type]
    return Plan.of(job, name_of(job.package, job.folder), image, limits, Containers(network="bridge"))


def body(job: Job, image: Image = IMAGE, **resources: object) -> dict[str, object]:
    plan = plan_of(job, image, **resources)
    return body_of(
        plan,
        labels=labels_of(plan, owner="me", attempt="a", folder="0/a"),
        secret=("id", "name"),
        constraints=["node.labels.disk==fast"],
        network="none",
    )


def test_job_is_one_task_that_is_begun_once(job: Job, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    made = body(replace(job, inputs=Inputs(data_dir=tmp_path / "data")), cpus=0.5, memory_mb=64)
    task = made["TaskTemplate"]
    assert isinstance(task, dict)
    assert made["Mode"] == {"Replicated": {"Replicas": 1}}
    assert task["RestartPolicy"] == {"Condition": "none"}
    assert task["Placement"] == {"Constraints": ["node.labels.disk==fast"]}
    assert task["Resources"]["Limits"] == {"NanoCPUs": 500_000_000, "MemoryBytes": 64 * 2**20, "Pids": 1024}
    assert task["Resources"]["Reservations"] == {"NanoCPUs": 500_000_000, "MemoryBytes": 64 * 2**20}
    mounts = {each["Target"]: each["Type"] for each in task["ContainerSpec"]["Mounts"]}
    assert mounts["/taxiway/data"] == "volume"
    assert "bind" not in mounts.values()


def test_image_is_named_by_its_content(job: Job) -> None:
    def named(image: Image) -> str:
        task = body(job, image)["TaskTemplate"]
        assert isinstance(task, dict)
        return str(task["ContainerSpec"]["Image"])

    pinned = "registry.example/taxiway/tiny.training@sha256:2"
    assert (named(IMAGE), named(Image(name=pinned, id="sha256:1"))) == ("sha256:1", pinned)


def test_name_is_one_that_a_service_may_have(job: Job, tmp_path: Path) -> None:
    name = labels_of(plan_of(job), owner="", attempt="", folder="")[NAME]
    assert len(name) <= 63
    assert name.replace("-", "").isalnum()
    assert name != name_of(job.package, tmp_path / "other")


@pytest.mark.parametrize(
    ("task", "is_over", "is_lost", "said"),
    [
        (JobTask(state="new"), False, False, ""),
        (JobTask(state="pending", error="no suitable node"), False, False, "waits: no suitable node"),
        (JobTask(state="running", node="n"), False, False, "is on n"),
        (JobTask(state="running", node="n", is_node_gone=True), True, True, "is on n"),
        (JobTask(state="complete", node="n", is_node_gone=True), True, False, "is on n"),
        (JobTask(state="failed", node="n", exit_code=3), True, False, "is on n"),
        (JobTask(state="shutdown", node="n"), True, True, ""),
        (JobTask(state="shutdown", node="n", exit_code=143), True, True, "is on n"),
        (JobTask(state="rejected", node="n", error="No such image"), True, False, ""),
    ],
    ids=lambda value: value.state if isinstance(value, JobTask) else None,
)
def test_where_a_task_stands(task: JobTask, is_over: bool, is_lost: bool, said: str) -> None:
    assert (task.is_over, task.is_lost, said_of(task)) == (is_over, is_lost, said)


def test_torn_piece_of_a_log_is_left_for_the_next_question() -> None:
    def piece(text: bytes) -> bytes:
        return b"\x01\0\0\0" + len(text).to_bytes(4, "big") + text

    whole = piece(b"1 a\n") + piece(b"2 b\n")
    assert list(pieces(whole)) == [b"1 a\n", b"2 b\n"]
    assert list(pieces(whole[:-1])) == [b"1 a\n"]
    assert list(pieces(whole[:14])) == [b"1 a\n"]


def test_log_that_broke_off_is_taken_up_again_and_gives_each_line_once() -> None:
    printed, minute = Printed(), "2026-05-01T12:00:"
    first = [f"{minute}01.2Z one\n", f"{minute}01.7Z tw"]
    assert Printed().since_s is None
    assert list(printed.lines(first)) == ["one\n"]
    assert printed.since_s == datetime(2026, 5, 1, 12, 0, 1, tzinfo=UTC).timestamp()
    assert list(printed.lines([*first, f"{minute}01.8Z o\n", f"{minute}01.8Z end"])) == ["two\n"]
    assert list(printed.rest()) == ["end\n"]


def test_loopback_is_no_address_for_a_node(tmp_path: Path) -> None:
    assert reachable("http://mlflow:5000") == "http://mlflow:5000"
    settings = Settings(home=tmp_path, data_repository=tmp_path)
    with pytest.raises(errors.InvalidSpecError, match=r"127\.0\.0\.1:5000 is nobody"):
        on_engine("swarm", settings, object())
    known = Settings(
        home=tmp_path, data_repository=tmp_path, containers=Containers(tracking_uri="http://mlflow:5000")
    )
    assert isinstance(on_engine("swarm", known, object()), SwarmRunner)


def test_constraints_and_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"TAXIWAY_SWARM_CONSTRAINTS": "node.role==worker, node.labels.disk==fast,"}
    assert Containers.from_environment(asked).constraints == ("node.role==worker", "node.labels.disk==fast")
    assert Containers.from_environment({}).constraints == ()
    assert tracking_authorization("http://mlflow:5000") == ""
    assert tracking_authorization("http://ann:a%40b@mlflow:5000") == "Basic YW5uOmFAYg=="
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t")
    assert tracking_authorization("http://mlflow:5000") == "Bearer t"
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a@b")
    assert tracking_authorization("http://mlflow:5000") == "Basic YW5uOmFAYg=="


def test_lost_job_survives_pickling() -> None:
    import pickle

    lost = errors.JobLostError("tiny.training", "node2", "the Swarm says shutdown")
    assert str(pickle.loads(pickle.dumps(lost))) == str(lost)
    assert "node2" in str(lost)


def folder_of(path: Path) -> delivery.Folder:
    (folder,) = delivery.folders(Inputs(data_dir=path))
    return folder


@pytest.mark.slow
def test_same_input_is_sent_once_and_a_changed_one_again(store: JobStore, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "x").write_text(str(tmp_path))
    post = Post(store, "", "http://mlflow:5000/", tmp_path / "home", lambda _: "0")
    room = post.room("tiny")
    before = set(store.sizes(f"{room}/inputs"))

    def sent() -> dict[str, str]:
        told = json.loads(post.letter("tiny", f"{room}/a", [folder_of(data)], None))
        assert told["store"] == "http://mlflow:5000/api/2.0/mlflow-artifacts/artifacts/"
        (parcel,) = told["inputs"]
        return dict(parcel)

    first = sent()
    assert sent() == first
    assert len(set(store.sizes(f"{room}/inputs")) - before) == 1
    (data / "x").write_text("another")
    assert sent()["sha256"] != first["sha256"]
    post.doubt(f"{room}/a", [folder_of(data)])
    assert set(store.sizes(f"{room}/inputs")) - before == {f"{first['sha256']}.tar"}
    store.delete(first["path"])
    assert set(store.sizes(f"{room}/inputs")) == before


@pytest.mark.slow
def test_result_counts_only_by_its_hash(store: JobStore, tmp_path: Path) -> None:
    post, content = Post(store, "", "", tmp_path, lambda _: "0"), packed("x", b"trained")
    folder = f"{post.room('tiny')}/{new_attempt()}"
    assert post.receipt(folder) is None
    store.put(f"{folder}/output.tar", iter([content]), len(content))
    store.put(f"{folder}/receipt.json", iter([b"{"]), 1)
    assert post.receipt(folder) is None
    sha256 = hashlib.sha256(content).hexdigest()
    with pytest.raises(errors.ToolFailedError, match="nothing of it was used"):
        post.collect(folder, {"sha256": sha256[::-1]}, tmp_path / "output")
    assert not (tmp_path / "output").exists()
    post.collect(folder, {"sha256": sha256}, tmp_path / "output")
    assert (tmp_path / "output" / "x").read_bytes() == b"trained"
    assert post.clear(folder)
    assert folder.rpartition("/")[2] not in store.sizes(post.room("tiny"))


def test_store_that_is_away_says_which(tmp_path: Path) -> None:
    away = JobStore("http://ann:hush@127.0.0.1:9", "Basic hush")
    with pytest.raises(errors.TransportError, match=r"MLflow at http://127\.0\.0\.1:9") as found:
        away.sizes(FOLDER)
    assert "hush" not in str(found.value)
    assert not Post(away, "", "", tmp_path, lambda _: "0").clear("0/a")


def test_secrets_that_are_too_large_are_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"x" * 500_000)
    with pytest.raises(errors.InvalidSpecError, match="a Swarm hands over 500000"):
        Post(JobStore("http://127.0.0.1:9", ""), "", "", tmp_path, lambda _: "0").letter(
            "tiny", "0/a", [], tmp_path
        )


def packed(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        info = tarfile.TarInfo(f"output/{name}")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


class Shelf(swarm_courier.Store):
    """A store that holds one archive."""

    def __init__(self, content: bytes) -> None:
        super().__init__("", "")
        self._content = content

    def read(self, path: str, take: swarm_courier.Take) -> None:
        take(io.BytesIO(self._content))


def test_courier_refuses_what_was_not_sent(tmp_path: Path) -> None:
    content = packed("x", b"1")
    swarm_courier.bring(Shelf(content), "a", hashlib.sha256(content).hexdigest(), str(tmp_path))
    assert (tmp_path / "output" / "x").read_bytes() == b"1"
    with pytest.raises(swarm_courier.ChangedError):
        swarm_courier.bring(Shelf(content), "a", "0" * 64, str(tmp_path))
