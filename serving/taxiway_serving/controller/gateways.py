"""The gateways of a controller that leads: the router of the settings, and where evidence of its Envoys comes from."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from taxiway_serving import routing
from taxiway_serving.evidence import als
from taxiway_serving.evidence.access_log import AttemptLog
from taxiway_serving.evidence.source import Source
from taxiway_serving.ledger.store import Store
from taxiway_serving.routing.ads import AdsRouter
from taxiway_serving.routing.rotation import LogRotation
from taxiway_serving.routing.router import Router, Table, always_may
from taxiway_serving.settings import ServingSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateways:
    """What a controller needs of its gateways.

    Attributes:
        router: Moves traffic.
        source: Where evidence comes from.
        rotate: Keeps the logs from filling the disk.
    """

    router: Router
    source: Source
    rotate: Callable[[], None]


@contextmanager
def gateways(
    settings: ServingSettings, store: Store, *, may_act: Callable[[], None] = always_may
) -> Iterator[Gateways]:
    """Return the gateways of the settings; the Envoys of a fleet may connect while the context lasts.

    Args:
        settings: Of the controller.
        store: What it knows. Where it knows no endpoint, an Envoy that has nothing may begin with nothing.
        may_act: Called before a gateway is told anything; raises if another controller leads.
    """
    with closing(routing.chosen(settings, may_act=may_act)) as router:
        if not isinstance(router, AdsRouter):
            log = AttemptLog(settings.attempt_log)
            yield Gateways(router=router, source=log, rotate=LogRotation(settings).look)
            return
        receiver = als.AttemptReceiver(settings.attempt_log)
        receiver.open()
        router.streams.on_join, router.streams.on_leave = receiver.joined, receiver.left
        if not store.fleet().endpoints:
            router.publish(Table(routes=()))
        with router.serving({als.METHOD: receiver.receive}):
            # The leader before this one may have written its log on another machine.
            log = AttemptLog(settings.attempt_log, resumes_at_end=True)
            source = als.FleetAttempts(log, receiver, router.logged, clock=time.monotonic)
            yield Gateways(router=router, source=source, rotate=LogRotation(settings).look)


def unmirrored(settings: ServingSettings) -> tuple[str, ...]:
    """Return the addresses of the Envoys that cannot mirror: they are elsewhere, and only loopback takes the copies."""
    if settings.router != "ads" or not _is_loopback(settings.shadow_host):
        return ()
    return tuple(url for url in settings.fleet_admin_urls if not _is_loopback(urlsplit(url).hostname or ""))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
