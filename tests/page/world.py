"""What the tests of history and page look at: a controller with a past, served over HTTP, and an Airflow before it.

The controller runs over the shipped fakes, with a clock of its own that ends where the tests begin.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from taxiway_serving.controller.app import Parts, create_app
from taxiway_serving.controller.sensing import Sensing
from taxiway_serving.feedback import Event
from taxiway_serving.ledger.rewards import SqlRewards
from taxiway_serving.ledger.timeline import SqlTimeline
from tests.ports import free_port
from tests.serving.plane import Plane

TOKEN = "a-controller-token-that-no-browser-sees"
NASTY = "<img src=x onerror=window.hurt=1>ann"
NEWCOMER, SHOP, CLINIC = "newcomer", "shop", "clinic"
PAST_S = 1_000
BUCKET_S = 10
"""Of its metrics: the past begins with one, so that each holds the same requests each time."""
LAST_ROLLOUT_S = 80
PASSWORDS = {"ann": "ann-password", "ben": "ben-password"}
CLICK_EVERY = {1: 20, 2: 10, 3: 5, 4: 6}
"""Of each version, every so many-th request earns a click."""
BANDIT = {"kind": "bandit", "reward": "click", "update_s": 10, "window_s": 5, "min_s": 99_999}


class World:
    """A controller with a past.

    Of `digits`, version 2 was promoted, version 3 rolled back, and version 4 is on its way. `shop` has a bandit of
    three versions; of `clinic` a person has aborted version 2; `newcomer` never had traffic.
    """

    def __init__(self, home: Path) -> None:
        self.plane = Plane(home)
        url = f"sqlite:///{home / 'controller.db'}"
        self.senses = self.plane.senses = Sensing(rewards=SqlRewards(url), timeline=SqlTimeline(url))
        self.plane.restart()
        self._seen = ""
        self._requests: Counter[tuple[str, int]] = Counter()

    def close(self) -> None:
        self.senses.close()
        self.plane.close()

    def play(self) -> None:
        """Let the past happen, up to now: by the same steps each time, however long this machine takes for them."""
        plane = self.plane
        end_s = time.time() // BUCKET_S * BUCKET_S
        plane.runtime.now_s = end_s - PAST_S
        for version in (1, 2):
            self.roll_out(version)
            self.tick(600, until=lambda: plane.state(f"to-{version}").outcome is not None)  # noqa: B023
            self.rest(120)
        plane.fails = lambda version, number: version == 3 and plane.live(SHOP) is None and number % 3 == 0
        self.roll_out(3)
        self.tick(600, until=lambda: plane.state("to-3").ended_at_s is not None)
        self.rest(end_s - LAST_ROLLOUT_S - plane.now_s)
        plane.commands.deploy(plane.spec(1, handle=NEWCOMER), actor=NASTY)
        self.open_clinic()
        self.open_shop()
        self.roll_out(4)
        self.tick(LAST_ROLLOUT_S, until=lambda: plane.now_s > end_s - 5)

    def roll_out(self, version: int) -> None:
        self.plane.deploy(version)
        self.tick(3)
        self.plane.begin(version, name=f"to-{version}", actor="dag digits, run 7")

    def open_shop(self) -> None:
        """Let version 1 of the shop go live, and a bandit choose between all three."""
        plane = self.plane
        for version in (1, 2, 3):
            plane.deploy(version, handle=SHOP)
        self.tick(3)
        plane.begin(1, name="opening", handle=SHOP)
        self.tick(20, until=lambda: plane.state("opening").outcome is not None)
        plane.begin(2, name="bandit", handle=SHOP, rivals=[3], strategy=BANDIT)

    def open_clinic(self) -> None:
        """Let version 1 of the clinic go live; version 2 is on its way when a person takes it back."""
        plane = self.plane
        for version in (1, 2):
            plane.deploy(version, handle=CLINIC)
        self.tick(3)
        plane.begin(1, name="clinic-opening", handle=CLINIC)
        self.tick(20, until=lambda: plane.state("clinic-opening").outcome is not None)
        plane.begin(2, name="regretted", handle=CLINIC)
        self.tick(20, until=lambda: plane.weight_pct(2, handle=CLINIC) > 0)
        plane.act("regretted", "abort")
        self.tick(5, until=lambda: plane.state("regretted").ended_at_s is not None)

    def tick(self, most: int, *, until: Callable[[], bool] = lambda: False, requests: int = 8) -> None:
        """Let seconds pass, with traffic and clicks."""
        for _ in range(most):
            self.plane.tick(requests=requests)
            self.click()
            if until():
                return

    def rest(self, seconds: float) -> None:
        """Let time pass in which the controller seldom looks."""
        for _ in range(int(seconds / 10)):
            self.plane.runtime.step(9.0)
            self.tick(1, requests=40)

    def click(self) -> None:
        """Report what clients did with the answers since the last call."""
        batch = self.plane.source.read(self._seen)
        self._seen = batch.cursor
        events = []
        for attempt in batch.attempts:
            if attempt.number != 1:
                continue
            arm = (attempt.handle, attempt.assigned)
            self._requests[arm] += 1
            if self._requests[arm] % CLICK_EVERY[attempt.assigned] == 0:
                events.append(
                    Event(request_id=attempt.request_id, metric="click", value=1.0, event_at_s=attempt.at_s)
                )
        if events:
            self.senses.rewards.accept(events, now_s=self.plane.now_s)


class Served:
    """The controller's interface at a port that stays the same while it goes away and comes back."""

    def __init__(self, world: World) -> None:
        self.port = free_port()
        self.world = world
        self._server: uvicorn.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, world: World | None = None) -> None:
        """Serve a controller; the one with the past where no other is given."""
        app = create_app(parts_of(world or self.world))
        config = uvicorn.Config(app, port=self.port, log_level="warning", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        wait_until(lambda: bool(self._server and self._server.started))

    def stop(self) -> None:
        if self._server is not None:
            self._server.should_exit = True
            self._thread.join()
            self._server = None


def parts_of(world: World) -> Parts:
    plane = world.plane
    return Parts(
        store=plane.store,
        commands=plane.commands,
        reconciler=plane.reconciler,
        runtime=plane.runtime,
        token=TOKEN,
        gateway_url="http://127.0.0.1:8580",
        clock=lambda: plane.now_s,
        rewards=world.senses.rewards,
        timeline=world.senses.timeline,
    )


class Airflow:
    """An API server with its login, over the migrated database that all tests share."""

    def __init__(self, folder: Path, controller: Served) -> None:
        self.port = free_port()
        self._log = folder / "api-server.log"
        passwords = folder / "passwords.json"
        passwords.write_text(json.dumps(PASSWORDS))
        connection = {"conn_type": "taxiway", "host": "127.0.0.1", "port": controller.port, "password": TOKEN}
        settings = {
            "API__BASE_URL": self.url,
            "API__PORT": self.port,
            "API__WORKERS": 1,
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": False,
            "CORE__SIMPLE_AUTH_MANAGER_USERS": "ann:admin,ben:viewer",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": passwords,
        }
        self._environment = (
            os.environ
            | {f"AIRFLOW__{name}": str(value) for name, value in settings.items()}
            | {"AIRFLOW_CONN_TAXIWAY_DEFAULT": json.dumps(connection)}
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "airflow",
            "api-server",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        wait_until(self._answers)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(120)

    def token(self, user: str) -> str:
        """Log in as a program does."""
        asked = {"username": user, "password": PASSWORDS[user]}
        answer = httpx.post(f"{self.url}/auth/token", json=asked, trust_env=False, timeout=60)
        return str(answer.raise_for_status().json()["access_token"])

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(f"{self.url}/taxiway{path}", trust_env=False, timeout=60, **options)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            return httpx.get(f"{self.url}/api/v2/version", trust_env=False, timeout=10).is_success
        except httpx.TransportError:
            return False


def wait_until(is_so: Callable[[], bool], *, deadline_s: float = 240.0) -> None:
    end_s = time.monotonic() + deadline_s
    while not is_so():
        assert time.monotonic() < end_s, f"not so after {deadline_s:g} s"
        time.sleep(0.05)
