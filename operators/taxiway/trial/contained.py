"""The stage that is containers of one engine, by `docker-compose.yml`: makes what that file needs, and ends it all."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from taxiway import archive, tools
from taxiway.trial.compose import Compose, Seen
from taxiway.trial.console import Console
from taxiway.trial.errors import ServiceFailedError
from taxiway.trial.images import PYTHON, Contexts, index_url
from taxiway.trial.layout import Layout
from taxiway.trial.naming import names_of
from taxiway.trial.needs import check_engine, find_socket
from taxiway.trial.secret_files import make_secrets, user_id
from taxiway.trial.stage import Stage
from taxiway_serving.errors import TaxiwayError

VARIABLES_FILE: Final = "compose.env"
_HEALTHY_DEADLINE_S: Final = 360.0
_LOOK_EVERY_S: Final = 2.0
_MOST_RESTARTS: Final = 3
_ONCE: Final = "airflow-init"
_BASES: Final = ("AIRFLOW", "SERVING", "POSTGRES", "S3")


class ContainedStage(Stage):
    """Services that compose starts, looks after, and ends.

    Args:
        layout: Where the trial keeps its things; held by one trial at a time.
        environment: Variables that the trial was started with: those that name images are taken over.
        console: Where progress is printed.
        is_celery: Run tasks on Celery's workers instead of the scheduler's.
    """

    unit = "container"
    command = "make trial-docker"

    def __init__(
        self, layout: Layout, environment: Mapping[str, str], console: Console, *, is_celery: bool = False
    ) -> None:
        self._socket = find_socket()
        self._names = names_of(layout)
        check_engine(self._names.project, secrets_of(layout))
        for folder in (layout.logs, layout.samples):
            folder.mkdir(parents=True, exist_ok=True)
        make_secrets(secrets_of(layout))
        super().__init__(layout, console, (secrets_of(layout) / "token").read_text(encoding="utf-8"))
        self._base = environment.get("TAXIWAY_BASE_IMAGE") or "python:{python}-slim"
        self._profile = ("--profile", "celery") if is_celery else ()
        self._worker = "airflow-worker" if is_celery else "airflow-scheduler"
        variables = self._variables(environment, is_celery=is_celery)
        lines = "".join(f"{name}={value}\n" for name, value in sorted(variables.items()))
        tools.write_atomically(layout.home / VARIABLES_FILE, lines)
        self._compose = Compose(layout.checkout, self._names, variables, layout.log("compose"))
        self._seen: dict[str, Seen] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_after, name="containers", daemon=True)
        self._peak_memory_mb = 0.0

    @property
    def peak_memory_mb(self) -> float:
        return self._peak_memory_mb

    def open(self) -> None:
        self.bundle.reset()
        Contexts(self.layout.checkout, contexts_of(self.layout), say=self._say).make()
        self._say("building the images, a minute or a few the first time")
        self._compose.run("build")
        self._bring_base()
        began_s = time.monotonic()
        self._start()
        self._say(f"all services are healthy, {time.monotonic() - began_s:.0f} s after their start")
        self._thread.start()
        self.watch.look_once()
        self.watch.start()
        self._wait_for_dag()

    def close(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(30.0)
        self._compose.interrupt()
        self._compose.write_logs(self.layout.logs)
        end(self._compose)

    def check(self) -> None:
        for name, seen in self._seen.items():
            if name != _ONCE and (seen.status in {"exited", "dead"} or seen.restarts > _MOST_RESTARTS):
                raise ServiceFailedError(
                    name, f"is {seen.status}, started {seen.restarts} times again", self.log(name)
                )

    def data(self, path: str) -> Path:
        folder = self.layout.home / "data"
        if not folder.exists():
            with (
                tools.fresh_folder(folder) as draft,
                self._compose.engine.get(self._compose.services()[self._worker].id, path) as pieces,
            ):
                archive.unpack(pieces, draft)
        return folder

    def log(self, name: str) -> Path:
        seen = self._compose.services().get(name)
        return (
            self._compose.write_log(name, seen.id, self.layout.logs) if seen else self.layout.log("compose")
        )

    def _variables(self, environment: Mapping[str, str], *, is_celery: bool) -> dict[str, str]:
        ports = self.addresses.ports
        python = f"python:{PYTHON}-slim"
        defaults = {
            "TAXIWAY_AIRFLOW_BASE": f"apache/airflow:3.3.2-python{PYTHON}",
            "TAXIWAY_SERVING_BASE": python,
        }
        own = [*(f"TAXIWAY_{name}_BASE" for name in _BASES), "TAXIWAY_REDIS_IMAGE", "TAXIWAY_DATA_REMOTE"]
        chosen = {name: environment[name] for name in own if environment.get(name)}
        images = {f"TAXIWAY_{name.upper()}_IMAGE": image for name, image in self._names.images.items()}
        return {
            **defaults,
            **chosen,
            **images,
            "COMPOSE_PROJECT_NAME": self._names.project,
            "TAXIWAY_AIRFLOW_PORT": str(ports["airflow"]),
            "TAXIWAY_BASE_IMAGE": self._base,
            "TAXIWAY_BUNDLE": str(self.layout.bundle),
            "TAXIWAY_CONTEXTS": str(contexts_of(self.layout)),
            "TAXIWAY_CONTROLLER_PORT": str(ports["controller"]),
            "TAXIWAY_ENGINE_GROUP": str(self._socket.stat().st_gid),
            "TAXIWAY_ENGINE_SOCKET": str(self._socket),
            "TAXIWAY_EXECUTOR": "CeleryExecutor" if is_celery else "LocalExecutor",
            "TAXIWAY_FLOWER_PORT": str(ports["flower"]),
            "TAXIWAY_GATEWAY_PORT": str(ports["gateway"]),
            "TAXIWAY_INDEX_URL": index_url(environment),
            "TAXIWAY_MLFLOW_PORT": str(ports["mlflow"]),
            "TAXIWAY_OWNER": self._names.owner,
            "TAXIWAY_PYTHON": PYTHON,
            # The story alone says when the DAG runs.
            "TAXIWAY_SCHEDULES": "False",
            "TAXIWAY_SECRETS": str(secrets_of(self.layout)),
            "TAXIWAY_UID": str(user_id()),
            "TAXIWAY_RUNTIME": "docker",
            "TAXIWAY_VARIANT_NETWORK": self._names.network,
        }

    def _bring_base(self) -> None:
        """Bring what components begin with: the filter lets nobody pull."""
        base = self._base.format(python=PYTHON)
        if self._compose.engine.image_id(base) is None:
            self._say(f"pulling {base}")
            self._compose.engine.pull(base)

    def _start(self) -> None:
        """Start every service and wait until all are healthy, telling of each.

        Raises:
            ServiceFailedError: If compose gives up, or one is not healthy by the deadline.
        """
        process = self._compose.start(*self._profile, "up", "-d", "--no-build")
        deadline, told = time.monotonic() + _HEALTHY_DEADLINE_S, set[str]()
        while True:
            has_ended = process.poll() is not None
            self._seen = self._compose.services()
            self._tell(told)
            waiting = sorted(name for name, seen in self._seen.items() if not _is_up(name, seen))
            if has_ended and process.returncode == 0 and not waiting:
                return
            if (has_ended and process.returncode != 0) or time.monotonic() > deadline:
                name = waiting[0] if waiting else "compose"
                raise ServiceFailedError(name, "was not healthy in time, or ended", self.log(name))
            time.sleep(0.5)

    def _tell(self, told: set[str]) -> None:
        for name, seen in self._seen.items():
            if _is_up(name, seen) and name not in told:
                told.add(name)
                self._say(f"{name} {'is done' if name == _ONCE else 'is healthy'}")

    def _look_after(self) -> None:
        while not self._ended.wait(_LOOK_EVERY_S):
            try:
                self._seen = self._compose.services()
                self._peak_memory_mb = max(self._peak_memory_mb, self._compose.memory_mb())
            except (TaxiwayError, OSError) as error:
                self._console.event("service", f"the engine does not answer: {error}")


def contexts_of(layout: Layout) -> Path:
    """Return the folder that images are built from."""
    return layout.home / "images"


def secrets_of(layout: Layout) -> Path:
    """Return the folder of the secrets."""
    return layout.home / "secrets"


def end(compose: Compose, *options: str) -> None:
    """End every container of the project, and those that it started; options are those of compose's `down`."""
    # First whoever starts others, so that nothing is started again meanwhile.
    compose.run("--profile", "celery", "stop", "-t", "5", "controller", "airflow-scheduler", "airflow-worker")
    compose.remove_own()
    # A base may declare volumes that no line of ours names: they go with their containers, or never.
    compose.run("--profile", "celery", "rm", "--force", "--stop", "-v")
    compose.run("--profile", "celery", "down", "--remove-orphans", "-t", "10", *options)


def clean(layout: Layout, *, keeps_images: bool) -> None:
    """Remove what trials in this folder left: containers, networks, volumes, images but components', and the folder."""
    if not layout.home.exists():
        return
    variables = _read(layout.home / VARIABLES_FILE)
    if variables:
        compose = Compose(layout.checkout, names_of(layout), variables, layout.log("compose"))
        end(compose, "--volumes")
        if not keeps_images:
            compose.remove_images()
    for path in layout.home.iterdir():
        if keeps_images and path == contexts_of(layout):
            continue
        tools.remove(path) if path.is_dir() else path.unlink()


def _read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    pairs = (line.partition("=") for line in path.read_text(encoding="utf-8").splitlines())
    return {name: value for name, _, value in pairs}


def _is_up(name: str, seen: Seen) -> bool:
    if name == _ONCE:
        return seen.status == "exited" and seen.exit_code == 0
    return seen.health == "healthy"
