"""The store on SQLite or PostgreSQL, by SQLAlchemy. Nothing here decides; it keeps what it is given, durably."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from taxiway_serving.ledger import tables
from taxiway_serving.ledger.chain import GENESIS, Entry, digest_of
from taxiway_serving.ledger.database import Database
from taxiway_serving.ledger.dialects import put
from taxiway_serving.ledger.outbox_sql import enqueue
from taxiway_serving.ledger.parsed import Parsed
from taxiway_serving.ledger.store import Change, Endpoint, Fleet, Note, Rollout, Variant, Wish
from taxiway_serving.ledger.term import Term
from taxiway_serving.ledger.upgrade import rollout_from_first_schema
from taxiway_serving.rollout.plans import plan_from_json, step_to_json
from taxiway_serving.rollout.spec import spec_from_json
from taxiway_serving.rollout.state import HeaderRoute, Status, state_from_json
from taxiway_serving.split import Split

ATTEMPTS = "attempts"


class SqlStore:
    """`Store` on one database: a SQLite file, in WAL mode with full synchronisation, or a PostgreSQL."""

    def __init__(self, url: str, *, keeps_deliveries: bool = False, term: Term | None = None) -> None:
        """Open the store, and bring its tables up to date.

        Args:
            url: SQLAlchemy address, as `Database` takes it.
            keeps_deliveries: Whether somebody empties the outbox; else it would only grow, and nothing is put in.
            term: In which one commits; None commits whenever it likes.

        Raises:
            InvalidSpecError: If it is another database, or tables of a newer Taxiway.
            TransportError: If it cannot be reached.
        """
        self._keeps_deliveries = keeps_deliveries
        self._endpoints, self._variants, self._rollouts = (
            Parsed(_endpoint),
            Parsed(_variant),
            Parsed(_rollout),
        )
        self._database = Database(url, term=term)

    def close(self) -> None:
        """Give file and connections back."""
        self._database.close()

    def fleet(self) -> Fleet:
        with self._database.reading() as connection:
            endpoints = connection.scalars(_in_order(tables.endpoints)).all()
            variants = connection.scalars(_in_order(tables.variants)).all()
            running = sa.select(tables.rollouts.c.body).where(tables.rollouts.c.has_ended.is_(False))
            rollouts = connection.scalars(
                running.order_by(tables.rollouts.c.started_at_s, tables.rollouts.c.place)
            ).all()
            cursor = connection.scalar(
                sa.select(tables.cursors.c.cursor).where(tables.cursors.c.source == ATTEMPTS)
            )
        return Fleet(
            endpoints=self._endpoints.of(endpoints),
            variants=self._variants.of(variants),
            rollouts=self._rollouts.of(rollouts),
            cursor=cursor or "",
        )

    def commit(self, change: Change) -> None:
        with self._database.writing() as connection:
            put(connection, tables.endpoints, [_endpoint_row(endpoint) for endpoint in change.endpoints])
            put(connection, tables.variants, [_variant_row(variant) for variant in change.variants])
            _put_rollouts(connection, change.rollouts)
            put(connection, tables.met, [_mark_row(*mark) for mark in change.marks])
            for rollout_id in change.forgotten:
                connection.execute(sa.delete(tables.met).where(tables.met.c.rollout == rollout_id))
            if change.cursor is not None:
                put(connection, tables.cursors, [{"source": ATTEMPTS, "cursor": change.cursor}])
            _append(connection, change.notes)
            if self._keeps_deliveries:
                enqueue(connection, change.deliveries)

    def rollout(self, rollout_id: str) -> Rollout | None:
        return self._one_rollout(sa.select(tables.rollouts.c.body).where(tables.rollouts.c.id == rollout_id))

    def latest(self, handle: str) -> Rollout | None:
        return next(iter(self.recent(handle, limit=1)), None)

    def recent(self, handle: str, *, limit: int) -> Sequence[Rollout]:
        query = sa.select(tables.rollouts.c.body).where(tables.rollouts.c.handle == handle)
        query = query.order_by(tables.rollouts.c.started_at_s.desc(), tables.rollouts.c.place.desc()).limit(
            limit
        )
        with self._database.reading() as connection:
            return [_rollout(json.loads(body)) for body in connection.scalars(query)]

    def _one_rollout(self, query: sa.Select[Any]) -> Rollout | None:
        with self._database.reading() as connection:
            body: str | None = connection.scalar(query)
        return _rollout(json.loads(body)) if body else None

    def lived(self, handle: str) -> Sequence[tuple[float, int]]:
        # The kind is written out, or no database could know that its index holds them all.
        query = sa.select(tables.entries.c.at_s, tables.entries.c.body).where(
            tables.entries.c.handle == handle, sa.text("kind = 'live'")
        )
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(tables.entries.c.seq)).all()
        return [(row.at_s, json.loads(row.body)["stable"]) for row in rows]

    def group(self, name: str) -> Sequence[Rollout]:
        query = sa.select(tables.rollouts.c.body).where(tables.rollouts.c.group_name == name)
        with self._database.reading() as connection:
            bodies = connection.scalars(
                query.order_by(tables.rollouts.c.started_at_s, tables.rollouts.c.place)
            ).all()
        return [_rollout(json.loads(body)) for body in bodies]

    def marked(self, rollout_id: str, units: Sequence[str]) -> Mapping[str, Mapping[int, frozenset[str]]]:
        found: dict[str, dict[int, frozenset[str]]] = {}
        with self._database.reading() as connection:
            for start in range(0, len(units), 500):
                query = sa.select(tables.met.c.unit, tables.met.c.version, tables.met.c.bad).where(
                    tables.met.c.rollout == rollout_id, tables.met.c.unit.in_(units[start : start + 500])
                )
                for row in connection.execute(query):
                    found.setdefault(row.unit, {})[row.version] = frozenset(filter(None, row.bad.split(",")))
        return found

    def met(self, rollout_id: str, version: int) -> Sequence[str]:
        query = sa.select(tables.met.c.unit).where(
            tables.met.c.rollout == rollout_id, tables.met.c.version == version
        )
        with self._database.reading() as connection:
            return connection.scalars(query.order_by(tables.met.c.unit)).all()

    def entries(self, handle: str | None, *, after: int, limit: int) -> Sequence[Entry]:
        query = sa.select(tables.entries).where(tables.entries.c.seq > after)
        if handle is not None:
            query = query.where(tables.entries.c.handle == handle)
        with self._database.reading() as connection:
            return [
                _entry(row) for row in connection.execute(query.order_by(tables.entries.c.seq).limit(limit))
            ]


def _in_order(table: sa.Table) -> sa.Select[Any]:
    """Return what selects all bodies of a table, by their keys: PostgreSQL has no order of its own."""
    return sa.select(table.c.body).order_by(*table.primary_key)


def _put_rollouts(connection: Connection, rollouts: Sequence[Rollout]) -> None:
    """Store rollouts; new ones behind all that were asked for before, in their order."""
    if not rollouts:
        return
    last = connection.scalar(sa.select(sa.func.max(tables.rollouts.c.place))) or 0
    rows = [{**_rollout_row(rollout), "place": place} for place, rollout in enumerate(rollouts, last + 1)]
    put(connection, tables.rollouts, rows, once=("place",))


def _mark_row(rollout_id: str, unit: str, version: int, bad: frozenset[str]) -> dict[str, Any]:
    return {"rollout": rollout_id, "unit": unit, "version": version, "bad": ",".join(sorted(bad))}


def _append(connection: Connection, notes: Sequence[Note]) -> None:
    if not notes:
        return
    last = connection.execute(
        sa.select(tables.entries.c.seq, tables.entries.c.digest)
        .order_by(tables.entries.c.seq.desc())
        .limit(1)
    ).first()
    seq, previous = (last.seq, last.digest) if last else (0, GENESIS)
    rows = []
    for place, note in enumerate(notes, seq + 1):
        fields: dict[str, Any] = {
            name: getattr(note, name) for name in ("at_s", "handle", "kind", "actor", "reason")
        }
        digest = digest_of(previous, **fields, body=note.body)
        own = {"seq": place, "body": json.dumps(note.body), "previous": previous, "digest": digest}
        rows.append({**fields, **own})
        previous = digest
    connection.execute(sa.insert(tables.entries), rows)


def _entry(row: Row[Any]) -> Entry:
    names = ("seq", "at_s", "handle", "kind", "actor", "reason", "previous", "digest")
    return Entry(body=json.loads(row.body), **{name: getattr(row, name) for name in names})


def _endpoint_row(endpoint: Endpoint) -> dict[str, Any]:
    split = endpoint.split.to_json() if endpoint.split else None
    names = ("handle", "stable", "previous", "shield", "mirror_pct")
    header = asdict(endpoint.header) if endpoint.header else None
    closed = {str(version): list(units) for version, units in endpoint.closed.items()}
    plain = {name: getattr(endpoint, name) for name in names}
    body = json.dumps({**plain, "split": split, "header": header, "closed": closed})
    return {"handle": endpoint.handle, "body": body}


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


def _variant_row(variant: Variant) -> dict[str, Any]:
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
        "scaled_to",
    )
    body = json.dumps({**{name: getattr(variant, name) for name in names}, "spec": dict(variant.spec)})
    return {"handle": variant.handle, "version": variant.version, "body": body}


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
