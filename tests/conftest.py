"""What every test shares: nothing of this machine's user reaches a test, and one migrated Airflow serves them all.

Airflow and MLflow read their folders when they are imported, so the process is isolated here, before any test module
is; each test gets a home of its own on top. An area's own fixtures live in that area's `conftest.py`.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[1]
SCRATCH = Path(tempfile.mkdtemp(prefix="taxiway-tests-"))
PACKAGE_CACHE = os.environ.get("UV_CACHE_DIR") or str(Path.home() / ".cache" / "uv")

BY_FILE = ("datasets", "delivery", "serving")
"""Areas whose files share no servers."""
ONE_ENGINE = ("compose", "containers")
"""Areas whose tests share one engine, and tidy it up."""
LONGEST = ("trial", "dags", "containers", "compose", "path", "swarm", "page")
"""Areas that take minutes, in the order in which they had better begin."""

FOREIGN_PREFIXES = (
    "AIRFLOW",
    "TAXIWAY_",
    "MLFLOW_",
    "DVC_",
    "GIT_",
    "BENTOML_",
    "OPTUNA_",
    "PYTHONDONTWRITEBYTECODE",
)
OWN_PREFIX = "TAXIWAY_TESTS_"


def _isolated_environment(home: Path) -> dict[str, str]:
    return {
        "HOME": str(home),
        "UV_CACHE_DIR": PACKAGE_CACHE,
        "AIRFLOW_HOME": str(SCRATCH / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # A test that wants a tracking server starts one; a default that answers would be somebody else's.
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "DVC_NO_ANALYTICS": "true",
        "BENTOML_DO_NOT_TRACK": "true",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "TAXIWAY_HOME": str(home / ".taxiway"),
    }


def _isolate_process() -> None:
    for name in [name for name in os.environ if name.startswith(FOREIGN_PREFIXES)]:
        if not name.startswith(OWN_PREFIX):
            del os.environ[name]
    home = SCRATCH / "home"
    home.mkdir()
    os.environ.update(_isolated_environment(home))


_isolate_process()
pytest_plugins = ["tests.postgres", "tests.projects"]
# The same examples in each run: what has passed here passes elsewhere, and no run of CI is the first to find a fault.
hypothesis_settings.register_profile(
    "taxiway", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("taxiway")


class AreaScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """Hands whole areas to the workers of `make test`: an area's servers are started once."""

    def _split_scope(self, nodeid: str) -> str:
        area, _, rest = nodeid.removeprefix("tests/").partition("/")
        if area in ONE_ENGINE:
            return "engine"
        return f"{area}/{rest.partition('::')[0]}" if area in BY_FILE else area


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> AreaScheduling | None:
    return AreaScheduling(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest areas, or one worker would be left with one of them at the end."""
    items.sort(key=lambda item: _place_of(item.path))


def _place_of(path: Path) -> int:
    area = path.relative_to(ROOT / "tests").parts[0]
    return LONGEST.index(area) if area in LONGEST else len(LONGEST)


def pytest_unconfigure() -> None:
    shutil.rmtree(SCRATCH, ignore_errors=True)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test a home folder of its own, with no configuration of git, Airflow, MLflow or Taxiway in it."""
    folder = tmp_path_factory.mktemp("home")
    for name, value in _isolated_environment(folder).items():
        monkeypatch.setenv(name, value)
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """Return AIRFLOW_HOME with a migrated database, made once: 9 CPU seconds."""
    folder = SCRATCH / "airflow"
    subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True, timeout=600
    )
    return folder
