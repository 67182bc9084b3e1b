"""Compose, either generation of it, and the engine below it: what is run, and what is seen of it.

The command builds, starts and ends; what became of the containers is asked of the engine, which both generations label
alike.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taxiway.engine import Engine, connect
from taxiway.settings import Containers
from taxiway.trial.errors import ServiceFailedError
from taxiway.trial.naming import Names
from taxiway.trial.needs import find_command
from taxiway_serving.runtimes import engine as engines
from taxiway_serving.runtimes.images import OWNER

_PROJECT_LABEL: Final = "com.docker.compose.project"
_SERVICE_LABEL: Final = "com.docker.compose.service"
_TIMEOUT_S: Final = 1_800.0
_ANSWER_S: Final = 600
"""Seconds that the engine may take for one thing: removing a volume of many files takes minutes on a busy machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A service as it was seen.

    Attributes:
        id: Its container.
        status: `created`, `running`, `restarting`, `exited` or `dead`.
        health: `healthy`, `unhealthy`, `starting`, or `none` where nobody looks.
        exit_code: How it ended; 0 while it runs.
        restarts: How often it was started again.
    """

    id: str
    status: str
    health: str
    exit_code: int
    restarts: int


class Compose:
    """One project of compose. What the engine's client raises is an OSError, whatever it is about.

    Args:
        checkout: Folder of `docker-compose.yml`.
        names: What its parts are called on the engine.
        variables: What the file asks for.
        log: File that the command writes to.
    """

    def __init__(self, checkout: Path, names: Names, variables: Mapping[str, str], log: Path) -> None:
        self._checkout, self._names, self._variables, self._log = checkout, names, variables, log
        self._command = find_command()
        self._started: subprocess.Popen[bytes] | None = None
        url = Containers.from_environment(os.environ).url
        self.client: Any = connect(Containers(url=url))
        self.engine = Engine(self.client, url)

    def run(self, *arguments: str) -> None:
        """Run compose to its end.

        Raises:
            ServiceFailedError: If it ends with an error.
        """
        process = self.start(*arguments)
        code = process.wait(_TIMEOUT_S)
        if code != 0:
            raise ServiceFailedError("compose", f"{arguments[0]} ended with code {code}", self._log)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start compose and return its process; what it says is in the log."""
        with self._log.open("ab") as log:
            self._started = subprocess.Popen(
                [*self._command, "-p", self._names.project, *arguments],
                cwd=self._checkout,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self._started

    def interrupt(self) -> None:
        """End what was started and still runs: nothing may be made while everything is ended."""
        if self._started is not None and self._started.poll() is None:
            self._started.terminate()
            self._started.wait(_TIMEOUT_S)

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE_", "TAXIWAY_"))
        }
        # The first generation hands builds to whatever docker command comes first, unless it is told not to.
        own = {"COMPOSE_DOCKER_CLI_BUILD": "0", "COMPOSE_HTTP_TIMEOUT": str(_ANSWER_S)}
        return {**kept, **own, **self._variables}

    def services(self) -> dict[str, Seen]:
        """Return every service that has a container, whatever its state."""
        found = self.client.containers(all=True, filters={"label": self._project_label})
        seen = {}
        for each in found:
            try:
                seen[each["Labels"][_SERVICE_LABEL]] = _seen(self.client.inspect_container(each["Id"]))
            except OSError:
                continue
        return seen

    def memory_mb(self) -> float:
        """Return the memory of the project's containers and of those that it started, without what is only cached."""
        own = [
            each["Id"] for label in (self._project_label, *self._own_labels) for each in self._running(label)
        ]
        return sum(map(self._memory_mb, set(own)))

    def remove_own(self) -> None:
        """End and remove containers that components and variants left: compose knows none of them."""
        for label in self._own_labels:
            for each in self.client.containers(all=True, filters={"label": label}):
                self.engine.end(each["Id"], 2.0)

    def remove_images(self) -> None:
        """Remove the images that compose built and those of variants, but for what a container still needs.

        Those of components stay: they are named by their content, so another home on this engine may run them too.
        """
        with closing(engines.connect(self.engine.url, timeout_s=_ANSWER_S)) as patient:
            of_variants = patient.images(filters={"label": f"{OWNER}={self._names.owner}"})
            for image in (*self._names.images.values(), *(each["Id"] for each in of_variants)):
                with suppress(OSError):
                    patient.remove_image(image)

    def write_logs(self, folder: Path) -> None:
        """Keep the logs of all services as files."""
        for name, seen in self.services().items():
            self.write_log(name, seen.id, folder)

    def write_log(self, name: str, container: str, folder: Path) -> Path:
        """Keep the log of one service as a file, and return its path."""
        path = folder / f"{name}.log"
        path.write_bytes(self.client.logs(container, timestamps=True))
        return path

    @property
    def _project_label(self) -> str:
        return f"{_PROJECT_LABEL}={self._names.project}"

    @property
    def _own_labels(self) -> tuple[str, ...]:
        # Airflow's image brings the id of the home along, so that what was started from it is known.
        return f"taxiway.owner={self._names.owner}", f"taxiway.home={self._names.owner}"

    def _running(self, label: str) -> Any:
        return self.client.containers(filters={"label": label})

    def _memory_mb(self, container: str) -> float:
        try:
            found = self.client.stats(container, stream=False, one_shot=True)["memory_stats"]
        except OSError:
            return 0.0
        counted = found.get("stats", {})
        cached = counted.get("total_inactive_file", counted.get("inactive_file", 0))
        return float(max(0, found.get("usage", 0) - cached)) / 1e6


def _seen(found: Mapping[str, Any]) -> Seen:
    state = found["State"]
    return Seen(
        id=found["Id"],
        status=state["Status"],
        health=state.get("Health", {}).get("Status", "none"),
        exit_code=state["ExitCode"],
        restarts=found["RestartCount"],
    )
