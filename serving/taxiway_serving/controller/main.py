"""The controller's process: `taxiway-controller`, and `taxiway-controller migrate`. Parts are wired in `wiring.py`."""

import argparse
import fcntl
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from taxiway_serving.controller.leading import Candidacy
from taxiway_serving.controller.standby import create_standby
from taxiway_serving.controller.wiring import leading
from taxiway_serving.errors import ConflictError
from taxiway_serving.ledger.database import Database, open_engine
from taxiway_serving.ledger.lease_sql import SqlLease
from taxiway_serving.ledger.migrating import statements
from taxiway_serving.settings import ServingSettings

ANY_HOST = ("0.0.0.0", "::")  # noqa: S104  # compared with, not listened on
_CLOSE_S = 10


def main() -> None:
    """Do what the command line asks for; without a word, run the controller."""
    parser = argparse.ArgumentParser(prog="taxiway-controller", description="Taxiway's controller")
    migrate = parser.add_subparsers(dest="command").add_parser(
        "migrate", help="bring the database's tables up to date, as every start does"
    )
    migrate.add_argument("--sql", action="store_true", help="print the statements and run none")
    asked = parser.parse_args()
    settings = ServingSettings.from_environment()
    if asked.command == "migrate":
        _migrate(settings, is_printed=asked.sql)
    else:
        _run(settings)


def _migrate(settings: ServingSettings, *, is_printed: bool) -> None:
    if not is_printed:
        Database(settings.database_url).close()
        return
    engine = open_engine(settings.database_url)
    try:
        sys.stdout.write(statements(engine))
    finally:
        engine.dispose()


def _run(settings: ServingSettings) -> None:
    """Run until SIGTERM or SIGINT. Variants and Envoy go on without the controller."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for chatty in ("httpx", "aiohttp.access", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # Uvicorn hands the signal on when it has closed its port: what is open then, the lease above all, is given back.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    settings.home.mkdir(parents=True, exist_ok=True)
    if settings.database_url.startswith("sqlite:"):
        with only_controller_of(settings.home), leading(settings) as app:
            _server(settings, app).run()
        return
    address = _address(settings)
    holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    lease = SqlLease(settings.database_url, holder=holder, address=address, lease_s=settings.lease_s)
    with closing(lease):
        _stand(settings, lease, address)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _stand(settings: ServingSettings, lease: SqlLease, address: str) -> None:
    standby = create_standby(address, lambda: lease.leader)
    candidacy = Candidacy(lease, lambda term: leading(settings, term), standby, lease_s=settings.lease_s)
    server = _server(settings, candidacy)
    candidacy.on_fault = lambda: setattr(server, "should_exit", True)
    with candidacy:
        server.run()
    if candidacy.fault is not None:
        raise candidacy.fault


def _server(settings: ServingSettings, app: ASGIApp) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_level="warning",
            lifespan="off",
            timeout_graceful_shutdown=_CLOSE_S,
        )
    )


def _address(settings: ServingSettings) -> str:
    """Return where others reach this controller, for those who ask a standby."""
    if settings.host in ANY_HOST:
        return f"http://{socket.gethostname()}:{settings.port}"
    return settings.controller_url


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


if __name__ == "__main__":
    main()
