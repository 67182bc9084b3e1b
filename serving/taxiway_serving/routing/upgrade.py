"""`python -m taxiway_serving.routing.upgrade`: this host's Envoy is replaced by a new one, and no request fails.

A second Envoy listens on the same port (the kernel shares the connections out) while the first one leaves and comes
back; then the second one leaves. Run it after an upgrade of Envoy or of Taxiway, or to restart what is ill.
"""

import argparse
import logging
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import httpx

from taxiway_serving.errors import ConflictError, InvalidSpecError, NotReadyError, TransportError
from taxiway_serving.routing import bootstrap
from taxiway_serving.settings import ServingSettings

READY_S: Final = 60.0
LEAVE_S: Final = 60.0
_POLL_S: Final = 0.1

_CLIENTS: Final = r"^http\.gateway\.downstream_cx_active$"

log = logging.getLogger(__name__)


def main() -> None:
    """Replace the Envoy of the TAXIWAY_* variables."""
    parser = argparse.ArgumentParser(description="Replace this host's Envoy; no request fails.")
    parser.add_argument(
        "--supervised", action="store_true", help="something else starts Envoy again when it has ended"
    )
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings = ServingSettings.from_environment()
    upgrade(settings, start=waited_for if asked.supervised else started)


def upgrade(settings: ServingSettings, *, start: Callable[[ServingSettings], None] | None = None) -> None:
    """Replace an Envoy that runs. Cut short anywhere, at least one still serves, and it can be run again.

    Args:
        settings: Of this host.
        start: Starts the new one once the old one has ended, and returns at once. None starts it here.

    Raises:
        InvalidSpecError: If no spare port is set.
        ConflictError: If no Envoy runs that could be replaced.
        NotReadyError: If a new one does not get ready; what served before still does.
        TransportError: If one that runs does not answer.
    """
    if not settings.envoy_spare_admin_port:
        raise InvalidSpecError(("TAXIWAY_ENVOY_SPARE_ADMIN_PORT must be a port",), "upgrade")
    spare = replace(settings, envoy_admin_port=settings.envoy_spare_admin_port)
    if _is_there(settings):
        if not _is_there(spare):
            log.info("starting the Envoy that fills in")
            started(spare)
        _wait_until_ready(spare)
        log.info("the old Envoy leaves")
        _leave(settings)
    elif not _is_there(spare):
        raise ConflictError(settings.envoy_admin_url, "no Envoy runs there", "start one")
    log.info("starting the new Envoy")
    (start or started)(settings)
    _wait_until_ready(settings)
    log.info("the Envoy that filled in leaves")
    _leave(spare)


def started(settings: ServingSettings) -> None:
    """Start an Envoy that outlives this process."""
    argv = bootstrap.command(settings, bootstrap.prepare(settings))
    output = settings.envoy_dir / "upgrade.log"
    with output.open("ab") as file:
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)


def waited_for(settings: ServingSettings) -> None:
    """Let whoever supervises Envoy start it again."""
    log.info("waiting for the supervisor to start Envoy at %s", settings.envoy_admin_url)


def _is_there(settings: ServingSettings) -> bool:
    try:
        httpx.get(f"{settings.envoy_admin_url}/ready", timeout=5.0, trust_env=False)
    except httpx.ConnectError:
        return False
    except httpx.HTTPError as error:
        raise TransportError(settings.envoy_admin_url, f"{type(error).__name__}: {error}") from error
    return True


def _wait_until_ready(settings: ServingSettings) -> None:
    """Wait until an Envoy has its clusters and routes, and listens."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        try:
            if (
                httpx.get(f"{settings.envoy_admin_url}/ready", timeout=2.0, trust_env=False).status_code
                == 200
            ):
                return
        except httpx.HTTPError:
            # It is still starting; that it never listens is said below.
            pass
        time.sleep(_POLL_S)
    end = (settings.envoy_dir / "upgrade.log").read_text(errors="replace")[-2000:]
    raise NotReadyError(
        f"Envoy at {settings.envoy_admin_url}", READY_S, "it is not live; the other one serves on", end
    )


def _leave(settings: ServingSettings) -> None:
    """Send an Envoy's clients elsewhere, answer what is under way, and end it."""
    url = settings.envoy_admin_url
    _post(f"{url}/healthcheck/fail")
    _post(f"{url}/drain_listeners?graceful&skip_exit")
    # It listens until its time to drain is over; who connects until then is told to go at the first answer.
    time.sleep(bootstrap.DRAIN_S + 1)
    deadline = time.monotonic() + LEAVE_S
    while time.monotonic() < deadline and _clients(url):
        time.sleep(_POLL_S)
    _post(f"{url}/quitquitquit")
    while time.monotonic() < deadline + LEAVE_S and _is_there(settings):
        time.sleep(_POLL_S)


def _clients(url: str) -> int:
    """Return how many connections clients have open."""
    try:
        answer = httpx.get(f"{url}/stats?format=json&filter={_CLIENTS}", timeout=5.0, trust_env=False).json()
    except (httpx.HTTPError, ValueError) as error:
        raise TransportError(url, f"{type(error).__name__}: {error}") from error
    return sum(int(stat.get("value", 0)) for stat in answer.get("stats", []))


def _post(url: str) -> None:
    try:
        httpx.post(url, timeout=5.0, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise TransportError(url, f"{type(error).__name__}: {error}") from error


if __name__ == "__main__":
    main()
