"""What the serving plane's tests share: toy model servers, and a real Envoy."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import psutil
import pytest

from taxiway_serving.contracts import Until
from taxiway_serving.ledger import database
from taxiway_serving.ledger.database import open_engine
from taxiway_serving.routing import bootstrap
from taxiway_serving.routing.admin import Admin
from taxiway_serving.routing.envoy import EnvoyRouter
from taxiway_serving.routing.router import Backend
from taxiway_serving.runtimes.runtime import VariantSpec, VariantState
from taxiway_serving.settings import ServingSettings
from tests.ports import free_port
from tests.postgres import Postgres
from tests.serving.operating import with_candidates
from tests.serving.plane import Plane

TOY = Path(__file__).with_name("toy_server.py")
PATIENCE_S = 60.0


class Toy:
    """A toy model server in a process of its own; `fail_every=3` and the like tell what it does wrong."""

    def __init__(self, version: int, *, port: int = 0, **wrong: float) -> None:
        self.version = version
        self.port = port or free_port()
        told = {f"TOY_{name.upper()}": str(value) for name, value in wrong.items()}
        env = {**os.environ, **told, "TAXIWAY_MODEL_VERSION": str(version), "TOY_ALONE": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(TOY), str(self.port)], env=env, stdout=subprocess.DEVNULL
        )
        wait_until(lambda: answers(f"http://127.0.0.1:{self.port}/readyz"))

    @property
    def backend(self) -> Backend:
        return Backend(version=self.version, host="127.0.0.1", port=self.port, model=f"digits/{self.version}")

    def end(self) -> None:
        """Ask it to end, which it does when it has answered what is under way."""
        self._process.terminate()
        self._process.wait()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def contract_of(version: int) -> str:
    """Return what a toy promises about its answers, as the file says it."""
    contract = {
        "api": "predict",
        "requests": [{"name": "seven", "json": {}, "expect": {"version": str(version)}}],
        "response": {"type": "object", "required": ["version"]},
        "malformed": [{"name": "nothing", "body": ""}],
    }
    return json.dumps(contract)


class Gateway:
    """A real Envoy and the settings that it runs by."""

    def __init__(self, settings: ServingSettings) -> None:
        self.settings = settings
        self.url = settings.gateway_url
        self.start()

    def start(self) -> None:
        argv = bootstrap.command(self.settings, bootstrap.prepare(self.settings))
        self._process = subprocess.Popen(argv)
        try:
            wait_until(lambda: answers(self.settings.envoy_admin_url + "/ready"))
        except AssertionError:
            self.kill()
            raise

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=60)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=10, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def slow_call(pool: Executor, state: VariantState) -> Callable[[], int]:
    """Begin a call that a toy answers when it is to end, and return a function that waits for its status."""
    url = f"http://{state.host}:{state.port}"
    called = pool.submit(lambda: httpx.post(f"{url}/slow", timeout=60, trust_env=False).status_code)
    wait_until(lambda: httpx.get(f"{url}/busy", timeout=60, trust_env=False).json()["busy"] == 1)
    return called.result


def wait_until(condition: Callable[[], bool], *, deadline_s: float = PATIENCE_S) -> None:
    deadline, is_late = time.monotonic() + deadline_s, False
    while not condition():
        assert not is_late, f"still not so after {deadline_s:g} s"
        time.sleep(0.02)
        # Looked at before the condition: a machine that stood still gets one look more.
        is_late = time.monotonic() > deadline


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return every live process that a runtime with this home has started."""
    found = []
    for process in psutil.process_iter():
        try:
            mark = process.environ().get("TAXIWAY_VARIANT", "")
            if mark.startswith(str(folder)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture(autouse=True)
def patient_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no machine be too slow for a connection to the database, nor between two of its statements."""
    for name in ("CONNECT_S", "BUSY_S", "IDLE_S"):
        monkeypatch.setattr(database, name, round(PATIENCE_S))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of an empty database; every test of a store runs on both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'home' / 'controller.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.database()


def tamper(url: str, statement: str) -> None:
    """Change a database beside its store."""
    engine = open_engine(url)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(statement)
    finally:
        engine.dispose()


@pytest.fixture
def until() -> Until:
    return wait_until


@pytest.fixture
def settings(tmp_path: Path) -> ServingSettings:
    return ServingSettings.under(tmp_path, envoy_port=free_port(), envoy_admin_port=free_port())


@pytest.fixture
def gateway(settings: ServingSettings) -> Iterator[Gateway]:
    gateway = Gateway(settings)
    yield gateway
    gateway.kill()


def patient_router(settings: ServingSettings) -> EnvoyRouter:
    """Return a router that waits for its Envoy as long as a test does: a machine that stood still is no fault."""
    router = EnvoyRouter(settings, patience_s=PATIENCE_S)
    wait_for_answers(router._admins)
    return router


def wait_for_answers(admins: Iterable[Admin], timeout_s: float = PATIENCE_S) -> None:
    """Have answers of admin interfaces waited for so long."""
    for admin in admins:
        admin._client.timeout = timeout_s


@pytest.fixture
def router(gateway: Gateway) -> Iterator[EnvoyRouter]:
    with closing(patient_router(gateway.settings)) as made:
        yield made


@pytest.fixture
def toy() -> Iterator[Callable[..., Toy]]:
    with ExitStack() as stack:

        def start(version: int, *, port: int = 0, **wrong: float) -> Toy:
            toy = Toy(version, port=port, **wrong)
            stack.callback(toy.kill)
            return toy

        yield start


@pytest.fixture
def make_backend(toy: Callable[..., Toy]) -> Callable[[int], Backend]:
    """Return where the toy of a version answers; there is one of each."""
    return functools.cache(lambda version: toy(version).backend)


@pytest.fixture
def make_spec(tmp_path: Path) -> Callable[..., VariantSpec]:
    def make(version: int, **changes: object) -> VariantSpec:
        usual: dict[str, object] = {
            "handle": "digits",
            "version": version,
            "model": f"digits/{version}",
            "bento_dir": tmp_path,
            "python": Path(sys.executable),
            "model_dir": tmp_path,
        }
        return VariantSpec(**{**usual, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Plane]:
    """A serving plane in memory, over the shipped fakes."""
    with closing(Plane(tmp_path / "home")) as made:
        yield made


@pytest.fixture
def live(plane: Plane) -> Plane:
    """Version 1 live, 2, 3 and 4 deployed and ready."""
    return with_candidates(plane)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Plane]:
    """Version 1 live, 2, 3 and 4 ready, behind a gateway that takes a table only when it is stepped."""
    with closing(Plane(tmp_path / "slow")) as made:
        with_candidates(made)
        made.router._applies_at_once = False
        yield made
