"""How a store opens its SQLite file: durably, and with a refusal in words. No table is known here."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine, make_url

from taxiway_serving.errors import InvalidSpecError


def open_engine(url: str) -> Engine:
    """Return an engine whose commits survive a crash of process and machine.

    Args:
        url: SQLAlchemy address, `sqlite:///` and a path; its folder is made.

    Raises:
        InvalidSpecError: If it is another database.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        shown = parsed.render_as_string(hide_password=True)
        raise InvalidSpecError((f"got {shown}; this version keeps its state in sqlite:///FILE",), "database")
    Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": 20})
    sa.event.listen(engine, "connect", _make_durable)
    return engine


def _make_durable(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
