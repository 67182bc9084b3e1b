"""Bringing a database to today's tables: made at once where there are none, by Alembic's migrations where there are.

Whoever comes first does it, under a lock that others wait for. Databases from before Alembic kept a number in SQLite's
`user_version`: it says which migration they stand at. What a migration does is in `migrations/versions/`.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.ledger.dialects import POSTGRESQL, SQLITE
from taxiway_serving.ledger.reward_tables import exposures

if TYPE_CHECKING:
    from alembic.config import Config

HEAD: Final = "0003"
"""The migration that the tables of `tables.py` and `reward_tables.py` stand at."""
BEFORE_ALEMBIC: Final = {1: "0001", 2: "0002"}
"""What SQLite's `user_version` said, and the migration that it is."""
META: Final = exposures.metadata
_LOCK: Final = 0x7461786977617900
_REVISION: Final = sa.table("alembic_version", sa.column("version_num", sa.String))


def bring_up_to_date(engine: Engine) -> None:
    """Make the tables, or upgrade them; where they are today's, look and do nothing.

    Raises:
        InvalidSpecError: If a newer Taxiway has been here, or another program.
    """
    with engine.connect() as connection:
        if _revision(connection) == HEAD:
            return
    with _locked(engine) as connection:
        found = _revision(connection)
        if found is not None:
            _check_known(found)
        elif _is_empty(connection):
            META.create_all(connection)
            _alembic("stamp", connection, HEAD)
        elif (before := _revision_before_alembic(connection)) is not None:
            _alembic("stamp", connection, before)
        elif engine.dialect.name == POSTGRESQL:
            # No Taxiway was on PostgreSQL before Alembic.
            raise _foreign(", ".join(sorted(_own_names(connection))))
        _alembic("upgrade", connection, HEAD)
        if engine.dialect.name == SQLITE:
            # A Taxiway from before Alembic looks here, and refuses what it does not know.
            connection.exec_driver_sql(f"PRAGMA user_version={int(HEAD)}")


def statements(engine: Engine) -> str:
    """Return the SQL that would bring the tables up to date, and run nothing.

    Raises:
        InvalidSpecError: If it is SQLite, whose tables are copied for some changes, or a newer Taxiway has been here.
    """
    if engine.dialect.name == SQLITE:
        fault = "SQLite's statements depend on what is in the file; make a copy of it, and migrate that"
        raise InvalidSpecError((fault,), "database")
    from alembic import command

    with engine.connect() as connection:
        found = _revision(connection)
        if found is not None:
            _check_known(found)
        told = io.StringIO()
        configuration = _configuration(connection)
        configuration.output_buffer = told
        command.upgrade(configuration, f"{found or 'base'}:head", sql=True)
    return told.getvalue()


def _alembic(verb: str, connection: Connection, revision: str) -> None:
    from alembic import command

    getattr(command, verb)(_configuration(connection), revision)


def _configuration(connection: Connection) -> "Config":
    from alembic.config import Config

    found = Config()
    place = resources.files("taxiway_serving.ledger") / "migrations"
    found.set_main_option("script_location", str(place).replace("%", "%%"))
    found.attributes["connection"] = connection
    return found


@contextmanager
def _locked(engine: Engine) -> Iterator[Connection]:
    """Begin a transaction that no other migration runs beside, and that takes the tables' changes back if it fails."""
    with engine.connect() as connection:
        if engine.dialect.name == POSTGRESQL:
            with connection.begin():
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
                yield connection
            return
        # Python's driver would begin with the first row that is written, and leave changes of tables out of it.
        driver: Any = connection.connection.driver_connection
        before, driver.isolation_level = driver.isolation_level, None
        try:
            with connection.begin():
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
        finally:
            driver.isolation_level = before


def _revision(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table(_REVISION.name):
        return None
    return connection.scalar(sa.select(_REVISION.c.version_num))


def _is_empty(connection: Connection) -> bool:
    return not _own_names(connection)


def _own_names(connection: Connection) -> set[str]:
    """Return the names of tables that Taxiway would make, and that are there."""
    return set(META.tables) & set(sa.inspect(connection).get_table_names())


def _revision_before_alembic(connection: Connection) -> str | None:
    """Return the migration that a database stands at which Alembic has not seen; None if it is before the first.

    The stores of rewards and times kept no number: a file that has their tables alone has none of the first schema's.
    """
    if connection.dialect.name != SQLITE:
        return None
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if found > max(BEFORE_ALEMBIC):
        raise _newer(f"schema {found}")
    return BEFORE_ALEMBIC.get(found) if sa.inspect(connection).has_table("entries") else None


def _check_known(found: str) -> None:
    if not found.isdecimal() or len(found) != len(HEAD):
        raise _foreign(f"{_REVISION.name}, which says {found}")
    if int(found) > int(HEAD):
        raise _newer(f"schema {found}")


def _foreign(found: str) -> InvalidSpecError:
    fault = f"another program's tables are there: {found}; give Taxiway a database of its own"
    return InvalidSpecError((fault,), "database")


def _newer(found: str) -> InvalidSpecError:
    fault = f"tables are of {found}, this Taxiway knows up to {HEAD}; install the newer one"
    return InvalidSpecError((fault,), "database")
