"""Whether the ledger is what was written: its hash chain, computed again by whoever reads it.

The hashes are recomputed here, from what the controller answers; a controller that vouched for itself would prove
nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import merge
from itertools import takewhile
from typing import Any

from taxiway.history.reading import body_of, client_of, pages
from taxiway.settings import Settings
from taxiway_serving.client import Controller
from taxiway_serving.ledger.chain import GENESIS, digest_of

MERGED_PAGE = 1_000
"""Entries of each endpoint that are held at a time while the whole ledger is put together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What the hashes say.

    Attributes:
        entries: How many were read.
        broken_at: Place of the first entry that is not what was written, or does not follow from the one before;
            None when there is none.
        is_whole: Whether every entry of the ledger was read, so that a missing one would have been seen. One
            endpoint's entries are only a part: of these each is checked by itself, and against its neighbour where
            it has one.
        digest: Hash of the last entry: kept elsewhere, it tells later whether the end was cut off.
    """

    entries: int
    broken_at: int | None
    is_whole: bool
    digest: str


def verify(settings: Settings, handle: str | None = None) -> Chain:
    """Read the ledger and compute its hashes again. What is written while this runs is left for the next time.

    Args:
        settings: Where the controller is.
        handle: Only this endpoint's entries; None for the whole ledger, which alone shows that no entry is missing.

    Raises:
        TransportError: If the controller does not answer.
    """
    client = client_of(settings)
    if handle is not None:
        return checked(pages(client, handle))
    handles = [endpoint["handle"] for endpoint in client.endpoints()]
    # Places are given in the order of the commits, so all entries up to one that was seen are there to be read.
    last = max((entry["seq"] for entry in _merged(client, handles)), default=0)
    return checked(takewhile(lambda entry: entry["seq"] <= last, _merged(client, handles)))


def _merged(client: Controller, handles: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the entries of several endpoints in the order of the ledger."""
    return merge(
        *(pages(client, handle, size=MERGED_PAGE) for handle in handles), key=lambda entry: int(entry["seq"])
    )


def checked(entries: Iterable[Mapping[str, Any]]) -> Chain:
    """Return what the hashes of entries say, in the order of the ledger, as the controller's JSON gives them."""
    seq, digest, count, is_whole = 0, GENESIS, 0, True
    for entry in entries:
        is_next = entry["seq"] == seq + 1
        is_whole = is_whole and is_next
        fields: dict[str, Any] = {n: entry[n] for n in ("at_s", "handle", "kind", "actor", "reason")}
        follows = entry["previous"] == digest if is_next else entry["seq"] > seq
        if not follows or entry["digest"] != digest_of(entry["previous"], **fields, body=body_of(entry)):
            return Chain(entries=count, broken_at=entry["seq"], is_whole=is_whole, digest=digest)
        seq, digest, count = entry["seq"], entry["digest"], count + 1
    return Chain(entries=count, broken_at=None, is_whole=is_whole, digest=digest)
