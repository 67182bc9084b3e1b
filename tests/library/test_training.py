"""A recipe has one result: trained once, registered once with its whole lineage, started again clean after a kill."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from taxiway.datasets import DatasetVersion
from taxiway.errors import (
    ArtifactChangedError,
    ComponentFailedError,
    DiskFullError,
    GateFailedError,
    ModelNotFoundError,
    OutputFaultsError,
    PackageNotRegisteredError,
    UntraceableError,
)
from taxiway.evaluation import evaluate
from taxiway.packaging import package
from taxiway.provenance import Provenance
from taxiway.registry import models, packages, tracking
from taxiway.settings import Settings
from taxiway.tools import remove
from taxiway.training import finished, recipe_of, train
from taxiway.transform import transform
from taxiway.tuning import open_study, tune
from tests.projects import commit_all

pytestmark = pytest.mark.slow
TASK = Provenance(dag_id="paths", run_id="manual__1", task_id="train")


@pytest.fixture
def registered(handled: Path, live: Settings) -> Path:
    """Return the project, its training and inference packages registered."""
    packages.register(package(str(handled), live, kinds=["training", "inference"]), live)
    return handled


def runs(handle: str, settings: Settings) -> tuple[tracking.Run, ...]:
    experiment = tracking.ensure_experiment(handle, settings)
    return tracking.find_runs(experiment, {"taxiway.kind": "training"}, settings)


def test_train_registers_a_version_with_its_whole_lineage(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    lines: list[str] = []
    made = train(handle, dataset, live, params={"c": 0.25}, provenance=TASK, log=lines.append)
    assert "training with 0.25" in lines
    assert (made.version, made.dataset, made.params) == (1, dataset, {"c": 0.25})
    assert made.metrics == {"score": pytest.approx(0.9975)}
    assert made.training_digest == packages.lookup(handle, "training", live).digest
    assert made.inference_digest == packages.lookup(handle, "inference", live).digest
    tags = tracking.find_versions(handle, {}, live)[0].tags
    assert tags["taxiway.dataset"] == "numbers@v1"
    assert tags["taxiway.airflow.run_id"] == "manual__1"
    run = tracking.get_run(made.run_id, live)
    assert (run.status, run.params, run.tags["taxiway.airflow.task_id"]) == (
        "FINISHED",
        {"c": "0.25"},
        "train",
    )
    assert (
        models.get(handle, 1, live)
        == made
        == models.ModelVersion.from_json(json.loads(json.dumps(made.to_json())))
    )


def test_model_files_are_brought_and_checked(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    made = train(handle, dataset, live)
    folder = models.download(made, live)
    assert json.loads((folder / "weights.json").read_text()) == {"c": 0.5}
    assert f"run_id: {made.run_id}" in (folder / "MLmodel").read_text()
    assert [oct(path.stat().st_mode & 0o777) for path in (folder, folder / "weights.json")] == [
        "0o555",
        "0o444",
    ]
    before = folder.stat().st_ino
    folder.chmod(0o755)
    (folder / "cache.bin").write_text("left by a service")
    assert models.download(made, live).stat().st_ino == before
    (folder / "weights.json").chmod(0o644)
    (folder / "weights.json").write_text("tampered")
    with pytest.raises(ArtifactChangedError, match="once nothing serves it"):
        models.download(made, live)
    assert (folder / "cache.bin").exists()


def test_model_that_was_changed_in_mlflow_is_refused_and_leaves_nothing(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings, mlflow_folder: Path
) -> None:
    made = train(handle, dataset, live)
    (stored,) = (mlflow_folder / "artifacts").rglob(f"{made.run_id}/**/weights.json")
    stored.write_text('{"c": 0.1}')
    with pytest.raises(ArtifactChangedError, match="its model has the hash"):
        models.download(made, live)
    assert list((live.home / "models" / handle).iterdir()) == []


def test_run_leaves_no_source_and_no_model_on_this_host(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    made = train(handle, dataset, live)
    assert [path.name for path in (live.home / "runs" / made.run_id).iterdir()] == ["log.txt"]


def test_train_twice_is_one_version(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    assert train(handle, dataset, live) == train(handle, dataset, live, provenance=TASK)
    assert len(runs(handle, live)) == 1
    assert train(handle, dataset, live, seed=1).version == 2
    assert train(handle, dataset, live, params={"c": 0.4}).version == 3


def test_new_inference_code_is_a_new_version_of_the_same_run(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    first = train(handle, dataset, live)
    with (registered / "service.py").open("a") as file:
        file.write("\n# new inference code\n")
    packages.register(package(str(registered), live), live)
    second = train(handle, dataset, live)
    assert (first.version, second.version) == (1, 2)
    assert first.run_id == second.run_id
    assert first.inference_digest != second.inference_digest
    assert len(runs(handle, live)) == 1


def test_new_training_code_is_used_without_a_change_of_the_caller(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    first = train(handle, dataset, live)
    script = (registered / "train.py").read_text()
    (registered / "train.py").write_text(script.replace('"score": 1', '"score": 2'))
    packages.register(package(str(registered), live, kinds=["training"]), live)
    second = train(handle, dataset, live)
    assert second.metrics["score"] == pytest.approx(first.metrics["score"] + 1)


def test_run_that_names_its_packages_uses_them_whatever_others_register_meanwhile(
    handled: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    """A notebook registers weaker bars and other code between the tasks of a DAG run."""
    own = {made.kind: made.digest for made in packages.register(package(str(handled), live), live)}
    for name in ("transform.py", "train.py", "evaluate.py", "service.py"):
        (handled / name).write_text((handled / name).read_text() + "\n# another's\n")
    path = handled / "pyproject.toml"
    path.write_text(path.read_text().replace("minimum = { score = 0.9 }", "minimum = { score = 0.1 }"))
    commit_all(handled)
    others = {made.kind: made.digest for made in packages.register(package(str(handled), live), live)}
    assert all(others[kind] != own[kind] for kind in own)

    assert transform(handle, live, digests=own).origin.details["code"] == own["transform"]
    assert open_study(handle, dataset, live, trials=1, digests=own).training == own["training"]
    assert open_study(handle, dataset, live, trials=1).training == others["training"]
    tuned = tune(handle, dataset, live, trials=1, repeats=0, digests=own)
    assert tuned.run_id is not None
    assert tracking.get_run(tuned.run_id, live).tags["taxiway.training.digest"] == own["training"]
    made = train(handle, dataset, live, params={"c": 1.0}, digests=own)
    assert (made.training_digest, made.inference_digest) == (own["training"], own["inference"])
    with pytest.raises(GateFailedError, match=r"below its minimum 0\.9"):
        evaluate(handle, made.version, dataset, live, digests=own)
    assert evaluate(handle, made.version, dataset, live).passed


def test_train_without_a_registered_package_is_refused(
    handled: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    with pytest.raises(PackageNotRegisteredError, match="inference"):
        train(handle, dataset, live)
    packages.register(package(str(handled), live, kinds=["inference"]), live)
    with pytest.raises(PackageNotRegisteredError, match="training"):
        train(handle, dataset, live)


def test_training_that_fails_leaves_a_failed_run_that_the_retry_takes_over(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings, tmp_path: Path
) -> None:
    with pytest.raises(ComponentFailedError, match="c is too small"):
        train(handle, dataset, live, params={"c": 0.5, "fail_below": 0.6}, provenance=TASK)
    (run,) = runs(handle, live)
    assert run.status == "FAILED"
    with pytest.raises(ComponentFailedError):
        train(
            handle,
            dataset,
            live,
            params={"c": 0.5, "fail_below": 0.6},
            provenance=replace(TASK, try_number=2),
        )
    (again,) = runs(handle, live)
    assert (again.run_id, again.tags["taxiway.airflow.try_number"]) == (run.run_id, "2")
    with pytest.raises(ModelNotFoundError):
        models.get(handle, 1, live)


def test_training_without_results_is_refused(
    handled: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    (handled / "train.py").write_text("print('nothing')\n")
    packages.register(package(str(handled), live, kinds=["training", "inference"]), live)
    with pytest.raises(OutputFaultsError, match=r"metrics\.json is missing"):
        train(handle, dataset, live)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_disk_that_fills_while_it_trains_leaves_nothing_and_the_retry_trains(
    handled: Path, handle: str, dataset: DatasetVersion, live: Settings, commit: Callable[..., str]
) -> None:
    with (handled / "train.py").open("a") as file:
        file.write("(output / 'model' / 'large.bin').write_bytes(bytes(2**22))\n")
    commit(handled)
    packages.register(package(str(handled), live, kinds=["training", "inference"]), live)
    small = live.home / "runs"
    small.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=True)
    try:
        lines: list[str] = []
        with pytest.raises(DiskFullError, match="no room at"):
            train(handle, dataset, live, provenance=TASK, log=lines.append)
        assert "No space left on device" in lines[-1]
        (failed,) = runs(handle, live)
        assert (failed.status, failed.metrics) == ("FAILED", {})
        assert [path for path in small.iterdir() if path.suffix != ".lock"] == []
        subprocess.run(["mount", "-o", "remount,size=32m", small], check=True)
        made = train(handle, dataset, live, provenance=replace(TASK, try_number=2))
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)
    assert (made.version, made.run_id) == (1, failed.run_id)


def test_version_with_a_missing_edge_is_refused(
    registered: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    train(handle, dataset, live)
    recipe = recipe_of(handle, replace(dataset, commit=""), live, params=None, seed=0)
    run = finished(recipe, live)
    assert run is not None
    inference = replace(packages.lookup(handle, "inference", live), version=None, commit=None)
    with pytest.raises(UntraceableError) as caught:
        models.register_version(recipe, inference, run, live)
    assert [fault.split(";")[0] for fault in caught.value.faults] == [
        "inference package is not registered",
        "dataset has no Git commit",
        "inference code has no Git commit",
    ]


def test_code_outside_git_is_refused_or_marked_and_never_promoted(
    handled: Path, handle: str, dataset: DatasetVersion, live: Settings, commit: Callable[..., str]
) -> None:
    remove(handled / ".git")
    packages.register(package(str(handled), live, kinds=["training", "inference"]), live)
    with pytest.raises(UntraceableError) as caught:
        train(handle, dataset, live)
    assert [fault.split()[0] for fault in caught.value.faults] == ["training", "inference"]

    marked = train(handle, dataset, replace(live, allow_untraceable=True))
    assert marked.untraceable == caught.value.faults
    assert models.get(handle, marked.version, live) == marked
    tags = tracking.find_versions(handle, {}, live)[0].tags
    assert tags["taxiway.untraceable"] == "; ".join(marked.untraceable)
    with pytest.raises(UntraceableError, match="never promoted: training code has no Git commit"):
        models.refuse_untraceable(marked)

    made_of = commit(handled)
    packages.register(package(str(handled), live, kinds=["training", "inference"]), live)
    traced = train(handle, dataset, live)
    assert (traced.version, traced.untraceable, traced.run_id) == (2, (), marked.run_id)
    models.refuse_untraceable(traced)
    tags = tracking.find_versions(handle, {}, live)[0].tags
    assert tags["taxiway.training.commit"] == tags["taxiway.inference.commit"] == made_of


CALLER = """
import json, sys
from pathlib import Path
from taxiway.datasets import DatasetVersion
from taxiway.provenance import Provenance
from taxiway.settings import Settings
from taxiway.training import train
given = json.loads(sys.argv[1])
paths = {name: Path(given["settings"][name]) for name in ("home", "data_repository", "constraints")}
train(given["handle"], DatasetVersion.from_json(given["dataset"]), Settings(**{**given["settings"], **paths}),
    params=given["params"], provenance=Provenance(**given["task"]))
"""


def test_training_that_was_killed_is_started_again_clean_in_the_same_run(
    registered: Path,
    handle: str,
    dataset: DatasetVersion,
    live: Settings,
    tmp_path: Path,
    until: Callable[..., None],
) -> None:
    hold, pid = tmp_path / "training.hold", tmp_path / "training.pid"
    hold.touch()
    params = {"c": 0.5, "hold": str(hold)}
    settings = {
        "home": str(live.home),
        "tracking_uri": live.tracking_uri,
        "data_repository": str(live.data_repository),
        "data_remote": live.data_remote,
        "constraints": str(live.constraints),
    }
    task = {"dag_id": TASK.dag_id, "run_id": TASK.run_id, "task_id": TASK.task_id}
    given = {
        "handle": handle,
        "dataset": dataset.to_json(),
        "settings": settings,
        "params": params,
        "task": task,
    }
    caller = subprocess.Popen([sys.executable, "-c", CALLER, json.dumps(given)])
    until(lambda: pid.exists() and pid.read_text(), 60)
    training = int(pid.read_text())
    (before,) = runs(handle, live)
    os.kill(caller.pid, signal.SIGKILL)
    caller.wait(60)
    until(lambda: not psutil.pid_exists(training))
    hold.unlink()

    made = train(handle, dataset, live, params=params, provenance=replace(TASK, try_number=2))

    (after,) = runs(handle, live)
    assert (before.status, after.status) == ("RUNNING", "FINISHED")
    assert made.run_id == before.run_id == after.run_id
    assert sorted(path.name for path in models.download(made, live).iterdir()) == ["MLmodel", "weights.json"]
