"""The hash chain that makes the ledger tamper-evident. Pure."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

GENESIS = "0" * 64
HEAD = ("seq", "at_s", "handle", "kind", "actor", "reason", "previous", "digest")
"""The fields of an entry that stand beside its body's; no body may have them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of history. Never changed, never deleted.

    Attributes:
        seq: Place in the ledger, from 1.
        at_s: Seconds since the epoch.
        handle: Endpoint that it is about.
        kind: `deployed`, `rollout`, `decision`, `split`, `verb`, `stopped`.
        actor: Who: a person, a DAG run, or `controller`.
        reason: Why, in words.
        body: Evidence and values, plain JSON.
        previous: Hash of the entry before.
        digest: Hash of this one.
    """

    seq: int
    at_s: float
    handle: str
    kind: str
    actor: str
    reason: str
    body: Mapping[str, Any]
    previous: str
    digest: str

    def to_json(self) -> dict[str, Any]:
        """Return the entry as plain JSON values, the body's keys beside the others."""
        head = {name: getattr(self, name) for name in ("seq", "at_s", "handle", "kind", "actor", "reason")}
        return {**self.body, **head, "previous": self.previous, "digest": self.digest}


def digest_of(
    previous: str, *, at_s: float, handle: str, kind: str, actor: str, reason: str, body: Mapping[str, Any]
) -> str:
    """Return the hash of an entry: SHA-256 over the hash before and the canonical JSON of all its fields."""
    content = json.dumps([at_s, handle, kind, actor, reason, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{content}".encode()).hexdigest()


def broken_at(entries: Iterable[Entry]) -> int | None:
    """Return the place of the first entry that does not follow from the one before, or None if the chain is whole.

    Args:
        entries: The whole ledger in order, from the first entry.
    """
    previous = GENESIS
    for place, entry in enumerate(entries, 1):
        fields = {
            name: getattr(entry, name) for name in ("at_s", "handle", "kind", "actor", "reason", "body")
        }
        if entry.seq != place or entry.previous != previous or entry.digest != digest_of(previous, **fields):
            return place
        previous = entry.digest
    return None
