"""The hash chain as whoever reads the ledger computes it again."""

from typing import Any

import pytest

from taxiway.history.chain import checked
from taxiway_serving.ledger.chain import GENESIS, Entry, digest_of


def written(*handles: str) -> list[dict[str, Any]]:
    """Return a ledger as the controller's JSON gives it, an entry for each handle."""
    entries: list[dict[str, Any]] = []
    previous = GENESIS
    for seq, handle in enumerate(handles, 1):
        fields: dict[str, Any] = {"at_s": float(seq), "handle": handle, "kind": "verb", "actor": "ann"}
        fields |= {"reason": "so", "body": {"version": seq}}
        entry = Entry(seq=seq, previous=previous, digest=digest_of(previous, **fields), **fields)
        entries.append(entry.to_json())
        previous = entry.digest
    return entries


def test_chain_of_a_whole_ledger_holds() -> None:
    entries = written("a", "b", "a")
    chain = checked(entries)
    assert (chain.entries, chain.broken_at, chain.is_whole) == (3, None, True)
    assert chain.digest == entries[-1]["digest"]


def test_chain_of_an_empty_ledger_holds() -> None:
    assert checked([]).broken_at is None


@pytest.mark.parametrize(
    "field", ["at_s", "handle", "kind", "actor", "reason", "version", "previous", "digest"]
)
def test_chain_finds_a_changed_entry(field: str) -> None:
    entries = written("a", "b", "a")
    value = entries[1][field]
    entries[1][field] = value + 1 if isinstance(value, int | float) else value[::-1] + "x"
    assert checked(entries).broken_at == 2


def test_chain_finds_an_entry_that_was_written_anew() -> None:
    entries, other = written("a", "b", "a"), written("x", "b", "a")
    assert checked([entries[0], *other[1:]]).broken_at == 2


def test_chain_finds_entries_in_another_order() -> None:
    first, second, third = written("a", "b", "a")
    assert checked([second, first, third]).broken_at == 1


def test_chain_tells_that_an_entry_is_missing() -> None:
    first, _, third = written("a", "b", "a")
    chain = checked([first, third])
    assert (chain.broken_at, chain.is_whole) == (None, False)


def test_chain_of_one_endpoint_is_a_part() -> None:
    chain = checked([entry for entry in written("a", "b", "a") if entry["handle"] == "a"])
    assert (chain.broken_at, chain.is_whole) == (None, False)
