"""A database that an earlier Taxiway wrote: it opens, reads back, and its rollouts go on."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from taxiway_serving.ledger.chain import GENESIS, broken_at, digest_of
from taxiway_serving.ledger.sql import SqlStore
from taxiway_serving.ledger.store import Change, Note
from taxiway_serving.rollout.state import Outcome, Status
from taxiway_serving.split import Split
from tests.serving.plane import HANDLE, Plane

FIRST_SCHEMA = """
CREATE TABLE endpoints (handle VARCHAR(64) NOT NULL, body TEXT NOT NULL, PRIMARY KEY (handle));
CREATE TABLE variants (
    handle VARCHAR(64) NOT NULL, version INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (handle, version)
);
CREATE TABLE rollouts (
    id VARCHAR(250) NOT NULL, handle VARCHAR(64) NOT NULL, started_at_s FLOAT NOT NULL, has_ended BOOLEAN NOT NULL,
    body TEXT NOT NULL, PRIMARY KEY (id)
);
CREATE INDEX ix_rollouts_handle ON rollouts (handle);
CREATE INDEX ix_rollouts_has_ended ON rollouts (has_ended);
CREATE TABLE units (
    rollout VARCHAR(250) NOT NULL, unit VARCHAR(300) NOT NULL, is_bad BOOLEAN NOT NULL, PRIMARY KEY (rollout, unit)
);
CREATE TABLE entries (
    seq INTEGER NOT NULL, at_s FLOAT NOT NULL, handle VARCHAR(64) NOT NULL, kind VARCHAR(32) NOT NULL,
    actor VARCHAR(250) NOT NULL, reason TEXT NOT NULL, body TEXT NOT NULL, previous VARCHAR(64) NOT NULL,
    digest VARCHAR(64) NOT NULL, PRIMARY KEY (seq)
);
CREATE INDEX ix_entries_handle ON entries (handle);
CREATE TABLE cursors (source VARCHAR(64) NOT NULL, cursor TEXT NOT NULL, PRIMARY KEY (source));
PRAGMA user_version=1;
"""
NO_UNITS = {"canary": 0, "control": 0, "bad_canary": 0, "bad_control": 0, "fresh": 0, "requests": 0}
STEPS = [
    {"setWeight": 5},
    {"analysis": {"units": 40, "certify": False, "deadline_s": 3600.0}},
    {"setWeight": 100},
]
STATE = {
    "started_at_s": 999_900.0,
    "entered_at_s": 999_990.0,
    "stable": 1,
    "status": "progressing",
    "step": 1,
    "weight_pct": 5.0,
    "outcome": None,
    "reason": "too little evidence: 12 of 40 new units at this step",
    "guards": {"error_ratio": [0.1] * 6, "error_budget": [0.0] * 6},
    "total": {**NO_UNITS, "canary": 12, "control": 200, "fresh": 12, "requests": 12},
    "at_step": {**NO_UNITS, "canary": 12, "fresh": 12},
    "first_bad_at_s": None,
    "rolled_back_at_s": None,
    "ended_at_s": None,
    "unsure_since_s": None,
    "restarts": 0,
    "is_resumed": False,
}
ENDED = {
    **STATE,
    "status": "ended",
    "step": 2,
    "weight_pct": 100.0,
    "outcome": "Promoted",
    "reason": "10 s of 10 s, guards quiet",
    "ended_at_s": 999_800.0,
}


def _rollout(name: str, version: int, state: dict[str, Any]) -> tuple[Any, ...]:
    spec = {
        "id": name,
        "handle": HANDLE,
        "version": version,
        "strategy": {"kind": "canary", "steps": STEPS},
        "availability": 0.99,
        "alpha": 0.01,
        "shield": True,
        "warm_s": 600.0,
        "actor": "ann",
    }
    body = {"spec": spec, "plan": STEPS, "state": state}
    return name, HANDLE, state["started_at_s"], state["status"] == "ended", json.dumps(body)


def _variant(home: Path, version: int) -> tuple[Any, ...]:
    spec = {
        "handle": HANDLE,
        "version": version,
        "model": f"{HANDLE}/{version}",
        "bento_dir": str(home / "bento"),
        "python": str(home / "python"),
        "model_dir": str(home / "model"),
        "environment": {},
        "ready_deadline_s": 60.0,
        "max_rps": None,
    }
    body = {
        "handle": HANDLE,
        "version": version,
        "wish": "running",
        "retire_at_s": None,
        "host": "",
        "port": 0,
    }
    return HANDLE, version, json.dumps({**body, "asked_at_s": 0.0, "spec": spec})


def write_first_schema(home: Path) -> None:
    """Write what the first Taxiway left: version 1 live, version 2 at 5 %, and history."""
    endpoint = {"handle": HANDLE, "stable": 1, "previous": None, "shield": True}
    split = {"stable": 1, "parts": {"2": 500, "1": 9500}}
    look = {"candidate": "YES", "applied": "YES", "evidence": "YES", "interval": NO_UNITS}
    body = {"rollout": "to-2", "version": 2, "verdict": "hold", "step": 1, "look": look}
    head = {"at_s": 999_990.0, "handle": HANDLE, "kind": "decision", "actor": "controller", "reason": "waits"}
    entry = (1, *head.values(), json.dumps(body), GENESIS, digest_of(GENESIS, **head, body=body))  # type: ignore[arg-type]
    with closing(sqlite3.connect(home / "controller.db")) as file, file as connection:
        connection.executescript(FIRST_SCHEMA)
        connection.execute(
            "INSERT INTO endpoints VALUES (?, ?)", (HANDLE, json.dumps({**endpoint, "split": split}))
        )
        connection.executemany(
            "INSERT INTO variants VALUES (?, ?, ?)", [_variant(home, version) for version in (1, 2)]
        )
        rollouts = [_rollout("to-1", 1, ENDED), _rollout("to-2", 2, STATE)]
        connection.executemany("INSERT INTO rollouts VALUES (?, ?, ?, ?, ?)", rollouts)
        connection.execute("INSERT INTO units VALUES ('to-2', 'user:a', 1)")
        connection.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", entry)


@pytest.fixture
def old(tmp_path: Path) -> Iterator[SqlStore]:
    write_first_schema(tmp_path)
    with closing(SqlStore(f"sqlite:///{tmp_path / 'controller.db'}")) as store:
        yield store


def test_database_of_the_first_schema_reads_back(old: SqlStore) -> None:
    fleet = old.fleet()
    endpoint, rollout = fleet.endpoint(HANDLE), fleet.active(HANDLE)
    assert endpoint is not None
    assert rollout is not None
    assert (endpoint.stable, endpoint.split) == (1, Split.of(1, {2: 5}))
    assert (rollout.spec.id, rollout.state.status, rollout.state.step) == ("to-2", Status.PROGRESSING, 1)
    assert rollout.state.weights == {2: 5.0}
    assert rollout.state.totals["2/errors"].canary == 12
    assert [variant.version for variant in fleet.variants] == [1, 2]


def test_ended_rollout_of_the_first_schema_reads_back(old: SqlStore) -> None:
    ended = old.rollout("to-1")
    assert ended is not None
    assert (ended.state.outcome, ended.state.ended_at_s) == (Outcome.PROMOTED, 999_800.0)
    assert {rollout.spec.id for rollout in old.recent(HANDLE, limit=9)} == {"to-1", "to-2"}


def test_ledger_of_the_first_schema_goes_on_in_one_chain(old: SqlStore) -> None:
    note = Note(at_s=1_000_001.0, handle=HANDLE, kind="verb", actor="ann", reason="why")
    old.commit(Change(notes=(note,)))
    entries = old.entries(None, after=0, limit=9)
    assert (len(entries), broken_at(entries)) == (2, None)
    assert old.lived(HANDLE) == []


def test_database_is_upgraded_once(tmp_path: Path) -> None:
    write_first_schema(tmp_path)
    for _ in range(2):
        with closing(SqlStore(f"sqlite:///{tmp_path / 'controller.db'}")) as store:
            assert store.fleet().active(HANDLE) is not None


def test_rollout_of_the_first_schema_goes_on_and_is_promoted(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    write_first_schema(home)
    with closing(Plane(home)) as plane:
        plane.tick(60, requests=100)
        assert (plane.live(HANDLE), plane.state("to-2").outcome) == (2, Outcome.PROMOTED)
        weights = {split.weight_pct(2) for split in _splits(plane)}
        assert weights <= {5.0, 100.0}


def test_rollout_of_the_first_schema_is_rolled_back_by_its_evidence(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    write_first_schema(home)
    with closing(Plane(home)) as plane:
        plane.fails = lambda version, number: version == 2 and number % 2 == 0
        plane.tick(60, requests=100)
        assert (plane.live(HANDLE), plane.state("to-2").outcome) == (1, Outcome.ROLLED_BACK)


def _splits(plane: Plane) -> list[Split]:
    routes = [table.route(HANDLE) for table in plane.router.published]
    return [route.split for route in routes if route and route.split]
