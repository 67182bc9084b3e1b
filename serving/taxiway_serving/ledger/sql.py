"""The store on SQLite, by SQLAlchemy. Nothing here decides; it keeps what it is given, durably."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Connection, Row

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.ledger.chain import GENESIS, Entry, digest_of
from taxiway_serving.ledger.engine import open_engine
from taxiway_serving.ledger.outbox_sql import enqueue, make_tables
from taxiway_serving.ledger.store import Change, Endpoint, Fleet, Note, Rollout, Variant, Wish
from taxiway_serving.ledger.upgrade import rollout_from_first_schema
from taxiway_serving.rollout.spec import spec_from_json
from taxiway_serving.rollout.state import HeaderRoute, Status, state_from_json
from taxiway_serving.rollout.steps import plan_from_json, step_to_json
from taxiway_serving.split import Split

SCHEMA = 2
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
    sa.Column("group_name", sa.String(250), nullable=True),
)
_met = sa.Table(
    "met",
    _meta,
    sa.Column("rollout", sa.String(250), primary_key=True),
    sa.Column("unit", sa.String(300), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("bad", sa.Text, nullable=False),
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
_FIND_LIVE = sa.text(
    "CREATE INDEX IF NOT EXISTS ix_entries_live ON entries (handle, seq) WHERE kind = 'live'"
)
"""What was live is asked for by a person who is in a hurry, of a ledger that is mostly looks."""
ATTEMPTS = "attempts"
_ORDER: sa.ColumnClause[int] = sa.literal_column("rollouts.rowid")
"""Who was asked for first, among those of one moment."""


class SqlStore:
    """`Store` on one SQLite file, in WAL mode with full synchronisation."""

    def __init__(self, url: str, *, keeps_deliveries: bool = False) -> None:
        """Open the store and make its tables where they are missing.

        Args:
            url: SQLAlchemy address, `sqlite:///` and a path.
            keeps_deliveries: Whether somebody empties the outbox; else it would only grow, and nothing is put in.

        Raises:
            InvalidSpecError: If it is another database, or tables of a newer Taxiway.
        """
        self._keeps_deliveries = keeps_deliveries
        self._engine = open_engine(url)
        try:
            with self._engine.begin() as connection:
                _check_schema(connection)
                _meta.create_all(connection)
                connection.execute(_FIND_LIVE)
                make_tables(connection)
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
            rollouts = connection.scalars(running.order_by(_rollouts.c.started_at_s, _ORDER)).all()
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
            _mark(connection, change.marks)
            for rollout_id in change.forgotten:
                connection.execute(sa.delete(_met).where(_met.c.rollout == rollout_id))
            if change.cursor is not None:
                _put(connection, _cursors, {"source": ATTEMPTS, "cursor": change.cursor})
            _append(connection, change.notes)
            if self._keeps_deliveries:
                enqueue(connection, change.deliveries)

    def rollout(self, rollout_id: str) -> Rollout | None:
        return self._one_rollout(sa.select(_rollouts.c.body).where(_rollouts.c.id == rollout_id))

    def latest(self, handle: str) -> Rollout | None:
        return next(iter(self.recent(handle, limit=1)), None)

    def recent(self, handle: str, *, limit: int) -> Sequence[Rollout]:
        query = sa.select(_rollouts.c.body).where(_rollouts.c.handle == handle)
        query = query.order_by(_rollouts.c.started_at_s.desc(), _ORDER.desc()).limit(limit)
        with self._engine.connect() as connection:
            return [_rollout(json.loads(body)) for body in connection.scalars(query)]

    def _one_rollout(self, query: sa.Select[Any]) -> Rollout | None:
        with self._engine.connect() as connection:
            body: str | None = connection.scalar(query)
        return _rollout(json.loads(body)) if body else None

    def lived(self, handle: str) -> Sequence[tuple[float, int]]:
        # The kind is written out, or SQLite could not know that its index holds them all.
        query = sa.select(_entries.c.at_s, _entries.c.body).where(
            _entries.c.handle == handle, sa.text("kind = 'live'")
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query.order_by(_entries.c.seq)).all()
        return [(row.at_s, json.loads(row.body)["stable"]) for row in rows]

    def group(self, name: str) -> Sequence[Rollout]:
        query = sa.select(_rollouts.c.body).where(_rollouts.c.group_name == name)
        with self._engine.connect() as connection:
            bodies = connection.scalars(query.order_by(_rollouts.c.started_at_s, _ORDER)).all()
        return [_rollout(json.loads(body)) for body in bodies]

    def marked(self, rollout_id: str, units: Sequence[str]) -> Mapping[str, Mapping[int, frozenset[str]]]:
        found: dict[str, dict[int, frozenset[str]]] = {}
        with self._engine.connect() as connection:
            for start in range(0, len(units), 500):
                query = sa.select(_met.c.unit, _met.c.version, _met.c.bad).where(
                    _met.c.rollout == rollout_id, _met.c.unit.in_(units[start : start + 500])
                )
                for row in connection.execute(query):
                    found.setdefault(row.unit, {})[row.version] = frozenset(filter(None, row.bad.split(",")))
        return found

    def met(self, rollout_id: str, version: int) -> Sequence[str]:
        query = sa.select(_met.c.unit).where(_met.c.rollout == rollout_id, _met.c.version == version)
        with self._engine.connect() as connection:
            return connection.scalars(query.order_by(_met.c.unit)).all()

    def entries(self, handle: str | None, *, after: int, limit: int) -> Sequence[Entry]:
        query = sa.select(_entries).where(_entries.c.seq > after)
        if handle is not None:
            query = query.where(_entries.c.handle == handle)
        with self._engine.connect() as connection:
            return [_entry(row) for row in connection.execute(query.order_by(_entries.c.seq).limit(limit))]


def _check_schema(connection: Connection) -> None:
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if found > SCHEMA:
        fault = f"tables are of schema {found}, this Taxiway knows up to {SCHEMA}; install the newer one"
        raise InvalidSpecError((fault,), "database")
    if found == 1:
        connection.exec_driver_sql("ALTER TABLE rollouts ADD COLUMN group_name VARCHAR(250)")
        connection.exec_driver_sql("DROP TABLE units")
    connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA}")


def _put(connection: Connection, table: sa.Table, row: Mapping[str, Any]) -> None:
    keys = [column.name for column in table.primary_key]
    rest = {name: value for name, value in row.items() if name not in keys}
    connection.execute(insert(table).values(**row).on_conflict_do_update(index_elements=keys, set_=rest))


def _mark(connection: Connection, marks: Sequence[tuple[str, str, int, frozenset[str]]]) -> None:
    if not marks:
        return
    rows = [
        {"rollout": rollout_id, "unit": unit, "version": version, "bad": ",".join(sorted(bad))}
        for rollout_id, unit, version, bad in marks
    ]
    put = insert(_met)
    put = put.on_conflict_do_update(
        index_elements=["rollout", "unit", "version"], set_={"bad": put.excluded.bad}
    )
    connection.execute(put, rows)


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
    names = ("handle", "stable", "previous", "shield", "mirror_pct")
    header = asdict(endpoint.header) if endpoint.header else None
    closed = {str(version): list(units) for version, units in endpoint.closed.items()}
    plain = {name: getattr(endpoint, name) for name in names}
    return json.dumps({**plain, "split": split, "header": header, "closed": closed})


def _endpoint(data: Mapping[str, Any]) -> Endpoint:
    header, closed = data.get("header"), data.get("closed", {})
    return Endpoint(
        **{
            **data,
            "split": Split.from_json(data["split"]) if data["split"] else None,
            "header": HeaderRoute(**header) if header else None,
            "closed": {int(version): tuple(units) for version, units in closed.items()},
        }
    )


def _variant_json(variant: Variant) -> str:
    names = (
        "handle",
        "version",
        "wish",
        "retire_at_s",
        "host",
        "port",
        "asked_at_s",
        "ready_at_s",
        "failed_at_s",
        "replicas",
    )
    return json.dumps({**{name: getattr(variant, name) for name in names}, "spec": dict(variant.spec)})


def _variant(data: Mapping[str, Any]) -> Variant:
    replicas = tuple((host, port) for host, port in data.get("replicas", ()))
    return Variant(**{**data, "wish": Wish(data["wish"]), "replicas": replicas})


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
        "group_name": rollout.spec.group.name if rollout.spec.group else None,
    }


def _rollout(stored: Mapping[str, Any]) -> Rollout:
    data = rollout_from_first_schema(stored)
    return Rollout(
        spec=spec_from_json(data["spec"]),
        plan=plan_from_json(data["plan"]),
        state=state_from_json(data["state"]),
    )
