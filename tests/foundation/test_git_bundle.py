"""A DAG in a Git bundle finds the model project committed with it, at the version that the run is pinned to."""

import json
import subprocess
import sys
import tarfile
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from airflow.sdk.execution_time.comms import StartupDetails
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance, parse

from taxiway.checkout import locate
from taxiway.operators.base import bundle_commit, dag_folder
from taxiway.settings import Settings

pytestmark = pytest.mark.slow


def as_a_worker_reads_it(bundle: str, version: str | None) -> RuntimeTaskInstance:
    """Return the task as Airflow's own worker gets it: out of the bundle, at a version, from the DAG's file."""
    now = datetime.now(tz=UTC)
    absent = ("logical_date", "data_interval_start", "data_interval_end", "end_date", "partition_key")
    run = dict.fromkeys(absent) | {
        "dag_id": "team",
        "run_id": "manual__1",
        "run_type": "manual",
        "state": "running",
        "run_after": now,
        "start_date": now,
        "consumed_asset_events": [],
    }
    task = {
        "id": uuid.uuid4(),
        "task_id": "package",
        "dag_id": "team",
        "run_id": "manual__1",
        "try_number": 1,
    }
    details = {
        "ti": task | {"dag_version_id": uuid.uuid4()},
        "dag_rel_path": "team_dag.py",
        "bundle_info": {"name": bundle, "version": version},
        "start_date": now,
        "ti_context": {"dag_run": run, "max_tries": 0, "should_retry": False},
        "sentry_integration": "",
    }
    found: RuntimeTaskInstance = parse(StartupDetails.model_validate(details), structlog.get_logger())
    return found


def context_of(ti: RuntimeTaskInstance) -> Any:
    return {"ti": ti, "dag": ti.task.dag}


def project_code(ti: RuntimeTaskInstance) -> str:
    task: Any = ti.task
    checkout = locate(task.project, Settings.from_environment(), beside=dag_folder(context_of(ti)))
    return (checkout.root / "transform.py").read_text(encoding="utf-8")


@pytest.mark.usefixtures("airflow_home")
def test_project_is_found_beside_the_dag_at_the_pinned_version(team: Any, git_bundle: str) -> None:
    first = team.commit("print('first')")
    team.commit("print('second')")
    ti = as_a_worker_reads_it(git_bundle, first)
    assert project_code(ti) == "print('first')"
    assert bundle_commit(context_of(ti)) == first


@pytest.mark.usefixtures("airflow_home")
def test_project_is_the_tracked_one_when_no_version_is_pinned(team: Any, git_bundle: str) -> None:
    team.commit("print('first')")
    assert project_code(as_a_worker_reads_it(git_bundle, None)) == "print('first')"
    team.commit("print('second')")
    ti = as_a_worker_reads_it(git_bundle, None)
    assert project_code(ti) == "print('second')"
    assert bundle_commit(context_of(ti)) is None


@pytest.mark.slow
@pytest.mark.usefixtures("airflow_home", "git_bundle")
def test_worker_packages_the_code_of_the_pinned_version(team: Any, home: Path) -> None:
    first = team.commit("print('first')")
    team.commit("print('second')")
    command = [sys.executable, Path(__file__).with_name("bundle_worker.py"), first]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert finished.returncode == 0, finished.stderr[-4000:]
    result = json.loads(finished.stdout.splitlines()[-1])
    assert result["state"] == "success", finished.stdout[-4000:]
    (package,) = result["packages"]
    assert (package["handle"], package["kind"]) == ("digits", "transform")
    assert (package["commit"], package["is_dirty"]) == (first, False)
    (source,) = (home / ".taxiway" / "packages" / package["digest"]).rglob("*.tar.gz")
    with tarfile.open(source) as archive:
        member = archive.extractfile(
            next(name for name in archive.getnames() if name.endswith("transform.py"))
        )
        assert member is not None
        assert member.read() == b"print('first')"
