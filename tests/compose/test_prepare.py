"""What runs before Airflow, against a real PostgreSQL."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psycopg
import pytest

from tests.postgres import PASSWORD, Postgres

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "images" / "airflow" / "prepare.py"
MAY_ANYBODY = "SELECT has_database_privilege('public', 'prepared', 'CONNECT')"


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """Return the script. The image's driver is not on this machine; the one that is there has the same interface."""
    monkeypatch.setitem(sys.modules, "psycopg2", psycopg)
    spec = importlib.util.spec_from_file_location("prepare", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "postgres_password").write_text(PASSWORD)
    monkeypatch.setattr(module, "SECRETS", tmp_path)
    return module


@pytest.fixture
def address(postgres: Postgres) -> Iterator[str]:
    """Return the address of a database that is not made yet, on a server with the role that makes it."""
    postgres.execute(f"CREATE ROLE postgres SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
    yield f"postgresql+psycopg2://prepared:first@127.0.0.1:{postgres.port}/prepared"
    postgres.execute("DROP DATABASE IF EXISTS prepared")
    postgres.execute("DROP ROLE IF EXISTS prepared, postgres")


def test_database_is_its_owners_alone(prepare: ModuleType, address: str, postgres: Postgres) -> None:
    prepare.make_database(address)

    assert postgres.execute(MAY_ANYBODY) == [(False,)]
    own = f"postgresql://prepared:first@127.0.0.1:{postgres.port}/prepared"
    with psycopg.connect(own) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_database_whose_making_was_interrupted_is_closed_the_next_time(
    prepare: ModuleType, address: str, postgres: Postgres
) -> None:
    prepare.make_database(address)
    postgres.execute("GRANT CONNECT ON DATABASE prepared TO PUBLIC")
    prepare.make_database(address.replace("first", "second"))

    assert postgres.execute(MAY_ANYBODY) == [(False,)]
    own = f"postgresql://prepared:second@127.0.0.1:{postgres.port}/prepared"
    with psycopg.connect(own) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
