"""A serving plane for the benchmarks: the real controller process, a real Envoy, variants, and a home of its own.

Nothing in it is a fake. What is measured in it, and against which bar, each benchmark says for itself.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

import httpx

from benchmarks.load import Load, load
from benchmarks.variants import Kind, behave
from taxiway_serving.client import Controller
from taxiway_serving.errors import TransportError
from taxiway_serving.evidence.access_log import AttemptLog
from taxiway_serving.evidence.source import Attempt
from taxiway_serving.names import VariantId
from taxiway_serving.routing.envoy import EnvoyRouter
from taxiway_serving.runtimes import tree
from taxiway_serving.runtimes.process import ProcessRuntime
from taxiway_serving.settings import ServingSettings
from taxiway_serving.split import Split
from taxiway_serving.tokens import ensure_token

HANDLE = "digits"
START_S = 120.0
_POLL_S = 0.02
# A caller's own Taxiway must not reach in; without bytecode every start of the controller compiles it anew.
_DROPPED = ("TAXIWAY_", "PYTHONDONTWRITEBYTECODE", "BENTOML_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The split as Envoy had it at one moment, read from its own dump."""

    at_s: float
    split: Split | None


class Plane:
    """A serving plane. Made by `plane`.

    Attributes:
        settings: Its folders and ports.
        controller: A client of its controller.
    """

    def __init__(self, home: Path, kind: Kind, ports: Sequence[int]) -> None:
        self.settings = ServingSettings.under(
            home, port=ports[0], envoy_port=ports[1], envoy_admin_port=ports[2]
        )
        self._files = kind(home)
        self.controller = Controller(
            self.settings.controller_url, ensure_token(self.settings.token_file), actor="benchmarks"
        )
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._records = 0

    def open(self) -> None:
        self.start_gateway()
        self.start_controller()

    def close(self) -> None:
        """End everything that this plane started, and what its controllers started."""
        self.kill_controller()
        runtime = ProcessRuntime(self.settings.home)
        for variant in runtime.observe():
            runtime.stop(variant, grace_s=1.0)
        runtime.close()
        self.kill_gateway()

    def start_gateway(self) -> None:
        self._start("envoy", "taxiway_serving.routing.bootstrap")
        wait_until(lambda: answers(self.settings.envoy_admin_url + "/ready"), what="Envoy")

    def kill_gateway(self) -> None:
        self._kill("envoy")

    def start_controller(self) -> None:
        self._start("controller", "taxiway_serving.controller.main")
        wait_until(lambda: answers(self.settings.controller_url + "/healthz"), what="the controller")

    def kill_controller(self) -> None:
        """End the controller as `kill -9` does. Variants and Envoy go on."""
        self._kill("controller")

    def deploy(self, version: int, **conduct: float) -> None:
        """Let a version run and wait until it takes requests; `conduct` is what it does wrong, as `behave` has it."""
        behave(self.model(version), **conduct)
        self.controller.deploy(HANDLE, version, self.spec(version))
        self.controller.wait_ready(HANDLE, version, deadline_s=START_S, poll_s=_POLL_S)

    def spec(self, version: int) -> dict[str, Any]:
        """Return what `deploy` asks the controller for."""
        return {
            "model": f"{HANDLE}/{version}",
            "bento_dir": str(self._files.bento),
            "python": str(self._files.python),
            "model_dir": str(self.model(version)),
            "environment": dict(self._files.environment),
        }

    def model(self, version: int) -> Path:
        """Return the folder of a version's model; `variants.behave` tells it what to do wrong."""
        return self.settings.home / "models" / str(version)

    def go_live(self, version: int) -> None:
        """Deploy a version and bring it to all of the traffic of a handle that has none."""
        self.deploy(version)
        self.roll_out(version, f"first-{version}")
        self.wait_ended(f"first-{version}", within_s=START_S)
        wait_until(lambda: self.split() == Split.whole(version), what=f"version {version} alone")

    def roll_out(self, version: int, rollout_id: str, **options: Any) -> None:
        """Begin a rollout; `options` are further fields of its body."""
        self.controller.start_rollout(HANDLE, {"id": rollout_id, "version": version, **options})

    def rollout(self, rollout_id: str) -> dict[str, Any]:
        return self.controller.rollout(HANDLE, rollout_id)

    def wait_step(self, rollout_id: str, step: int) -> None:
        """Wait until a rollout has reached a step.

        Raises:
            RuntimeError: If it ends before.
        """
        while (rollout := self.rollout(rollout_id))["step"] < step:
            if rollout["status"] == "ended":
                raise RuntimeError(f"{rollout_id} ended as {rollout['outcome']}: {rollout['reason']}")
            time.sleep(_POLL_S)

    def wait_ended(self, rollout_id: str, *, within_s: float) -> dict[str, Any]:
        """Wait for a rollout's end and return it; the controller may be away for a while."""

        def has_ended() -> bool:
            try:
                return bool(self.rollout(rollout_id)["status"] == "ended")
            except TransportError:
                return False

        wait_until(has_ended, within_s=within_s, what=f"the end of {rollout_id}")
        return self.rollout(rollout_id)

    def split(self) -> Split | None:
        """Return the split by which Envoy routes now."""
        with self.router() as router:
            return router.observed(HANDLE)

    @contextmanager
    def router(self) -> Iterator[EnvoyRouter]:
        """Yield a router to this plane's Envoy, as the controller has one."""
        router = EnvoyRouter(self.settings)
        try:
            yield router
        finally:
            router.close()

    @contextmanager
    def load(self, rate_rps: float) -> Iterator[Load]:
        """Send requests at a constant rate while the context lasts."""
        self._records += 1
        record = self.settings.home / f"requests-{self._records}.tsv"
        with load(f"{self.settings.gateway_url}/{HANDLE}", rate_rps=rate_rps, record=record) as running:
            yield running

    def bearable_rps(self, most_rps: float) -> float:
        """Return half of a load under which the live version still answers at once, its median below 20 ms.

        Half, since what a machine bears alone it does not bear while others work on it; a version that is overloaded
        refuses requests, and shows nothing of rollouts.
        """
        rate_rps = most_rps
        while rate_rps > 10:
            with self.load(rate_rps) as load:
                time.sleep(3.0)
            if median(each.done_s - each.sent_s for each in load.sent()) < 0.02:
                break
            rate_rps /= 2
        return rate_rps / 2

    def attempts(self, cursor: str = "") -> tuple[Attempt, ...]:
        """Return every attempt that Envoy has written down since a cursor of `log_end`."""
        log, found = AttemptLog(self.settings.attempt_log), list[Attempt]()
        while True:
            batch = log.read(cursor)
            found += batch.attempts
            cursor = batch.cursor
            if not batch.has_more:
                return tuple(found)

    def request_log(self) -> list[dict[str, Any]]:
        """Return what Envoy wrote of each request, as its client saw it end."""
        path = self.settings.request_log
        files = [*sorted(path.parent.glob(f"{path.name}.*"), reverse=True), path]
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def log_end(self) -> str:
        return AttemptLog(self.settings.attempt_log).end()

    def variants(self) -> Mapping[int, Mapping[str, Any]]:
        """Return what the controller shows of each variant."""
        shown = self.controller.endpoint(HANDLE)["variants"]
        return {int(version): state for version, state in shown.items()}

    def kill_variant(self, version: int) -> int:
        """Kill a variant's whole tree as `kill -9` does, and return how many processes that were."""
        folder = self.settings.home / "variants" / HANDLE / str(version)
        processes = tree.marked(f"{folder}#")
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
        return len(processes)

    def cluster(self, version: int) -> VariantId:
        return VariantId(handle=HANDLE, version=version)

    def log(self, name: str) -> str:
        """Return what `controller` or `envoy` wrote."""
        return (self.settings.home / f"{name}.log").read_text()

    def _start(self, name: str, module: str) -> None:
        environment = {key: text for key, text in os.environ.items() if not key.startswith(_DROPPED)}
        environment |= {
            "TAXIWAY_HOME": str(self.settings.home),
            "TAXIWAY_CONTROLLER_PORT": str(self.settings.port),
            "TAXIWAY_GATEWAY_PORT": str(self.settings.envoy_port),
            "TAXIWAY_ENVOY_ADMIN_PORT": str(self.settings.envoy_admin_port),
        }
        with (self.settings.home / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", module],
                cwd=self.settings.home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _kill(self, name: str) -> None:
        process = self._processes.get(name)
        if process is not None:
            process.kill()
            process.wait()


@contextmanager
def plane(kind: Kind, *, home: Path | None = None, ports: Sequence[int] = ()) -> Iterator[Plane]:
    """Yield an open plane, and leave nothing of it behind.

    Args:
        kind: What its variants are: `variants.plain` or `variants.bento`.
        home: Folder for everything; None makes one and removes it.
        ports: Of the controller, of Envoy and of its administration; none takes free ones.
    """
    folder = home or Path(tempfile.mkdtemp(prefix="taxiway-bench-"))
    made = Plane(folder.resolve(), kind, ports or free_ports(3))
    try:
        made.open()
        yield made
    finally:
        made.close()
        if home is None:
            shutil.rmtree(folder, ignore_errors=True)


class Watch:
    """Reads the split from Envoy over and over, in a thread of its own, whether or not a controller lives.

    Args:
        plane: Whose Envoy.
        every_s: Seconds between two reads.
    """

    def __init__(self, plane: Plane, *, every_s: float = _POLL_S) -> None:
        self._plane, self._every_s = plane, every_s
        self._ended = threading.Event()
        self._changes: list[Seen] = []
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(5.0)

    @property
    def changes(self) -> Sequence[Seen]:
        """What was seen, one entry for each change, with the moment at which it was seen first."""
        return tuple(self._changes)

    def _look(self) -> None:
        with self._plane.router() as router:
            while not self._ended.wait(self._every_s):
                with suppress(TransportError):
                    split = router.observed(HANDLE)
                    if not self._changes or self._changes[-1].split != split:
                        self._changes.append(Seen(at_s=time.time(), split=split))


def wait_until(fact: Callable[[], bool], *, what: str, within_s: float = START_S) -> None:
    """Look every 20 ms until something holds.

    Raises:
        TimeoutError: If it does not within so many seconds.
    """
    end_s = time.monotonic() + within_s
    while not fact():
        if time.monotonic() > end_s:
            raise TimeoutError(f"{what}: not so within {within_s:g} s")
        time.sleep(_POLL_S)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1.0, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def free_ports(count: int) -> list[int]:
    """Return ports that are free now, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
