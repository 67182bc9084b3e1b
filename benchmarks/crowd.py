"""Many handles at once: a store full of them, the real parts of a controller in this process, a real Envoy, upstreams.

Three small servers answer for all handles, since a thousand handles with real models do not fit on a bench. What is
measured with it is `scale.py`'s.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil

from benchmarks.plane import answers, free_ports, wait_until
from taxiway_serving import runtimes
from taxiway_serving.controller.gateways import gateways
from taxiway_serving.controller.ordering import table_of
from taxiway_serving.controller.tick import Reconciler
from taxiway_serving.controller.wiring import sense
from taxiway_serving.ledger.sql import SqlStore
from taxiway_serving.ledger.store import Change, Endpoint, Variant
from taxiway_serving.routing.router import Route, Table
from taxiway_serving.runtimes.runtime import VariantSpec
from taxiway_serving.settings import ServingSettings
from taxiway_serving.split import Split

VERSIONS = (1, 2, 3)
UPSTREAM = Path(__file__).with_name("plain_upstream.py")
READY_S = 300.0


class Crowd:
    """Handles, their store, their controller and their gateway. Made by `crowd`.

    Attributes:
        handles: Their names.
        settings: Folders and ports.
        reconciler: The controller's loop; whoever holds the crowd ticks.
    """

    def __init__(self, handles: int, home: Path, upstreams: Sequence[int], router: str) -> None:
        ports = free_ports(3)
        made = ServingSettings.under(home, envoy_port=ports[0], envoy_admin_port=ports[1])
        self.settings = replace(made, router=router, ads_port=ports[2])
        self.handles = [f"handle_{number}" for number in range(1, handles + 1)]
        self.store = SqlStore(self.settings.database_url)
        self._fill(upstreams)
        self._envoy = self._started()
        self._stack = ExitStack()
        routed = self._stack.enter_context(gateways(self.settings, self.store))
        self.router = routed.router
        self.reconciler = Reconciler(
            store=self.store,
            runtime=runtimes.chosen(self.settings),
            router=self.router,
            source=routed.source,
            clock=time.time,
            senses=self._stack.enter_context(closing(sense(self.settings))),
        )

    def close(self) -> None:
        """End Envoy and give every file back."""
        self._envoy.kill()
        self._envoy.wait()
        self._stack.close()
        self.store.close()

    @property
    def gateway(self) -> psutil.Process:
        """Envoy's process."""
        return psutil.Process(self._envoy.pid)

    def settle(self) -> float:
        """Tick until every version of every handle is routed and ready; return the seconds that it took."""
        began_s = time.monotonic()
        while True:
            self.reconciler.tick()
            table = self.table()
            is_ready = len(table.routes) == len(self.handles) and all(
                backend.ready for route in table.routes for backend in route.backends
            )
            if is_ready and self.router.applied(table.revision()).value == "yes":
                return time.monotonic() - began_s
            if time.monotonic() - began_s > READY_S:
                raise TimeoutError(f"{len(self.handles)} handles were not ready after {READY_S:g} s")
            time.sleep(0.05)

    def table(self) -> Table:
        """Return the table that the store asks for."""
        return table_of(self.store.fleet(), self.reconciler.world.variants)

    def moved(self, table: Table, handle: str, version: int) -> Table:
        """Return a table in which all traffic of one handle goes to a version."""
        routes = [self._moved(route, version) if route.handle == handle else route for route in table.routes]
        return Table(routes=tuple(routes))

    def _moved(self, route: Route, version: int) -> Route:
        return replace(route, split=Split.whole(version))

    def _fill(self, upstreams: Sequence[int]) -> None:
        endpoints = tuple(Endpoint(handle=each, stable=1, split=Split.whole(1)) for each in self.handles)
        variants = tuple(
            _variant(handle, version, port)
            for handle in self.handles
            for version, port in zip(VERSIONS, upstreams, strict=True)
        )
        self.store.commit(Change(endpoints=endpoints, variants=variants))

    def _started(self) -> "subprocess.Popen[bytes]":
        environment = os.environ | {
            "TAXIWAY_HOME": str(self.settings.home),
            "TAXIWAY_ROUTER": self.settings.router,
            "TAXIWAY_GATEWAY_PORT": str(self.settings.envoy_port),
            "TAXIWAY_ENVOY_ADMIN_PORT": str(self.settings.envoy_admin_port),
            "TAXIWAY_ADS_PORT": str(self.settings.ads_port),
        }
        self.settings.envoy_dir.mkdir(parents=True, exist_ok=True)
        with (self.settings.home / "envoy.out").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "taxiway_serving.routing.bootstrap"],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


def _variant(handle: str, version: int, port: int) -> Variant:
    spec = VariantSpec(
        handle=handle, version=version, model=f"{handle}/{version}", url=f"http://127.0.0.1:{port}"
    )
    # Live ones stay; candidates that nobody has asked for yet stay as long as the benchmark needs them.
    return Variant(
        handle=handle, version=version, spec=spec.to_json(), retire_at_s=None if version == 1 else 4e9
    )


@contextmanager
def upstreams() -> Iterator[list[int]]:
    """Yield the ports of one small server for each version."""
    folder = Path(tempfile.mkdtemp(prefix="taxiway-upstreams-"))
    (folder / "conduct.json").write_text(json.dumps({}))
    ports, processes = free_ports(len(VERSIONS)), []
    try:
        for version, port in zip(VERSIONS, ports, strict=True):
            environment = {"TAXIWAY_MODEL_DIR": str(folder), "TAXIWAY_MODEL_VERSION": str(version)}
            command = [sys.executable, "-S", str(UPSTREAM), "--host", "127.0.0.1", "--port", str(port)]
            processes.append(subprocess.Popen(command, env=environment))
        for port in ports:
            url = f"http://127.0.0.1:{port}/readyz"
            wait_until(lambda url=url: answers(url), what="an upstream")  # type: ignore[misc]
        yield ports
    finally:
        for process in processes:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def crowd(handles: int, ports: Sequence[int], *, router: str) -> Iterator[Crowd]:
    """Yield so many handles, all ready, and leave nothing behind."""
    home = Path(tempfile.mkdtemp(prefix="taxiway-scale-")).resolve()
    try:
        made = Crowd(handles, home, ports, router)
        try:
            yield made
        finally:
            made.close()
    finally:
        shutil.rmtree(home, ignore_errors=True)
