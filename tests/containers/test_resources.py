"""What a project may ask for, what a host must have, and where it is said. No engine is needed here."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taxiway.errors import InvalidSpecError, ProjectFaultsError, ResourceShortageError
from taxiway.operators.train import TrainOperator
from taxiway.packaging import Materialised
from taxiway.project import read, resources
from taxiway.project.resources import Host, Resources
from taxiway.runners import Job, ProcessRunner, WarmRunner, named
from taxiway.settings import Containers, Settings
from tests.containers.conftest import plain_package

WHERE = "[tool.taxiway.training]"


def test_table_that_is_not_there_limits_processes_alone() -> None:
    assert resources.of({}) == Resources(cpus=None, memory_mb=None, pids=1024, gpus=0)


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"cpus": 0}, "cpus must be a number from 0.01, got 0"),
        ({"cpus": True}, "cpus must be a number"),
        ({"memory_mb": 15}, "memory_mb must be a whole number from 16, got 15"),
        ({"memory_mb": "4g"}, "memory_mb must be a whole number"),
        ({"pids": 0}, "pids must be a whole number from 1"),
        ({"gpus": -2}, "gpus must be a whole number from 0, or -1 for all"),
        ({"cpu": 1}, "unknown key 'cpu'; known: cpus, gpus, memory_mb, pids"),
    ],
    ids=str,
)
def test_fault_names_key_value_and_limit(table: dict[str, Any], fault: str) -> None:
    (found,) = resources.faults(table, WHERE)
    assert fault in found


def test_every_fault_is_told_at_once() -> None:
    assert len(resources.faults({"cpus": 0, "memory_mb": 0, "pids": 0, "gpus": -5, "x": 1}, WHERE)) == 5


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (None, None),
        ("Dockerfile", None),
        ("./Dockerfile", None),
        ("other", "is not among its files"),
        (3, "must be a text"),
    ],
    ids=str,
)
def test_own_dockerfile_is_one_of_the_files(name: Any, fault: str | None) -> None:
    found = resources.dockerfile_faults(name, ("Dockerfile", "train.py"), WHERE)
    assert [fault in each for each in found] == ([True] if fault else []) if fault else found == []


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({}, None),
        ({"image": "registry.example/served@sha256:0"}, None),
        ({"image": ""}, "must be the name of an image, got ''"),
        ({"image": "two words"}, "must be the name of an image"),
        ({"image": 3}, "must be the name of an image, got 3"),
        ({"image": "served", "dockerfile": "Dockerfile"}, "leave one of them out"),
    ],
    ids=str,
)
def test_image_of_an_inference_is_a_name_and_the_only_one(table: dict[str, Any], fault: str | None) -> None:
    found = resources.image_faults(table, WHERE)
    assert [fault in each for each in found] == [True] if fault else found == []


def test_project_says_what_its_components_may_use(project: Path) -> None:
    from taxiway.checkout import locate

    path = project / "pyproject.toml"
    path.write_text(path.read_text() + "\n[tool.taxiway.training.resources]\ncpus = 2\n")
    settings = Settings(home=project / "home", data_repository=project / "data")
    checkout = locate(str(project), settings)
    assert read(checkout).components["training"].resources == {"cpus": 2}
    path.write_text(path.read_text().replace("cpus = 2", "cpus = 0"))
    with pytest.raises(ProjectFaultsError, match=r"resources\.cpus"):
        read(checkout)


def test_shortage_names_everything_that_is_lacking() -> None:
    lacking = resources.shortages(Resources(cpus=8, memory_mb=10_000), Host(cpus=2, memory_mb=4_000))
    assert lacking == ["cpus = 8, and the host has 2", "memory_mb = 10000, and the host has 4000"]
    assert resources.shortages(Resources(cpus=2, memory_mb=4_000), Host(cpus=2, memory_mb=4_000)) == []


@pytest.mark.parametrize("limits", [{"cpus": 4096}, {"memory_mb": 2**40}], ids=["cpus", "memory"])
@pytest.mark.parametrize("is_warm", [False, True], ids=["fresh", "warm"])
def test_process_is_refused_what_its_host_has_not_and_told_what_nothing_holds(
    tmp_path: Path, limits: dict[str, int], *, is_warm: bool
) -> None:
    (tmp_path / "source").mkdir()
    ready = Materialised(source_dir=tmp_path / "source", python=Path(sys.executable))
    lines: list[str] = []
    package = plain_package({"command": "python -c pass", "threads": 1, "resources": limits})
    job = Job(package=package, folder=tmp_path / "job")
    with WarmRunner(lambda _: ready, tmp_path / "warm", lines.append) as warm:
        runner = warm if is_warm else ProcessRunner(lambda _: ready)
        with pytest.raises(ResourceShortageError, match=next(iter(limits))):
            runner.run(job, lines.append)
        assert (lines, job.folder.exists()) == ([], False)
        modest = replace(package, manifest={**package.manifest, "resources": {"cpus": 1, "pids": 64}})
        runner.run(replace(job, package=modest), lines.append)
    assert lines[0].startswith(
        "tiny.training may use cpus 1, memory all, processes 64, gpus 0: as processes nothing holds it to that"
    )


def test_runner_without_a_name_that_is_known_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, data_repository=tmp_path)
    with pytest.raises(InvalidSpecError, match="'podman'; known: process, docker"):
        named("podman", settings)


@pytest.mark.usefixtures("airflow_home")
@pytest.mark.parametrize(
    ("variable", "argument", "expected"),
    [
        (None, None, "process"),
        ("docker", None, "docker"),
        ("docker", "process", "process"),
        (None, "docker", "docker"),
    ],
    ids=str,
)
def test_task_overrides_the_machine(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, argument: str | None, expected: str
) -> None:
    if variable:
        monkeypatch.setenv("TAXIWAY_RUNNER", variable)
    task = TrainOperator(task_id="train", handle="digits", dataset={}, runner=argument)
    assert task.settings().runner == expected
    if expected == "process":
        assert task.component_runner() is None


def test_settings_of_containers_come_from_the_environment(tmp_path: Path) -> None:
    found = Settings.from_environment(
        {
            "TAXIWAY_HOME": str(tmp_path),
            "TAXIWAY_RUNNER": "docker",
            "DOCKER_HOST": "tcp://engine:2376",
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(tmp_path / "certificates"),
            "TAXIWAY_BASE_IMAGE": "base:{python}",
            "TAXIWAY_IMAGE_REGISTRY": "registry.example/team",
            "TAXIWAY_CONTAINER_NETWORK": "taxiway",
            "TAXIWAY_CONTAINER_TRACKING_URI": "http://mlflow:5000",
            "TAXIWAY_CONTAINER_INPUTS": "copy",
        }
    )
    assert found.runner == "docker"
    assert found.containers == Containers(
        url="tcp://engine:2376",
        certificates=tmp_path / "certificates",
        base_image="base:{python}",
        registry="registry.example/team",
        network="taxiway",
        tracking_uri="http://mlflow:5000",
        inputs="copy",
    )
