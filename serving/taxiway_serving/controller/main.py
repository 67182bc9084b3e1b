"""The controller's process: `taxiway-controller`. Wires the parts, keeps the tick going, serves the interface."""

import fcntl
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from taxiway_serving import routing, runtimes
from taxiway_serving.controller.app import Parts, create_app
from taxiway_serving.controller.commands import Commands
from taxiway_serving.controller.outbox import telling
from taxiway_serving.controller.reverifying import Reverifier
from taxiway_serving.controller.roles import ensure_tokens
from taxiway_serving.controller.sensing import Sensing
from taxiway_serving.controller.shadowing import Shadowing
from taxiway_serving.controller.tick import Reconciler
from taxiway_serving.errors import ConflictError
from taxiway_serving.evidence.access_log import AttemptLog
from taxiway_serving.evidence.queries import Queries, Sources
from taxiway_serving.ledger.rewards import SqlRewards
from taxiway_serving.ledger.sql import SqlStore
from taxiway_serving.ledger.timeline import SqlTimeline
from taxiway_serving.routing.rotation import LogRotation
from taxiway_serving.settings import ServingSettings
from taxiway_serving.shadow.comparator import Comparator, comparing

log = logging.getLogger(__name__)


def main() -> None:
    """Run the controller until SIGTERM or SIGINT. Variants and Envoy go on without it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for chatty in ("httpx", "aiohttp.access"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    settings = ServingSettings.from_environment()
    settings.home.mkdir(parents=True, exist_ok=True)
    with only_controller_of(settings.home), comparing(settings.home) as comparator, telling(settings):
        parts, sensing = wire(settings, comparator)
        app = create_app(parts, lifespan=lambda: ticking(parts.reconciler, settings.tick_s))
        try:
            uvicorn.run(app, host=settings.host, port=settings.port, log_level="warning")
        finally:
            sensing.close()


def wire(settings: ServingSettings, comparator: Comparator) -> tuple[Parts, Sensing]:
    """Return the controller's parts over the real runtime, router, evidence and store; the caller closes the senses."""
    store = SqlStore(settings.database_url, keeps_deliveries=bool(settings.webhook_url))
    runtime = runtimes.chosen(settings)
    shadowing = Shadowing(comparator=comparator, runtime=runtime, home=settings.home)
    sensing = sense(settings, shadowing)
    reconciler = Reconciler(
        store=store,
        runtime=runtime,
        router=routing.chosen(settings),
        source=AttemptLog(settings.attempt_log),
        clock=time.time,
        senses=sensing,
        mirror_to=shadowing.address,
        most_rollouts=settings.most_rollouts,
        chores={
            "rotation of the access logs": LogRotation(settings).look,
            "old feedback": lambda: sensing.rewards.prune(now_s=time.time()),
            "old timelines": lambda: sensing.timeline.tidy(now_s=time.time()),
        },
    )
    commands = Commands(
        store=store,
        lock=reconciler.lock,
        home=settings.home,
        clock=time.time,
        most_rollouts=settings.most_rollouts,
        rollback_window=settings.rollback_window,
        settle=reconciler.settle,
    )
    tokens = ensure_tokens(settings.token_file)
    parts = Parts(
        store=store,
        commands=commands,
        reconciler=reconciler,
        runtime=runtime,
        token=tokens.operator,
        viewer_token=tokens.viewer,
        reporter_token=tokens.reporter,
        gateway_url=settings.gateway_url,
        rewards=sensing.rewards,
        timeline=sensing.timeline,
        attempts_of=AttemptLog(settings.attempt_log).find,
    )
    return parts, sensing


def sense(settings: ServingSettings, shadowing: Shadowing | None = None) -> Sensing:
    """Return the senses of a controller; the caller closes them."""
    return Sensing(
        rewards=SqlRewards(settings.database_url, retention_s=settings.feedback_retention_s),
        timeline=SqlTimeline(settings.database_url),
        shadowing=shadowing,
        reverifier=Reverifier(settings.gateway_url),
        queries=Queries(Sources.from_file(settings.metric_sources_file)),
    )


@contextmanager
def only_controller_of(home: Path) -> Iterator[None]:
    """Hold the home's lock; the kernel frees it however the process ends.

    Raises:
        ConflictError: If another controller runs there.
    """
    with (home / "controller.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                str(home), "another controller runs there", "stop it, or give a home of its own"
            ) from error
        yield


@contextmanager
def ticking(reconciler: Reconciler, tick_s: float) -> Iterator[None]:
    """Tick in a thread of its own while the context lasts."""
    stopped = threading.Event()
    thread = threading.Thread(
        target=_tick_until, args=(reconciler, tick_s, stopped), name="tick", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(timeout=15)


def _tick_until(reconciler: Reconciler, tick_s: float, stopped: threading.Event) -> None:
    while not stopped.is_set():
        began = time.monotonic()
        try:
            reconciler.tick()
        except Exception:
            # The loop must outlive any single tick: a controller that stops looking can no longer roll back.
            log.exception("tick failed and is tried again")
        stopped.wait(max(0.05, tick_s - (time.monotonic() - began)))


if __name__ == "__main__":
    main()
