"""The hash chain as whoever reads the ledger checks it: over what a controller answers that somebody has got at."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from taxiway.history import verify
from taxiway.settings import Settings
from taxiway_serving.ledger.chain import GENESIS, Entry, digest_of
from tests.library.scripted import Script, serving

PAGE = "GET /v1/ledger?after={after}&limit=10000"
Entries = list[dict[str, Any]]


@pytest.fixture
def script() -> Iterator[Script]:
    with serving() as made:
        yield made


@pytest.fixture
def settings(script: Script) -> Settings:
    return replace(Settings.from_environment({}), controller_url=script.url)


def written(*handles: str) -> Entries:
    """Return a ledger as the controller's JSON gives it, an entry for each handle."""
    entries: Entries = []
    previous = GENESIS
    for seq, handle in enumerate(handles, 1):
        fields: dict[str, Any] = {"at_s": float(seq), "handle": handle, "kind": "verb", "actor": "ann"}
        fields |= {"reason": "so", "body": {"version": seq}}
        entry = Entry(seq=seq, previous=previous, digest=digest_of(previous, **fields), **fields)
        entries.append(entry.to_json())
        previous = entry.digest
    return entries


def tell(script: Script, *pages: Entries) -> None:
    """Let the controller answer with these pages, and then with nothing more."""
    after = 0
    for page in pages:
        script.by_path[PAGE.format(after=after)] = (200, {"entries": page})
        after = page[-1]["seq"] if page else after
    script.by_path.setdefault(PAGE.format(after=after), (200, {"entries": []}))


def test_chain_of_a_whole_ledger_holds_over_its_pages(script: Script, settings: Settings) -> None:
    entries = written("a", "b", "a")
    tell(script, entries[:2], entries[2:])
    chain = verify(settings)
    assert (chain.entries, chain.broken_at, chain.digest) == (3, None, entries[-1]["digest"])


def test_chain_of_an_empty_ledger_holds(script: Script, settings: Settings) -> None:
    tell(script, [])
    chain = verify(settings)
    assert (chain.entries, chain.broken_at, chain.digest) == (0, None, GENESIS)


@pytest.mark.parametrize(
    "field", ["at_s", "handle", "kind", "actor", "reason", "version", "previous", "digest"]
)
def test_chain_finds_a_changed_entry(field: str, script: Script, settings: Settings) -> None:
    entries = written("a", "b", "a")
    value = entries[1][field]
    entries[1][field] = value + 1 if isinstance(value, int | float) else value[::-1] + "x"
    tell(script, entries)
    assert verify(settings).broken_at == 2


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda told: [told[0], *written("x", "b", "a")[1:]], 2),
        (lambda told: [told[1], told[0], told[2]], 1),
        (lambda told: [told[0], told[2]], 2),
        (lambda told: told[1:], 1),
    ],
    ids=["written anew", "in another order", "one missing", "the first missing"],
)
def test_chain_finds_what_was_done_to_a_ledger(
    change: Callable[[Entries], Entries], place: int, script: Script, settings: Settings
) -> None:
    tell(script, change(written("a", "b", "a")))
    assert verify(settings).broken_at == place
