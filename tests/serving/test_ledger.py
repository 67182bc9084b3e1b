"""The store: what is committed is there after a reopening, whole or not at all, and the ledger shows tampering."""

import json
import random
import string
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.evidence.access_log import AttemptLog
from taxiway_serving.ledger.chain import broken_at
from taxiway_serving.ledger.sql import SqlStore
from taxiway_serving.ledger.store import Change, Endpoint, Note, Rollout, Variant, Wish
from taxiway_serving.rollout.machine import begin
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import Outcome, Status
from taxiway_serving.split import Split
from taxiway_serving.strategies import plan
from tests.serving.conftest import tamper

OpenStore = Callable[[], SqlStore]


@pytest.fixture
def open_store(url: str) -> Iterator[OpenStore]:
    """Open stores on the same file, one after another, and close them all in the end."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(SqlStore(url)))


def _note(number: int) -> Note:
    return Note(
        at_s=float(number), handle="digits", kind="verb", actor="ann", reason="why", body={"n": number}
    )


def _rollout(rollout_id: str = "r1") -> Rollout:
    spec = RolloutSpec(id=rollout_id, handle="digits", version=2)
    return Rollout(spec=spec, plan=plan(spec, 1), state=begin(stable=1, now_s=3.0))


def test_store_gives_back_what_was_committed_after_reopening(open_store: OpenStore) -> None:
    endpoint = Endpoint(handle="digits", stable=1, previous=None, split=Split.of(1, {2: 5}))
    variant = Variant(handle="digits", version=2, spec={"model": "digits/2"}, wish=Wish.LEAVING, port=8080)
    change = Change(endpoints=(endpoint,), variants=(variant,), rollouts=(_rollout(),), cursor="7:99")
    store = open_store()
    store.commit(change)
    store.close()
    fleet = open_store().fleet()
    assert (fleet.endpoints, fleet.variants, fleet.rollouts) == ((endpoint,), (variant,), (_rollout(),))
    assert fleet.cursor == "7:99"


def test_store_drops_ended_rollouts_from_the_fleet_but_keeps_them(open_store: OpenStore) -> None:
    store = open_store()
    rollout = _rollout()
    ended = replace(rollout, state=replace(rollout.state, status=Status.ENDED, outcome=Outcome.ROLLED_BACK))
    store.commit(Change(rollouts=(rollout,)))
    store.commit(Change(rollouts=(ended,)))
    assert store.fleet().rollouts == ()
    assert store.rollout("r1") == ended == store.latest("digits")


def test_store_remembers_units_by_rollout(open_store: OpenStore) -> None:
    store = open_store()
    well, bad = frozenset[str](), frozenset({"errors", "latency"})
    store.commit(
        Change(marks=(("r1", "user:a", 1, well), ("r1", "user:b", 2, bad), ("r2", "user:c", 2, bad)))
    )
    store.commit(Change(marks=(("r1", "user:a", 2, bad),)))
    found = store.marked("r1", ["user:a", "user:b", "user:c"])
    assert found == {"user:a": {1: well, 2: bad}, "user:b": {2: bad}}
    assert store.met("r1", 2) == ["user:a", "user:b"]


def test_user_whose_name_is_longer_than_any_index_takes_is_remembered(
    open_store: OpenStore, tmp_path: Path
) -> None:
    """A client could else hold up every commit by one header of some thousand bytes."""
    row = {**dict.fromkeys(("at_s", "duration_ms", "number"), 1), "status": 200, "version": "2", "pin": ""}
    user = "".join(random.Random(1).choices(string.ascii_letters, k=8000))  # noqa: S311
    row |= {"handle": "digits", "cluster": "digits/2", "request_id": "r", "user": user, "flags": "-"}
    (tmp_path / "attempts.jsonl").write_text(json.dumps(row) + "\n")
    (attempt,) = AttemptLog(tmp_path / "attempts.jsonl").read("").attempts
    store, name = open_store(), "é" * 250
    store.commit(Change(marks=((name, attempt.unit, 2, frozenset()),)))
    assert store.met(name, 2) == [attempt.unit]
    assert attempt.unit.startswith("user:")


def test_ledger_chain_is_whole_over_several_commits(open_store: OpenStore) -> None:
    store = open_store()
    for number in range(5):
        store.commit(Change(notes=(_note(number), _note(number + 10))))
    entries = store.entries(None, after=0, limit=100)
    assert [entry.seq for entry in entries] == list(range(1, 11))
    assert broken_at(entries) is None


@pytest.mark.parametrize(
    "tampering",
    ["UPDATE entries SET reason='other' WHERE seq=3", "DELETE FROM entries WHERE seq=3"],
    ids=["changed", "deleted"],
)
def test_ledger_shows_tampering(url: str, open_store: OpenStore, tampering: str) -> None:
    store = open_store()
    store.commit(Change(notes=tuple(_note(number) for number in range(5))))
    tamper(url, tampering)
    assert broken_at(store.entries(None, after=0, limit=100)) == 3


def test_store_commits_whole_or_not_at_all(open_store: OpenStore) -> None:
    store = open_store()
    bad = Note(at_s=1.0, handle="digits", kind="verb", actor="ann", reason="why", body={"n": object()})
    with pytest.raises(TypeError):
        store.commit(Change(endpoints=(Endpoint(handle="digits"),), notes=(bad,)))
    assert store.fleet().endpoints == ()


def test_note_whose_body_would_hide_a_field_of_its_entry_is_refused() -> None:
    with pytest.raises(ValueError, match="previous"):
        Note(at_s=1.0, handle="digits", kind="live", actor="ann", reason="why", body={"previous": 1})


def test_store_refuses_tables_of_a_newer_version(url: str, open_store: OpenStore) -> None:
    open_store().close()
    tamper(url, "UPDATE alembic_version SET version_num = '0099'")
    with pytest.raises(InvalidSpecError, match="schema 0099"):
        open_store()


def test_store_refuses_another_database_without_showing_its_password() -> None:
    with pytest.raises(InvalidSpecError) as caught:
        SqlStore("mysql://ann:secret@db/taxiway")
    assert "secret" not in str(caught.value)
