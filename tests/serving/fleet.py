"""What tests of a fleet share: a controller's router with its evidence, and Envoys that ask it."""

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx

from taxiway_serving.evidence.access_log import AttemptLog
from taxiway_serving.evidence.als import METHOD, AttemptReceiver, FleetAttempts
from taxiway_serving.routing.ads import AdsRouter
from taxiway_serving.routing.router import Table
from taxiway_serving.settings import ServingSettings
from tests.ports import free_port
from tests.serving.conftest import PATIENCE_S, Gateway, wait_for_answers, wait_until
from tests.serving.traffic import predict


class Controller:
    """The part of a controller that a fleet sees."""

    def __init__(self, settings: ServingSettings) -> None:
        self.settings = settings
        self.router = AdsRouter(settings, patience_s=PATIENCE_S)
        wait_for_answers(self.router._fleet._admins.values())
        self.receiver = AttemptReceiver(settings.attempt_log)
        self.receiver.open()
        self.router.streams.on_join = self.receiver.joined
        self.router.streams.on_leave = self.receiver.left
        self.source = FleetAttempts(AttemptLog(settings.attempt_log), self.receiver, self.router.logged)
        self._stack = ExitStack()
        self._stack.callback(self.router.close)
        self._stack.enter_context(self.router.serving({METHOD: self.receiver.receive}))

    def close(self) -> None:
        self._stack.close()


def fleet_settings(home: Path, envoys: int) -> tuple[ServingSettings, list[ServingSettings]]:
    """Return the settings of a controller, and of each of its Envoys, which it reads through their own ports."""
    ports = [free_port() for _ in range(envoys)]
    controller = replace(
        ServingSettings.under(home),
        router="ads",
        ads_port=free_port(),
        envoy_admin_urls=tuple(f"http://127.0.0.1:{port}" for port in ports),
    )
    own = [
        replace(
            controller,
            envoy_dir=home / f"envoy{port}",
            envoy_port=free_port(),
            envoy_admin_port=free_port(),
            envoy_read_port=port,
        )
        for port in ports
    ]
    return controller, own


@contextmanager
def fleet(home: Path, envoys: int) -> Iterator[tuple[Controller, list[Gateway]]]:
    """Run a controller that knows no endpoint yet, and Envoys that have nothing."""
    settings, own = fleet_settings(home, envoys)
    with ExitStack() as stack:
        controller = Controller(settings)
        stack.callback(controller.close)
        controller.router.publish(Table(routes=()))
        gateways = []
        for each in own:
            gateways.append(Gateway(each))
            stack.callback(gateways[-1].kill)
        yield controller, gateways


@contextmanager
def load(*urls: str) -> Iterator[Counter[object]]:
    """Send requests to gateways while the context lasts, and count what comes back."""
    seen: Counter[object] = Counter()
    has_ended = threading.Event()

    def ask(url: str) -> None:
        with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
            for user in itertools.count():
                if has_ended.is_set():
                    return
                try:
                    seen[predict(client, user).status_code] += 1
                except httpx.HTTPError as error:
                    seen[repr(error)] += 1

    with ThreadPoolExecutor(len(urls)) as pool:
        asking = [pool.submit(ask, url) for url in urls]
        try:
            wait_until(lambda: seen.total() > 10)
            yield seen
        finally:
            has_ended.set()
        for each in asking:
            each.result()


def grows(seen: Counter[object], by: int, until: Callable[..., None]) -> None:
    """Wait until so many more requests are answered."""
    wanted = seen.total() + by
    until(lambda: seen.total() >= wanted)
