"""A team's repository, and the Git DAG bundle that Airflow's workers read it through."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

DAG_FILE = "team_dag.py"
DAG = """
from airflow.sdk import DAG

from taxiway.operators.package import PackageOperator

with DAG(dag_id="team"):
    PackageOperator(task_id="package", project="../models/digits", components=["transform"])
"""
PROJECT = """
[project]
name = "digits"
requires-python = ">=3.11"
[dependency-groups]
transform = []
training = []
inference = []
[tool.taxiway]
handle = "digits"
[tool.taxiway.transform]
command = "python transform.py"
files = ["transform.py"]
[tool.taxiway.training]
command = "python train.py"
[tool.taxiway.inference]
service = "service:Digits"
[tool.taxiway.sla]
p99_ms = 50
availability = 0.99
rate_rps = 20
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """A team's clone, whose commits reach the bare repository that the bundle tracks."""

    clone: Path
    bare: Path

    def commit(self, code: str) -> str:
        """Push a commit that changes the project's code, and return its id."""
        (self.clone / "models" / "digits" / "transform.py").write_text(code, encoding="utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", code)
        self.git("push", "--quiet", "origin", "HEAD:main")
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=team", "-c", "user.email=team@example.com")
        command = ["git", *identity, *arguments]
        return subprocess.run(
            command, cwd=self.clone, check=True, capture_output=True, text=True
        ).stdout.strip()


@pytest.fixture
def team(tmp_path: Path) -> Team:
    bare, clone = tmp_path / "team.git", tmp_path / "clone"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(bare)], check=True)
    subprocess.run(["git", "clone", "--quiet", str(bare), str(clone)], check=True, capture_output=True)
    (clone / "dags").mkdir()
    (clone / "dags" / DAG_FILE).write_text(DAG, encoding="utf-8")
    (clone / "models" / "digits").mkdir(parents=True)
    (clone / "models" / "digits" / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    (clone / "models" / "digits" / "train.py").touch()
    (clone / "models" / "digits" / "service.py").write_text("class Digits: ...\n", encoding="utf-8")
    return Team(clone=clone, bare=bare)


@pytest.fixture
def git_bundle(team: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Configure Airflow with one Git bundle over the team's bare repository, and return the bundle's name."""
    bundle = {
        "name": "team",
        "classpath": "airflow.providers.git.bundles.git.GitDagBundle",
        "kwargs": {"repo_url": str(team.bare), "tracking_ref": "main", "subdir": "dags"},
    }
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "bundles"))
    return "team"
