"""Fixtures of the tests of the compose file: what it needs, made in a folder of its own, and the engine's client."""

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from taxiway.trial.layout import Layout
from taxiway.trial.naming import names_of
from taxiway.trial.needs import find_command
from taxiway.trial.secret_files import make_secrets
from taxiway_serving.runtimes.images import OWNER
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
        project: Its name among compose's projects.
        left: What the engine had at its end and not before the first trial, by kind.
    """

    exit_code: int
    output: str
    summary: dict[str, Any]
    logs: dict[str, str]
    secrets: tuple[str, ...]
    project: str
    left: dict[str, set[str]]


def held(client: Any) -> dict[str, set[str]]:
    """Return what the engine has, whoever made it; of images those with a name, but for those of components."""
    images = {
        tag
        for each in client.images()
        if not {"taxiway.handle", "taxiway.lock"} & set(each["Labels"] or ()) or OWNER in each["Labels"]
        for tag in each["RepoTags"] or ()
    }
    return {
        "containers": {each["Id"] for each in client.containers(all=True)},
        "networks": {each["Name"] for each in client.networks()},
        "volumes": {each["Name"] for each in client.volumes()["Volumes"] or ()},
        "images": images - {"<none>:<none>"},
    }


@pytest.fixture(scope="module")
def play(
    bases: dict[str, str], client: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Played]]:
    """Return a function that plays the story in containers, as its user would; in the end nothing may be left."""
    # Volumes are named by the folder: no trial that was cut off, in a folder of the same name, has left any.
    home = tmp_path_factory.mktemp("trial") / secrets.token_hex(4)
    project = names_of(Layout(checkout=ROOT, home=home)).project
    before = held(client)
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
            project=project,
            left={kind: names - before[kind] for kind, names in held(client).items()},
        )

    yield run
    subprocess.run([*command, "--clean"], cwd=ROOT, env=environment, check=True)
    left = {kind: names - before[kind] for kind, names in held(client).items()}
    assert not any(left.values()), left


@pytest.fixture(scope="module")
def played(play: Callable[..., Played]) -> Played:
    """Return the story, played to its end."""
    return play()


@pytest.fixture(scope="module")
def played_by_workers(play: Callable[..., Played], played: Played) -> Played:
    """Return a second trial, which goes on from the first one's volumes: Celery's workers run its tasks."""
    assert played.exit_code == 0, played.output
    return play("--celery")
