"""Whether the ledger is what was written: its hash chain, checked by whoever reads it.

The hashes are computed here, from what the controller answers, by the ledger's own check; a controller that vouched
for itself would prove nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from taxiway.history.reading import PAGE, client_of
from taxiway.settings import Settings
from taxiway_serving.client import Controller
from taxiway_serving.ledger.chain import GENESIS, HEAD, Entry, broken_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What the hashes say.

    Attributes:
        entries: How many were read: all of them, or those up to the one that breaks the chain.
        broken_at: Place of the first entry that is missing, is not what was written, or does not follow from the one
            before; None when there is none.
        digest: Hash of the last entry that was read: kept elsewhere, it tells later whether the end was cut off.
    """

    entries: int
    broken_at: int | None
    digest: str


def verify(settings: Settings) -> Chain:
    """Read the ledger of all endpoints and compute its hashes again: the chain runs through all of them.

    Args:
        settings: Where the controller is.

    Raises:
        TransportError: If the controller does not answer.
    """
    count, digest = 0, GENESIS

    def counted() -> Iterator[Entry]:
        nonlocal count, digest
        for entry in _whole(client_of(settings)):
            count, digest = count + 1, entry["digest"]
            yield _entry(entry)

    broken = broken_at(counted())
    return Chain(entries=count, broken_at=broken, digest=digest)


def body_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry's body: all that is not the head which every entry has."""
    return {name: value for name, value in told.items() if name not in HEAD}


def _whole(client: Controller) -> Iterator[dict[str, Any]]:
    """Yield every entry of the ledger in order, one page of them in memory at a time."""
    after = 0
    while page := client.whole_ledger(after=after, limit=PAGE):
        yield from page
        after = page[-1]["seq"]


def _entry(told: Mapping[str, Any]) -> Entry:
    return Entry(**{name: told[name] for name in HEAD}, body=body_of(told))
