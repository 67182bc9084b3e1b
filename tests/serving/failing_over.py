"""Several real controllers and Envoys over one PostgreSQL: started, killed, watched, and sent requests to by users.

Each controller has a home of its own, as on two hosts, and knows the fleet by its addresses alone.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from taxiway_serving.client import Controller
from taxiway_serving.controller.roles import ensure_tokens
from taxiway_serving.errors import TransportError
from taxiway_serving.routing import read_back
from taxiway_serving.routing.admin import Admin
from tests.ports import free_port
from tests.serving.conftest import answers, wait_until

HANDLE = "digits"
LEASE_S = 4.0
START_S = 180.0


class Program:
    """One process of a site, which can be killed and started again on its own ports."""

    def __init__(self, module: str, log: Path, ready_url: str, **environment: object) -> None:
        self._module, self._log, self.ready_url = module, log, ready_url
        self._environment = {name: str(value) for name, value in environment.items()}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {**os.environ, **self._environment}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module], env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def wait_ready(self) -> None:
        wait_until(lambda: answers(self.ready_url), deadline_s=START_S)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal and wait for the end; a process that stands still is woken by none but SIGKILL."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=60)
            self._process = None

    def log(self) -> str:
        return self._log.read_text()

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A request that got no answer, and was sent to the next Envoy. Times by the monotonic clock."""

    url: str
    sent_s: float
    failed_s: float
    error: str


class Site:
    """Two controllers over one database, and Envoys.

    Attributes:
        homes: Of the controllers, by number.
        controllers: By number.
        envoys: By number.
        controller: A client that knows both controllers.
        gateways: Addresses of the Envoys.
        away: Which of them was gone, from when until it answered again, by the monotonic clock.
    """

    def __init__(self, home: Path, database_url: str, *, router: str, envoys: int) -> None:
        self._home, self.homes = home, [home / f"controller-{number}" for number in range(2)]
        for folder in (home, *self.homes):
            folder.mkdir()
        self.database_url = database_url
        ports, ads_ports = [free_port() for _ in range(2)], [free_port() for _ in range(2)]
        self._admins = [free_port() for _ in range(envoys)]
        gateways = [free_port() for _ in range(envoys)]
        self.gateways = [f"http://127.0.0.1:{port}" for port in gateways]
        self.away: list[tuple[str, float, float]] = []
        common = {
            "TAXIWAY_TOKEN_FILE": home / "token",
            "TAXIWAY_ROUTER": router,
            "TAXIWAY_ADS_ADDRESSES": ",".join(f"127.0.0.1:{port}" for port in ads_ports),
        }
        looking = common | {
            "TAXIWAY_DATABASE_URL": database_url,
            "TAXIWAY_LEASE_S": LEASE_S,
            "TAXIWAY_TICK_S": 0.2,
            "TAXIWAY_GATEWAY_URL": self.gateways[-1],
            "TAXIWAY_ENVOY_ADMIN_URLS": ",".join(f"http://127.0.0.1:{port}" for port in self._admins),
        }
        if router == "files":
            # A volume that both hosts share.
            common["TAXIWAY_ENVOY_DIR"] = looking["TAXIWAY_ENVOY_DIR"] = home / "envoy"
            looking["TAXIWAY_ENVOY_ADMIN_PORT"] = self._admins[0]
        self.controllers = [
            self._controller(number, looking, *own)
            for number, own in enumerate(zip(ports, ads_ports, strict=True))
        ]
        self.envoys = [
            self._envoy(number, common, *own)
            for number, own in enumerate(zip(self._admins, gateways, strict=True))
        ]
        token = ensure_tokens(home / "token").operator
        urls = ",".join(f"http://127.0.0.1:{port}" for port in ports)
        self.controller = Controller(urls, token, actor="ann")

    def _controller(self, number: int, common: dict[str, object], port: int, ads_port: int) -> Program:
        own = {
            "TAXIWAY_HOME": self.homes[number],
            "TAXIWAY_CONTROLLER_PORT": port,
            "TAXIWAY_ADS_PORT": ads_port,
        }
        return Program(
            "taxiway_serving.controller.main",
            self._home / f"controller-{number}.log",
            f"http://127.0.0.1:{port}/healthz",
            **common | own,
        )

    def _envoy(self, number: int, common: dict[str, object], admin: int, port: int) -> Program:
        own = {
            "TAXIWAY_HOME": self._home / f"gate-{number}",
            "TAXIWAY_ENVOY_ADMIN_PORT": admin,
            "TAXIWAY_GATEWAY_PORT": port,
        }
        return Program(
            "taxiway_serving.routing.bootstrap",
            self._home / f"envoy-{number}.log",
            f"http://127.0.0.1:{admin}/ready",
            **common | own,
        )

    def open(self) -> None:
        """Start everything; the first controller leads."""
        self.controllers[0].start()
        self.controllers[0].wait_ready()
        for program in (*self.controllers[1:], *self.envoys):
            program.start()
        for program in self.controllers[1:]:
            program.wait_ready()

    def close(self) -> None:
        for program in (*self.controllers, *self.envoys):
            program.end()

    def replace_envoy(self, number: int) -> None:
        """Kill an Envoy and start it again: until it has answered a request, requests to it may be lost."""
        envoy, since_s = self.envoys[number], time.monotonic()
        envoy.end(signal.SIGKILL)
        envoy.start()
        envoy.wait_ready()
        self.wait_answered(number)
        self.away.append((self.gateways[number], since_s, time.monotonic()))

    def wait_answered(self, number: int) -> None:
        """Wait until a version answers a request to an Envoy."""
        url = f"{self.gateways[number]}/{HANDLE}/readyz"
        wait_until(lambda: answers(url), deadline_s=START_S)

    def was_away(self, retry: Retry) -> bool:
        """Tell whether a request met an Envoy that had been killed, and had not answered since."""
        return any(
            url == retry.url and since_s < retry.failed_s and retry.sent_s < until_s
            for url, since_s, until_s in self.away
        )

    def leader(self) -> int | None:
        """Return the number of the controller that says that it leads."""
        for number, program in enumerate(self.controllers):
            with suppress(httpx.HTTPError):
                if httpx.get(program.ready_url, timeout=5, trust_env=False).json()["role"] == "leader":
                    return number
        return None

    def told(self, rollout_id: str) -> str:
        """Return what a rollout and the logs say, for whoever must find out why it does not go on."""
        logs = (
            f"{program._log.name}:\n{program.log()[-4_000:]}" for program in (*self.controllers, *self.envoys)
        )
        return "\n\n".join([json.dumps(self.rollout(rollout_id), default=str)[:4_000], *logs])

    def weights(self, number: int) -> float | None:
        """Return the share of version 2 that an Envoy has now, from its own dump; None where that says nothing."""
        admin = Admin(f"http://127.0.0.1:{self._admins[number]}")
        try:
            found = admin.routes([HANDLE]).get(HANDLE) or admin.scope(HANDLE)
            split = read_back.split_of(found) if found else None
            return split.weight_pct(2) if split else None
        except TransportError:
            return None
        finally:
            admin.close()

    def rollout(self, rollout_id: str) -> dict[str, Any]:
        return self.controller.rollout(HANDLE, rollout_id)

    def logs(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self._home.glob("*.log"))
        )


class Users:
    """Users who send all the while, to whichever Envoy answers: as behind any load balancer, one that is gone is left.

    Attributes:
        failed: What they got that was no answer of a version, in words.
        retried: Each time that an Envoy gave no answer at all.
        versions: How many answers of which version.
    """

    def __init__(self, gateways: Sequence[str], *, threads: int = 4, pause_s: float = 0.02) -> None:
        self._gateways, self._pause_s = gateways, pause_s
        self._ended = threading.Event()
        self._numbers = itertools.count()
        self.failed: list[str] = []
        self.retried: list[Retry] = []
        self.versions: dict[str, int] = {}
        self._threads = [threading.Thread(target=self._send, args=(n,), daemon=True) for n in range(threads)]

    def _send(self, place: int) -> None:
        with httpx.Client(trust_env=False, timeout=120) as client:
            while not self._ended.wait(self._pause_s):
                self._one(client, place)

    def _one(self, client: httpx.Client, place: int) -> None:
        user = next(self._numbers)
        for turn in range(2 * len(self._gateways)):
            url = self._gateways[(place + user + turn) % len(self._gateways)]
            sent_s = time.monotonic()
            try:
                answer = client.post(
                    f"{url}/{HANDLE}/predict", json={}, headers={"x-user-id": f"user-{user}"}
                )
            except httpx.TransportError as error:
                told = f"{type(error).__name__}: {error}"
                self.retried.append(Retry(url=url, sent_s=sent_s, failed_s=time.monotonic(), error=told))
                continue
            version = answer.headers.get("x-taxiway-version", "")
            if answer.is_success:
                self.versions[version] = self.versions.get(version, 0) + 1
            else:
                self.failed.append(
                    f"{answer.status_code} of version {version or 'none'}: {answer.text[:200]}"
                )
            return
        self.failed.append("no gateway answers")

    @contextmanager
    def sending(self) -> Iterator["Users"]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            for thread in self._threads:
                thread.join(START_S)


class Watch:
    """Reads the candidate's weight from every Envoy over and over, whether or not a controller lives.

    Attributes:
        seen: By Envoy, each weight that it had, in order, once for each change.
    """

    def __init__(self, site: Site) -> None:
        self._site, self._ended = site, threading.Event()
        self.seen: list[list[float]] = [[] for _ in site.envoys]
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._ended.wait(0.03):
            for number, seen in enumerate(self.seen):
                weight = self._site.weights(number)
                if weight is not None and (not seen or seen[-1] != weight):
                    seen.append(weight)

    @contextmanager
    def looking(self) -> Iterator["Watch"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            self._thread.join(30)


def reached(site: Site, weight_pct: float) -> None:
    """Wait until every Envoy has given the candidate this weight."""
    deadline_s = time.monotonic() + START_S
    while any(site.weights(number) != weight_pct for number in range(len(site.envoys))):
        assert time.monotonic() < deadline_s, f"never {weight_pct} %\n{site.logs()}"
        time.sleep(0.05)
