"""The controller's process: `taxiway-controller`. Wires the parts, keeps the tick going, serves the interface."""

import fcntl
import logging
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import uvicorn

from taxiway_serving.controller.app import Parts, create_app
from taxiway_serving.controller.commands import Commands
from taxiway_serving.controller.tick import Reconciler
from taxiway_serving.errors import ConflictError, InvalidSpecError
from taxiway_serving.evidence.access_log import AttemptLog
from taxiway_serving.ledger.sql import SqlStore
from taxiway_serving.routing.envoy import EnvoyRouter
from taxiway_serving.routing.rotation import LogRotation
from taxiway_serving.runtimes.process import ProcessRuntime
from taxiway_serving.settings import ServingSettings

TOKEN_LENGTH = 32

log = logging.getLogger(__name__)


def main() -> None:
    """Run the controller until SIGTERM or SIGINT. Variants and Envoy go on without it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings = ServingSettings.from_environment()
    settings.home.mkdir(parents=True, exist_ok=True)
    with only_controller_of(settings.home):
        parts = wire(settings)
        app = create_app(parts, lifespan=lambda: ticking(parts.reconciler, settings.tick_s))
        uvicorn.run(app, host=settings.host, port=settings.port, log_level="warning")


def wire(settings: ServingSettings) -> Parts:
    """Return the controller's parts, over the real runtime, router, evidence and store."""
    store = SqlStore(settings.database_url)
    runtime = ProcessRuntime(settings.home)
    reconciler = Reconciler(
        store=store,
        runtime=runtime,
        router=EnvoyRouter(settings),
        source=AttemptLog(settings.attempt_log),
        clock=time.time,
        chores={"rotation of the access logs": LogRotation(settings).look},
    )
    commands = Commands(store=store, lock=reconciler.lock, home=settings.home, clock=time.time)
    return Parts(
        store=store,
        commands=commands,
        reconciler=reconciler,
        runtime=runtime,
        token=ensure_token(settings.token_file),
        gateway_url=settings.gateway_url,
    )


def ensure_token(path: Path) -> str:
    """Return the token that callers must show; make one, readable by its owner alone, where there is none.

    Raises:
        InvalidSpecError: If the file holds no token: with an empty one, everybody would be let in.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        _write_token(path)
    token = path.read_text().strip()
    if len(token) < TOKEN_LENGTH:
        fault = f"{path} holds {len(token)} characters, {TOKEN_LENGTH} are needed; remove it, and a new one is made"
        raise InvalidSpecError((fault,), "token")
    return token


def _write_token(path: Path) -> None:
    """Write a token beside its place, and link it there: whoever is first wins, and nobody sees half of it."""
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(TOKEN_LENGTH))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()


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
