"""A project that came with a Git DAG bundle is of the bundle's commit; no other project is."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taxiway.errors import ArtifactChangedError, AuthenticationError, TaxiwayError
from taxiway.operators.base import bundle_origin, refusals


def context(tmp_path: Path) -> Any:
    for name in ("bundle/dags", "bundle/models", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    bundle = SimpleNamespace(
        version="c0ffee",
        path=tmp_path / "bundle" / "dags",
        repo_path=tmp_path / "bundle",
        repo_url="https://user:secret@host/team.git",
    )
    dag = SimpleNamespace(fileloc=str(tmp_path / "bundle" / "dags" / "dag.py"))
    return {"ti": SimpleNamespace(bundle_instance=bundle), "dag": dag}


def test_project_in_the_bundle_is_of_its_commit_and_url(tmp_path: Path) -> None:
    found = bundle_origin(context(tmp_path), "../models")
    assert found == {"commit": "c0ffee", "url": "https://host/team.git"}


@pytest.mark.parametrize(
    "project", ["../../elsewhere", "https://host/other.git"], ids=["outside-the-bundle", "url"]
)
def test_project_from_elsewhere_is_not_of_the_bundles_commit(tmp_path: Path, project: str) -> None:
    assert bundle_origin(context(tmp_path), project) == {}


def test_bundle_that_kept_its_git_is_asked_itself(tmp_path: Path) -> None:
    given = context(tmp_path)
    (tmp_path / "bundle" / ".git").mkdir()
    assert bundle_origin(given, "../models") == {}


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("http://controller"),
        ArtifactChangedError("tiny/1", "model", "a", "b", "train again"),
    ],
    ids=["token", "changed"],
)
def test_what_no_retry_mends_is_final(error: TaxiwayError) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException), refusals():
        raise error
