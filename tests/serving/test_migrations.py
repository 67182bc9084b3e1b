"""Migrations: what they make is what the tables say, on both databases, and a filled file of before loses nothing."""

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine import Engine

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.ledger import database, migrating
from taxiway_serving.ledger.chain import broken_at
from taxiway_serving.ledger.database import Database, open_engine
from taxiway_serving.ledger.rewards import SqlRewards
from taxiway_serving.ledger.sql import SqlStore
from taxiway_serving.ledger.timeline import SqlTimeline
from tests.postgres import Postgres
from tests.serving.conftest import tamper
from tests.serving.plane import HANDLE
from tests.serving.test_upgrade import write_first_schema

SECOND_SCHEMA = Path(__file__).with_name("second_schema.sql")


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    made = open_engine(url)
    yield made
    made.dispose()


def differences(engine: Engine) -> list[object]:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return [*compare_metadata(context, migrating.META)]


def revision(engine: Engine) -> str:
    with engine.connect() as connection:
        return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())


def migrate_from_nothing(engine: Engine) -> None:
    """Run every migration, as on a database that stood at each schema once."""
    with migrating._locked(engine) as connection:
        migrating._alembic("upgrade", connection, "head")


def test_migrations_make_what_the_tables_say(engine: Engine) -> None:
    migrate_from_nothing(engine)
    assert differences(engine) == []
    assert revision(engine) == migrating.HEAD


def test_new_database_is_made_as_the_migrations_would(engine: Engine) -> None:
    migrating.bring_up_to_date(engine)
    assert differences(engine) == []
    assert revision(engine) == migrating.HEAD


def write_second_schema(path: Path) -> None:
    """Write what the release before Alembic left: a canary under way, rewards, times, messages, history."""
    with closing(sqlite3.connect(path)) as file, file:
        file.executescript(SECOND_SCHEMA.read_text())


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return what each table of a file holds, without the columns that a migration adds."""
    with closing(sqlite3.connect(path)) as file:
        names = [name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(file.execute(f"SELECT * FROM {name}"), key=repr) for name in names}  # noqa: S608


def test_filled_file_of_the_second_schema_is_upgraded_without_loss(tmp_path: Path) -> None:
    path = tmp_path / "controller.db"
    write_second_schema(path)
    before, url = rows(path), f"sqlite:///{path}"
    with closing(SqlStore(url)) as store, closing(SqlRewards(url)), closing(SqlTimeline(url)):
        entries = store.entries(None, after=0, limit=10_000)
        assert broken_at(entries) is None
        assert [rollout.spec.id for rollout in store.recent(HANDLE, limit=9)] == ["to-2", "to-1"]
    after = rows(path)
    assert {name for name in before if before[name]} >= {"rollouts", "entries", "outbox", "feedback_events"}
    for name, held in before.items():
        width = len(held[0]) if held else 0
        assert [row[:width] for row in after[name]] == held, name
    engine = open_engine(url)
    assert (differences(engine), revision(engine)) == ([], migrating.HEAD)
    engine.dispose()


def test_file_that_one_store_alone_has_used_is_upgraded(tmp_path: Path) -> None:
    """Rewards and times kept no version of theirs: their tables were made by whichever release came first."""
    path = tmp_path / "senses.db"
    write_second_schema(path)
    with closing(sqlite3.connect(path)) as file, file:
        for name in ("endpoints", "variants", "rollouts", "met", "entries", "cursors", "outbox"):
            file.execute(f"DROP TABLE {name}")
        file.execute("PRAGMA user_version=0")
    with closing(SqlRewards(f"sqlite:///{path}")) as rewards:
        assert rewards.waiting(now_s=1e9) == {"pending": 0, "unknown": 1}
    engine = open_engine(f"sqlite:///{path}")
    assert differences(engine) == []
    engine.dispose()


def test_file_of_a_newer_schema_from_before_alembic_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "controller.db"
    write_first_schema(tmp_path)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("PRAGMA user_version=9")
    with pytest.raises(InvalidSpecError, match="schema 9"):
        SqlStore(f"sqlite:///{path}")


def test_release_before_alembic_refuses_an_upgraded_file(tmp_path: Path) -> None:
    """It looks at `user_version`, and knows no number above 2."""
    Database(f"sqlite:///{tmp_path / 'controller.db'}").close()
    with closing(sqlite3.connect(tmp_path / "controller.db")) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (3,)


def test_migration_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "controller.db"
    write_second_schema(path)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE lease (number INTEGER)")
    before = rows(path)
    with pytest.raises(Exception, match="lease"):
        SqlStore(f"sqlite:///{path}")
    assert rows(path) == before


def test_stores_that_open_at_once_migrate_once(url: str) -> None:
    opened: list[str] = []

    def open_store() -> None:
        SqlStore(url).close()
        opened.append(url)

    threads = [threading.Thread(target=open_store) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [url] * 4


def test_file_that_others_open_too_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite gives up at once, whatever its timeout, where two want the log ahead of the same new file."""
    path = tmp_path / "controller.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as others:
        others.execute("BEGIN IMMEDIATE")
        waits = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: others.execute("ROLLBACK"))
        monkeypatch.setattr(database, "time", waits)
        SqlStore(f"sqlite:///{path}").close()
        assert not others.in_transaction
        assert others.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_newer_database_is_refused(url: str) -> None:
    Database(url).close()
    tamper(url, "UPDATE alembic_version SET version_num = '0099'")
    with pytest.raises(InvalidSpecError, match=r"schema 0099.*install the newer"):
        Database(url)


@pytest.mark.slow
@pytest.mark.parametrize(
    "made",
    [
        "CREATE TABLE outbox (id INTEGER)",
        "CREATE TABLE alembic_version AS SELECT '686269002441' AS version_num",
    ],
    ids=["a-name", "migrations"],
)
def test_database_of_another_program_is_refused_and_left_as_it_is(postgres: Postgres, made: str) -> None:
    """Airflow and MLflow keep their own revision in a table of the same name."""
    url = postgres.database()
    tamper(url, made)
    with pytest.raises(InvalidSpecError, match=r"another program's tables.*of its own"):
        Database(url)
    names = postgres.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database=url.rpartition("/")[2]
    )
    assert len(names) == 1


def test_statements_for_sqlite_are_not_printed(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'controller.db'}")
    with pytest.raises(InvalidSpecError, match="make a copy"):
        migrating.statements(engine)
    engine.dispose()


@pytest.mark.slow
def test_command_migrates_and_prints(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.database()
    environ = {"TAXIWAY_HOME": str(tmp_path), "TAXIWAY_DATABASE_URL": url}
    command = [sys.executable, "-m", "taxiway_serving.controller.main", "migrate"]
    printed = subprocess.run(
        [*command, "--sql"], env=environ, capture_output=True, text=True, timeout=120, check=True
    )
    assert "CREATE TABLE rollouts" in printed.stdout
    engine = open_engine(url)
    assert sa.inspect(engine).get_table_names() == []
    subprocess.run(command, env=environ, check=True, timeout=120)
    assert revision(engine) == migrating.HEAD
    engine.dispose()
