"""What each event of a Swarm costs its clients, on two nodes and a live Envoy: `python -m benchmarks.swarm`.

Two engines on this machine, the real runtime, reconciler and Envoy, and a load of 40 requests a second while a new
version is promoted as a canary, the live version's service is updated replica by replica, a replica crashes, a node is
drained, a node is cut off, and calls that take long bring a third replica. For each: how long until all is well again,
and how many requests failed.

The bars: 0 failed requests, but for the cut-off. There a request that was already on its way to the lost node is given
up after 3 s without a word from it, and tried once more on another replica; any other one is tried elsewhere after half
a second, until three such attempts have taken the lost replica out (outlier detection). So a request fails only if its
second attempt meets a lost replica as well, which none can where one replica is lost: `CUT_OFF_BAR` leaves room for
connections that end at that very moment.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from statistics import median

import httpx

from benchmarks.load import Load, Sent, load
from benchmarks.plane import HANDLE, answers, free_ports
from benchmarks.report import Figure, report, told
from benchmarks.swarm_nodes import Node, Swarm, missing, two_nodes, wait_until
from taxiway_serving.controller.commands import Commands
from taxiway_serving.controller.scaling import Scaler
from taxiway_serving.controller.tick import Reconciler
from taxiway_serving.controller.wiring import ticking
from taxiway_serving.evidence.access_log import AttemptLog
from taxiway_serving.ledger.chain import Entry
from taxiway_serving.ledger.sql import SqlStore
from taxiway_serving.ledger.store import Change
from taxiway_serving.names import VariantId
from taxiway_serving.rollout.spec import spec_from_json
from taxiway_serving.rollout.state import Status
from taxiway_serving.routing.envoy import EnvoyRouter
from taxiway_serving.runtimes.engine import connect_late
from taxiway_serving.runtimes.images import Image
from taxiway_serving.runtimes.runtime import VariantSpec, VariantState
from taxiway_serving.runtimes.swarm import ANSWER_TIMEOUT_S, SwarmRuntime
from taxiway_serving.runtimes.swarm_engine import SwarmEngine
from taxiway_serving.settings import ServingSettings

RATE_RPS = 40.0
REPLICAS, MOST_REPLICAS = 2, 3
SETTLE_S = 2.0
CUT_OFF_BAR = 2
CUT_OFF_S = 15.0
SLOWEST_BAR_S = 8.0
TICK_S = 0.5
UPSTREAM = Path(__file__).with_name("swarm_upstream.py")


class SwarmPlane:
    """A serving plane over a Swarm: the real reconciler, runtime and router in this process, and a live Envoy.

    Args:
        swarm: Its nodes.
        image: Image of every version, by its id.
        home: Folder for everything.

    Attributes:
        entries: The ledger, once nothing runs any more.
    """

    def __init__(self, swarm: Swarm, image: str, home: Path) -> None:
        self.swarm, self._image = swarm, image
        ports = free_ports(2)
        self.settings = ServingSettings.under(home, envoy_port=ports[0], envoy_admin_port=ports[1])
        self.store = SqlStore(self.settings.database_url)
        self.runtime = runtime_of(swarm.first, image, home)
        self.router = EnvoyRouter(self.settings)
        scaler = Scaler(self.store, self.router.in_flight, time.time, per_replica=4)
        self._reconciler = Reconciler(
            store=self.store,
            runtime=self.runtime,
            router=self.router,
            source=AttemptLog(self.settings.attempt_log),
            clock=time.time,
            chores={"number of replicas": lambda: scaler.look(self._reconciler.lock)},
        )
        self._commands = Commands(store=self.store, lock=self._reconciler.lock, home=home, clock=time.time)
        self.entries: Sequence[Entry] = ()
        self._model = home / "model"
        self._model.mkdir()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run Envoy and the reconciler while the context lasts."""
        with ExitStack() as stack:
            stack.callback(self.store.close)
            stack.callback(self.router.close)
            stack.callback(self.runtime.close)
            stack.callback(self._end)
            stack.enter_context(self._envoy())
            stack.enter_context(ticking(self._reconciler, TICK_S))
            yield

    @contextmanager
    def _envoy(self) -> Iterator[None]:
        kept = {key: text for key, text in os.environ.items() if not key.startswith("TAXIWAY_")}
        told_ = {
            "TAXIWAY_HOME": str(self.settings.home),
            "TAXIWAY_GATEWAY_PORT": str(self.settings.envoy_port),
            "TAXIWAY_ENVOY_ADMIN_PORT": str(self.settings.envoy_admin_port),
        }
        with (self.settings.home / "envoy.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "taxiway_serving.routing.bootstrap"],
                env={**kept, **told_},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            wait_until(lambda: answers(self.settings.envoy_admin_url + "/ready"), what="Envoy")
            yield
        finally:
            process.kill()
            process.wait()

    def deploy(self, version: int, **changes: object) -> None:
        """Want a version, and wait until as many replicas of it are ready as are wanted."""
        usual: dict[str, object] = {"replicas": REPLICAS, "environment": {"UPSTREAM_STARTS_AFTER_S": "1"}}
        spec = VariantSpec(
            handle=HANDLE,
            version=version,
            model=f"{HANDLE}/{version}",
            model_dir=self._model,
            image=self._image,
            **{**usual, **changes},  # type: ignore[arg-type]
        )
        self._commands.deploy(spec, actor="benchmarks")
        wait_until(lambda: self.is_whole(version), what=f"version {version}")

    def promote(self, version: int) -> None:
        """Bring a version to all of the traffic: the first at once, any other as a canary."""
        steps = [{"setWeight": 30}, {"bake": {"duration_s": 2}}, {"setWeight": 100}]
        body = {
            "id": f"to-{version}",
            "handle": HANDLE,
            "version": version,
            "actor": "benchmarks",
            "warm_s": 1,
        }
        strategy = {"strategy": {"kind": "canary", "steps": steps}} if version > 1 else {}
        self._commands.start(spec_from_json({**body, **strategy}))
        wait_until(lambda: self._has_ended(f"to-{version}"), what=f"the promotion of version {version}")
        endpoint = self.store.fleet().endpoint(HANDLE)
        if endpoint is None or endpoint.stable != version:
            rollout = self.store.rollout(f"to-{version}")
            raise RuntimeError(f"version {version} is not live: {rollout and rollout.state.reason}")

    def change(self, version: int, **changes: object) -> None:
        """Want another content of a version that is live, past the checks of who may: the Swarm updates it."""
        with self._reconciler.lock:
            variant = self.store.fleet().variant(HANDLE, version)
            if variant is None:
                raise RuntimeError(f"there is no version {version}")
            spec = replace(VariantSpec.from_json(variant.spec), **changes)  # type: ignore[arg-type]
            self.store.commit(Change(variants=(replace(variant, spec=spec.to_json()),)))

    def state(self, version: int) -> VariantState | None:
        """Return what the reconciler saw of a version at its last look."""
        return self._reconciler.world.variants.get(VariantId(handle=HANDLE, version=version))

    def hosts(self, version: int) -> list[str]:
        """Return the addresses of the replicas that take requests, one for each."""
        return [host for host, _ in self.addresses(version)]

    def addresses(self, version: int) -> list[tuple[str, int]]:
        seen = self.state(version)
        ready = seen is not None and seen.phase == "ready"
        return [(seen.host, seen.port), *seen.replicas] if ready and seen else []

    def is_whole(self, version: int, replicas: int = REPLICAS) -> bool:
        """Tell whether so many replicas take requests, and nothing is under way."""
        seen = self.state(version)
        return seen is not None and len(self.addresses(version)) == replicas and not seen.reason

    def spread(self, version: int) -> None:
        """Wait until each node has a replica: with one more for a while, where the Swarm placed both on one node.

        A Swarm places a new replica where fewest are and takes one away where most are. To place both anew would not
        do: when the second one is placed the nodes have one each, and either may get it.
        """
        if self._is_spread(version):
            return
        self.change(version, replicas=REPLICAS + 1)
        wait_until(lambda: self.is_whole(version, REPLICAS + 1), what="one more replica")
        self.change(version, replicas=REPLICAS)
        wait_until(lambda: self._is_spread(version), what="a replica on each node")

    def _is_spread(self, version: int) -> bool:
        return self.is_whole(version) and len(set(self.hosts(version))) == REPLICAS

    def _end(self) -> None:
        """End every version, and keep what the ledger says of it all."""
        self.entries = self.store.entries(None, after=0, limit=10_000)
        for variant, state in self.runtime.observe().items():
            if state.phase != "stopped":
                self.runtime.stop(variant, grace_s=10.0)

    def _has_ended(self, name: str) -> bool:
        rollout = self.store.rollout(name)
        return rollout is not None and rollout.state.status is Status.ENDED


def runtime_of(node: Node, image: str, home: Path, *, owner: str = "benchmarks") -> SwarmRuntime:
    """Return a runtime on a Swarm whose nodes all have the image, whatever a specification asks for."""
    made = Image(name="benchmarks", id=image)
    engine = SwarmEngine(connect_late(node.url, None, ANSWER_TIMEOUT_S), node.url)
    return SwarmRuntime(engine, lambda _: made, home, owner=owner)


# What happens

Event = Callable[[SwarmPlane], None]


def promoted(made: SwarmPlane) -> None:
    """Bring a new version to all of the traffic as a canary, and let the old one go."""
    made.deploy(2, most_replicas=MOST_REPLICAS)
    made.promote(2)
    wait_until(lambda: _is_gone(made, 1), what="the end of version 1")


def updated(made: SwarmPlane) -> None:
    """Change the live version's environment: the Swarm replaces its replicas one by one."""
    before = set(made.addresses(2))
    made.change(2, environment={"UPSTREAM_STARTS_AFTER_S": "1", "MODE": "other"})
    wait_until(lambda: made.is_whole(2) and not before & set(made.addresses(2)), what="the update")


def crashed(made: SwarmPlane) -> None:
    """End a replica as `kill -9` does."""
    host, port = made.addresses(2)[0]
    with suppress(httpx.HTTPError):
        httpx.post(f"http://{host}:{port}/crash", timeout=5.0, trust_env=False)
    _lost_and_replaced(made, (host, port))


def drained(made: SwarmPlane) -> None:
    """Have the second node give up its replicas."""
    second = made.swarm.second
    lost = next(each for each in made.addresses(2) if each[0] == second.address)
    made.swarm.set_availability(second, "drain")
    _lost_and_replaced(made, lost)


def returned(made: SwarmPlane) -> None:
    """Let the second node take replicas again, and bring one there."""
    made.swarm.set_availability(made.swarm.second, "active")
    made.spread(2)


def cut_off(made: SwarmPlane) -> None:
    """Unplug the second node."""
    lost = next(each for each in made.addresses(2) if each[0] == made.swarm.second.address)
    made.swarm.cut()
    _lost_and_replaced(made, lost)


def scaled_out(made: SwarmPlane) -> None:
    """Send as many calls again that take long, until a third replica takes its share."""
    url = f"{made.settings.gateway_url}/{HANDLE}/slow"
    with load(url, rate_rps=RATE_RPS, record=made.settings.home / "slow.tsv"):
        wait_until(lambda: made.is_whole(2, MOST_REPLICAS), what="a third replica")


EVENTS: dict[str, Event] = {
    "canary promoted": promoted,
    "rolling update": updated,
    "replica crash": crashed,
    "node drain": drained,
    "node back": returned,
    "node cut off": cut_off,
    "scaled out": scaled_out,
}


def _lost_and_replaced(made: SwarmPlane, lost: tuple[str, int]) -> None:
    wait_until(lambda: made.is_whole(2) and lost not in made.addresses(2), what=f"another replica for {lost}")


def _is_gone(made: SwarmPlane, version: int) -> bool:
    seen = made.state(version)
    return seen is not None and seen.phase == "stopped"


# What it costs


def measured(made: SwarmPlane) -> Iterator[Figure]:
    """Let everything happen under one load, and yield the figures."""
    began_s = time.monotonic()
    made.deploy(1)
    yield Figure(name="2 replicas ready, s", value=time.monotonic() - began_s)
    made.promote(1)
    made.spread(1)
    url = f"{made.settings.gateway_url}/{HANDLE}"
    with load(url, rate_rps=RATE_RPS, record=made.settings.home / "requests.tsv") as running:
        time.sleep(SETTLE_S)
        for name, event in EVENTS.items():
            if event in (drained, cut_off):
                made.spread(2)
            yield from _counted(made, name, event, running)
    sent = running.sent()
    yield Figure(name="requests", value=len(sent))
    yield Figure(name="answer p50, ms", value=1e3 * median(each.done_s - each.sent_s for each in sent))


def _counted(made: SwarmPlane, name: str, event: Event, running: Load) -> Iterator[Figure]:
    began_s, began = time.time(), time.monotonic()
    try:
        event(made)
    except TimeoutError as error:
        raise RuntimeError(f"{name}: {error}; seen last: {made.state(2)}") from error
    took_s = time.monotonic() - began
    is_loss = event is cut_off
    # What was sent to a lost node may fail as late as its client gives it up.
    time.sleep(CUT_OFF_S - took_s if is_loss and took_s < CUT_OFF_S else SETTLE_S)
    mine = [each for each in running.sent() if each.sent_s >= began_s]
    failed = [each for each in mine if each.has_failed]
    _explain(name, failed)
    yield Figure(name=f"{name}, s", value=took_s)
    yield Figure(name=f"{name}: requests", value=len(mine))
    yield Figure(name=f"{name}: failed requests", value=len(failed), bar=CUT_OFF_BAR if is_loss else 0)
    if is_loss:
        slowest_s = max(each.done_s - each.sent_s for each in mine)
        yield Figure(name=f"{name}: slowest answer, s", value=slowest_s, bar=SLOWEST_BAR_S)


def _explain(name: str, failed: Sequence[Sent]) -> None:
    for each in failed[:20]:
        text = f"status {each.status} {each.reason} after {each.done_s - each.sent_s:.2f} s"
        print(f"  {name}: failed: {text}, sent {each.sent_s:.2f}", file=sys.stderr)


@contextmanager
def swarm_plane(base: Callable[[Swarm], str]) -> Iterator[SwarmPlane]:
    """Yield a plane on two nodes, and leave nothing of it behind.

    Args:
        base: Brings an image with Python onto the first node, and returns its name.
    """
    with two_nodes() as swarm, tempfile.TemporaryDirectory(prefix="taxiway-swarm-plane-") as folder:
        image = built(swarm, base(swarm))
        made = SwarmPlane(swarm, image, Path(folder).resolve())
        with made.running():
            yield made


def built(swarm: Swarm, base: str) -> str:
    """Build the image of the upstream on both nodes, and return its id."""
    files = {UPSTREAM.name: UPSTREAM.read_bytes()}
    return swarm.build(base, files, ["python", f"/app/{UPSTREAM.name}"])


def main() -> int:
    """Measure, print, and return 1 where a bar was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.swarm", description=__doc__)
    parser.add_argument(
        "--base", help="image with Python on this machine's engine; made from this Python if left out"
    )
    arguments = parser.parse_args()
    reason = missing()
    if reason:
        parser.error(reason)
    with swarm_plane(lambda swarm: based(swarm, arguments.base)) as made:
        figures = list(told(measured(made)))
    return report("swarm", figures)


def based(swarm: Swarm, name: str | None) -> str:
    """Bring an image with Python onto the first node: one of this machine's engine, or one made from this Python."""
    if name is None:
        from tests.containers import base_image

        name = "taxiway-swarm/python:base"
        base_image.make(swarm.first.client, name)
        return name
    import docker  # type: ignore[import-untyped]

    swarm.first.client.load_image(b"".join(docker.from_env().api.get_image(name)))
    return name


if __name__ == "__main__":
    sys.exit(main())
