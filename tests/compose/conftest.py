"""Fixtures of the tests of the compose file: what it needs, made in a folder of its own, and the engine's client."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taxiway.trial.compose import find_command
from taxiway.trial.secret_files import make_secrets
from tests.compose import local_images
from tests.containers.conftest import client, engine

__all__ = ["client", "engine"]

ROOT = Path(__file__).parents[2]
SHORTEST_SECRET = 40


def words_of(secrets_dir: Path) -> tuple[str, ...]:
    """Return what is secret in the files of a folder: every password, key and token, by itself."""
    texts = (path.read_text() for path in secrets_dir.iterdir())
    return tuple(
        word for text in texts for word in re.split(r"[\s\"/:@]+", text) if len(word) >= SHORTEST_SECRET
    )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A trial in containers that ended by itself.

    Attributes:
        exit_code: 0 when the whole story held.
        output: What it printed.
        summary: What it wrote; empty where it did not come so far.
        logs: The log of each service.
        secrets: Every secret that it had.
    """

    exit_code: int
    output: str
    summary: dict[str, Any]
    logs: dict[str, str]
    secrets: tuple[str, ...]


@pytest.fixture(scope="session")
def play(
    bases: dict[str, str], client: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Played]]:
    """Return a function that plays the story in containers, as its user would; in the end nothing may be left."""
    home = tmp_path_factory.mktemp("trial") / ".trial-docker"
    command = [sys.executable, "-m", "taxiway.trial", "--docker", "--home", str(home)]
    environment = {**os.environ, **bases}

    def run(*options: str) -> Played:
        told = subprocess.run(
            [*command, "--exit", *options],
            cwd=ROOT,
            env=environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        summary, failed = home / "summary.json", home / "logs" / "failed-requests.log"
        first_failed = failed.read_text(errors="replace")[:4_000] if failed.exists() else ""
        return Played(
            exit_code=told.returncode,
            output=told.stdout + first_failed,
            summary=json.loads(summary.read_text()) if summary.exists() else {},
            logs={path.stem: path.read_text(errors="replace") for path in home.glob("logs/*")},
            secrets=words_of(home / "secrets"),
        )

    yield run
    subprocess.run([*command, "--clean"], cwd=ROOT, env=environment, check=True)
    assert not client.volumes(filters={"label": "com.docker.compose.project=taxiway"})["Volumes"]


@pytest.fixture(scope="session")
def played(play: Callable[..., Played]) -> Played:
    """Return the story, played to its end."""
    return play()


@pytest.fixture(scope="session")
def played_by_workers(play: Callable[..., Played], played: Played) -> Played:
    """Return a second trial, which goes on from the first one's volumes: Celery's workers run its tasks."""
    assert played.exit_code == 0, played.output
    return play("--celery")
