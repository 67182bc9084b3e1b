"""Fixtures of the tests of the compose file: what it needs, made in a folder of its own, and the engine's client."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from taxiway.trial.compose import find_command
from taxiway.trial.secret_files import make_secrets
from tests.compose import local_images
from tests.containers.conftest import client, engine

__all__ = ["client", "engine"]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def bases(client: Any) -> dict[str, str]:
    """Return the settings of images that are made from this machine."""
    return local_images.make(client)


@pytest.fixture(scope="session")
def secrets_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of secrets of a trial that is never played."""
    folder = tmp_path_factory.mktemp("compose") / "secrets"
    make_secrets(folder)
    return folder


@pytest.fixture(scope="session")
def rendered(secrets_dir: Path) -> dict[str, Any]:
    """Return the compose file as compose itself reads it, with the profile of Celery."""
    contexts = secrets_dir.parent / "images"
    for name in ("airflow", "serving"):
        (contexts / name).mkdir(parents=True)
    variables = {"TAXIWAY_SECRETS": str(secrets_dir), "TAXIWAY_CONTEXTS": str(contexts)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TAXIWAY_")}
    told = subprocess.run(
        [*find_command(), "--profile", "celery", "config"],
        cwd=ROOT,
        env={**kept, **variables},
        check=False,
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr
    import yaml

    found: dict[str, Any] = yaml.safe_load(told.stdout)
    return found


@pytest.fixture(scope="session")
def played(bases: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Play the story in containers, as its user would; return its summary, and what it printed and left."""
    home = tmp_path_factory.mktemp("trial") / ".trial-docker"
    command = [sys.executable, "-m", "taxiway.trial", "--docker", "--home", str(home)]
    environment = {**os.environ, **bases}
    told = subprocess.run(
        [*command, "--exit"],
        cwd=ROOT,
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        summary = home / "summary.json"
        yield {
            "exit_code": told.returncode,
            "output": told.stdout,
            "summary": json.loads(summary.read_text()) if summary.exists() else {},
        }
    finally:
        subprocess.run([*command, "--clean"], cwd=ROOT, env=environment, check=True)
