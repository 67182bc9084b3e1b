"""The store on SQLite, by SQLAlchemy. Nothing here decides; it keeps what it is given, durably."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Connection, Row, make_url

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.ledger.chain import GENESIS, Entry, digest_of
from taxiway_serving.ledger.store import Change, Endpoint, Fleet, Note, Rollout, Variant, Wish
from taxiway_serving.rollout.state import Status, state_from_json
from taxiway_serving.rollout.steps import plan_from_json, spec_from_json, step_to_json
from taxiway_serving.split import Split

SCHEMA = 1
"""Version of the tables, kept in SQLite's `user_version`."""

_meta = sa.MetaData()
_endpoints = sa.Table(
    "endpoints",
    _meta,
    sa.Column("handle", sa.String(64), primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)
_variants = sa.Table(
    "variants",
    _meta,
    sa.Column("handle", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)
_rollouts = sa.Table(
    "rollouts",
    _meta,
    sa.Column("id", sa.String(250), primary_key=True),
    sa.Column("handle", sa.String(64), nullable=False, index=True),
    sa.Column("started_at_s", sa.Float, nullable=False),
    sa.Column("has_ended", sa.Boolean, nullable=False, index=True),
    sa.Column("body", sa.Text, nullable=False),
)
_units = sa.Table(
    "units",
    _meta,
    sa.Column("rollout", sa.String(250), primary_key=True),
    sa.Column("unit", sa.String(300), primary_key=True),
    sa.Column("is_bad", sa.Boolean, nullable=False),
)
_entries = sa.Table(
    "entries",
    _meta,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("at_s", sa.Float, nullable=False),
    sa.Column("handle", sa.String(64), nullable=False, index=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("actor", sa.String(250), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
)
_cursors = sa.Table(
    "cursors",
    _meta,
    sa.Column("source", sa.String(64), primary_key=True),
    sa.Column("cursor", sa.Text, nullable=False),
)
ATTEMPTS = "attempts"


class SqlStore:
    """`Store` on one SQLite file, in WAL mode with full synchronisation."""

    def __init__(self, url: str) -> None:
        """Open the store and make its tables where they are missing.

        Args:
            url: SQLAlchemy address, `sqlite:///` and a path.

        Raises:
            InvalidSpecError: If it is another database, or tables of a newer Taxiway.
        """
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite" or not parsed.database:
            shown = parsed.render_as_string(hide_password=True)
            raise InvalidSpecError(
                (f"got {shown}; this version keeps its state in sqlite:///FILE",), "database"
            )
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        self._engine = sa.create_engine(url, connect_args={"timeout": 20})
        sa.event.listen(self._engine, "connect", _make_durable)
        try:
            with self._engine.begin() as connection:
                _check_schema(connection)
                _meta.create_all(connection)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the file back."""
        self._engine.dispose()

    def fleet(self) -> Fleet:
        with self._engine.connect() as connection:
            endpoints = connection.scalars(sa.select(_endpoints.c.body)).all()
            variants = connection.scalars(sa.select(_variants.c.body)).all()
            running = sa.select(_rollouts.c.body).where(_rollouts.c.has_ended.is_(False))
            rollouts = connection.scalars(running.order_by(_rollouts.c.started_at_s)).all()
            cursor = connection.scalar(sa.select(_cursors.c.cursor).where(_cursors.c.source == ATTEMPTS))
        return Fleet(
            endpoints=tuple(_endpoint(json.loads(body)) for body in endpoints),
            variants=tuple(_variant(json.loads(body)) for body in variants),
            rollouts=tuple(_rollout(json.loads(body)) for body in rollouts),
            cursor=cursor or "",
        )

    def commit(self, change: Change) -> None:
        with self._engine.begin() as connection:
            for endpoint in change.endpoints:
                _put(connection, _endpoints, {"handle": endpoint.handle, "body": _endpoint_json(endpoint)})
            for variant in change.variants:
                key = {"handle": variant.handle, "version": variant.version}
                _put(connection, _variants, {**key, "body": _variant_json(variant)})
            for rollout in change.rollouts:
                _put(connection, _rollouts, _rollout_row(rollout))
            for rollout_id, unit, is_bad in change.marks:
                _put(connection, _units, {"rollout": rollout_id, "unit": unit, "is_bad": is_bad})
            for rollout_id in change.forgotten:
                connection.execute(sa.delete(_units).where(_units.c.rollout == rollout_id))
            if change.cursor is not None:
                _put(connection, _cursors, {"source": ATTEMPTS, "cursor": change.cursor})
            _append(connection, change.notes)

    def rollout(self, rollout_id: str) -> Rollout | None:
        return self._one_rollout(sa.select(_rollouts.c.body).where(_rollouts.c.id == rollout_id))

    def latest(self, handle: str) -> Rollout | None:
        query = sa.select(_rollouts.c.body).where(_rollouts.c.handle == handle)
        return self._one_rollout(query.order_by(_rollouts.c.started_at_s.desc()).limit(1))

    def _one_rollout(self, query: sa.Select[Any]) -> Rollout | None:
        with self._engine.connect() as connection:
            body: str | None = connection.scalar(query)
        return _rollout(json.loads(body)) if body else None

    def marked(self, rollout_id: str, units: Sequence[str]) -> Mapping[str, bool]:
        found: dict[str, bool] = {}
        with self._engine.connect() as connection:
            for start in range(0, len(units), 500):
                query = sa.select(_units.c.unit, _units.c.is_bad).where(
                    _units.c.rollout == rollout_id, _units.c.unit.in_(units[start : start + 500])
                )
                found.update((row.unit, row.is_bad) for row in connection.execute(query))
        return found

    def entries(self, handle: str | None, *, after: int, limit: int) -> Sequence[Entry]:
        query = sa.select(_entries).where(_entries.c.seq > after)
        if handle is not None:
            query = query.where(_entries.c.handle == handle)
        with self._engine.connect() as connection:
            return [_entry(row) for row in connection.execute(query.order_by(_entries.c.seq).limit(limit))]


def _make_durable(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _check_schema(connection: Connection) -> None:
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if found > SCHEMA:
        fault = f"tables are of schema {found}, this Taxiway knows up to {SCHEMA}; install the newer one"
        raise InvalidSpecError((fault,), "database")
    connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA}")


def _put(connection: Connection, table: sa.Table, row: Mapping[str, Any]) -> None:
    keys = [column.name for column in table.primary_key]
    rest = {name: value for name, value in row.items() if name not in keys}
    connection.execute(insert(table).values(**row).on_conflict_do_update(index_elements=keys, set_=rest))


def _append(connection: Connection, notes: Sequence[Note]) -> None:
    if not notes:
        return
    last = connection.execute(
        sa.select(_entries.c.seq, _entries.c.digest).order_by(_entries.c.seq.desc()).limit(1)
    ).first()
    seq, previous = (last.seq, last.digest) if last else (0, GENESIS)
    for note in notes:
        seq += 1
        fields: dict[str, Any] = {
            name: getattr(note, name) for name in ("at_s", "handle", "kind", "actor", "reason")
        }
        digest = digest_of(previous, **fields, body=note.body)
        row = {**fields, "seq": seq, "body": json.dumps(note.body), "previous": previous, "digest": digest}
        connection.execute(sa.insert(_entries).values(**row))
        previous = digest


def _entry(row: Row[Any]) -> Entry:
    names = ("seq", "at_s", "handle", "kind", "actor", "reason", "previous", "digest")
    return Entry(body=json.loads(row.body), **{name: getattr(row, name) for name in names})


def _endpoint_json(endpoint: Endpoint) -> str:
    split = endpoint.split.to_json() if endpoint.split else None
    names = ("handle", "stable", "previous", "shield")
    return json.dumps({**{name: getattr(endpoint, name) for name in names}, "split": split})


def _endpoint(data: Mapping[str, Any]) -> Endpoint:
    return Endpoint(**{**data, "split": Split.from_json(data["split"]) if data["split"] else None})


def _variant_json(variant: Variant) -> str:
    names = ("handle", "version", "wish", "retire_at_s", "host", "port", "asked_at_s")
    return json.dumps({**{name: getattr(variant, name) for name in names}, "spec": dict(variant.spec)})


def _variant(data: Mapping[str, Any]) -> Variant:
    return Variant(**{**data, "wish": Wish(data["wish"])})


def _rollout_row(rollout: Rollout) -> dict[str, Any]:
    body = {
        "spec": rollout.spec.to_json(),
        "plan": [step_to_json(step) for step in rollout.plan],
        "state": rollout.state.to_json(),
    }
    return {
        "id": rollout.spec.id,
        "handle": rollout.spec.handle,
        "started_at_s": rollout.state.started_at_s,
        "has_ended": rollout.state.status is Status.ENDED,
        "body": json.dumps(body),
    }


def _rollout(data: Mapping[str, Any]) -> Rollout:
    return Rollout(
        spec=spec_from_json(data["spec"]),
        plan=plan_from_json(data["plan"]),
        state=state_from_json(data["state"]),
    )
