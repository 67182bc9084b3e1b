"""What the trial in containers needs of its machine: each lack is refused before anything is made.

What is then done with compose and the engine is in `compose.py`.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from taxiway.engine import connect
from taxiway.settings import Containers
from taxiway.trial.errors import ComposeMissingError, StrangeVolumesError

_OTHER_USERS = {"name=rootless": "is rootless", "name=userns": "gives the users of containers other numbers"}


def find_command() -> list[str]:
    """Return the command line of compose, of whichever generation is there.

    Raises:
        ComposeMissingError: If neither is.
    """
    if shutil.which("docker") and _works(["docker", "compose", "version"]):
        return ["docker", "compose"]
    if shutil.which("docker-compose") and _works(["docker-compose", "version"]):
        return ["docker-compose"]
    raise ComposeMissingError(
        "neither `docker compose` nor docker-compose is on this machine",
        "install Docker's compose plugin, or your system's docker-compose package",
    )


def find_socket() -> Path:
    """Return the engine's socket, which the filter is put in front of.

    Raises:
        ComposeMissingError: If there is none on this machine.
    """
    url = Containers.from_environment(os.environ).url
    path = Path(url.removeprefix("unix://"))
    if not url.startswith("unix://") or not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        raise ComposeMissingError(
            f"no Docker engine has a socket at {url}",
            "start one on this machine, or name its socket by DOCKER_HOST=unix://…",
        )
    return path


def check_engine(project: str, secrets_dir: Path) -> None:
    """Refuse an engine on which services could not read their secrets, or would find data of other ones.

    Args:
        project: Name of the trial's project of compose.
        secrets_dir: Folder of its secrets, made or not.

    Raises:
        ComposeMissingError: If files of this machine's user are another user's in a container.
        StrangeVolumesError: If there are volumes of the project, and no secrets.
    """
    labels = {"label": f"com.docker.compose.project={project}"}
    with closing(connect(Containers(url=Containers.from_environment(os.environ).url))) as client:
        check_users(client.info().get("SecurityOptions") or ())
        volumes = client.volumes(filters=labels)["Volumes"] or ()
    if volumes and not secrets_dir.exists():
        raise StrangeVolumesError(secrets_dir.parent, tuple(sorted(each["Name"] for each in volumes)))


def check_users(options: Iterable[str]) -> None:
    """Refuse an engine whose containers' users are others on this machine: secrets are for their owner alone.

    Args:
        options: What the engine says of its security, such as `name=seccomp,profile=builtin`.

    Raises:
        ComposeMissingError: If it is such a one.
    """
    for option in options:
        if what := _OTHER_USERS.get(option.partition(",")[0]):
            raise ComposeMissingError(
                f"the Docker engine {what}, so that containers could not read their secrets",
                "play the trial on an engine that does neither, or without containers by `make trial`",
            )


def _works(command: list[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0
