"""Where SQLite and PostgreSQL differ in tables and queries: types, upserts, rounding. No query knows which it is."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

SQLITE: Final = "sqlite"
POSTGRESQL: Final = "postgresql"

BIG: Final = sa.BigInteger().with_variant(sa.Integer(), SQLITE)
"""A whole number of 64 bits. SQLite's INTEGER is one, and only that word makes a key the row's own number."""


def words(length: int) -> sa.types.TypeEngine[str]:
    """Return the type of a text of so many characters, ordered by their numbers.

    PostgreSQL would refuse a longer one, and all that came with it, so there it has no length.
    """
    return sa.String(length).with_variant(sa.Text(collation="C"), POSTGRESQL)


def partial_index(name: str, *columns: sa.Column[Any], where: str) -> sa.Index:
    """Return an index of those rows alone that a condition holds for."""
    condition = sa.text(where)
    return sa.Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


def inserting(connection: Connection, table: sa.Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT that can say what to do where the row is there already."""
    return postgresql.insert(table) if connection.dialect.name == POSTGRESQL else sqlite.insert(table)


def put(
    connection: Connection, table: sa.Table, rows: Iterable[Mapping[str, Any]], *, once: Iterable[str] = ()
) -> None:
    """Store rows, each in the place of the one with its key.

    Args:
        connection: Within a transaction of the caller's.
        table: Where.
        rows: All with the same columns.
        once: Columns that stay as they were stored first.
    """
    given = list(rows)
    if not given:
        return
    statement = inserting(connection, table)
    keys = [column.name for column in table.primary_key]
    rest = {name: statement.excluded[name] for name in given[0] if name not in {*keys, *once}}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=rest), given)


class whole_seconds(sa.sql.functions.GenericFunction[int]):  # noqa: N801  # it reads as SQL's own functions do
    """A time above 0 without its fraction. A cast alone rounds on PostgreSQL, and cuts off on SQLite."""

    type = sa.BigInteger()
    inherit_cache = True


@compiles(whole_seconds)
def _cut(element: whole_seconds, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST(FLOOR({compiler.process(element.clauses, **options)}) AS BIGINT)"


@compiles(whole_seconds, SQLITE)
def _cast(element: whole_seconds, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS INTEGER)"
