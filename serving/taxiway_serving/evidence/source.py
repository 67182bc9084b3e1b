"""The Protocol of where evidence comes from, and its values. No file or network is touched here."""

from dataclasses import dataclass
from typing import Protocol

from taxiway_serving.answers import Answer
from taxiway_serving.names import Via


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt of the gateway on a variant. A shielded request makes two: one on the canary, one on stable.

    Attributes:
        at_s: When the attempt began, in seconds since the epoch.
        handle: The handle.
        request_id: The request's id, the same for all its attempts and in its answer.
        unit: Who asked: `user:<x-user-id>`, else `cookie:<taxiway_uid>`, else `request:<first 13 of the request id>`.
            Evidence counts units, not requests.
        assigned: The version that was chosen for the unit, also on an attempt that stable answered for it.
        answered: The version that was tried, or None if none could be.
        status: HTTP status of the attempt; 0 if there was no answer.
        flags: Envoy's response flags, such as `UF` (no connection) or `UT` (no answer in time); "" for none.
        duration_ms: From its beginning until its end, with the time that the client took to send and to receive.
        number: 1 for the first attempt, 2 for the retry on stable.
        via: Who chose the version. `pin` and `header` are the client's own choice, which can be compared with nothing;
            a `member` was left to chance when it first came.
        answer_ms: From the last byte of the request until the first of the answer: the version's own time. None if
            there was no answer.
        keeps_contract: Whether the answer keeps the contract, as the service that gave it says; UNKNOWN if it does not
            say.
    """

    at_s: float
    handle: str
    request_id: str
    unit: str
    assigned: int
    answered: int | None
    status: int
    flags: str
    duration_ms: float
    number: int
    via: Via = "split"
    answer_ms: float | None = None
    keeps_contract: Answer = Answer.UNKNOWN

    @property
    def latency_ms(self) -> float:
        """The version's own time; where it gave no answer, the time until it was given up."""
        return self.duration_ms if self.answer_ms is None else self.answer_ms

    @property
    def pinned(self) -> bool:
        """Whether a tester chose the version. Such an attempt is no evidence."""
        return self.via == "pin"

    @property
    def is_overflow(self) -> bool:
        """Whether Envoy's circuit breaker refused it: this machine had no room, whichever version was asked."""
        return "UO" in self.flags.split(",")

    @property
    def is_error(self) -> bool:
        """Whether the variant failed: no answer at all, or a 5xx. A 4xx and hanging up early are the client's."""
        return not self.is_abandoned and (self.status == 0 or self.status >= 500)

    @property
    def is_abandoned(self) -> bool:
        """Whether the client hung up before an answer came: nobody knows what it would have been.

        Envoy gives every failure of the upstream a flag (UF, UC, UT …) and this one none.
        """
        return self.status == 0 and self.flags in ("", "DC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a source had to say since a cursor.

    Attributes:
        attempts: In the order in which they ended.
        cursor: Where the next read goes on.
        is_complete: False if attempts between the two cursors are missing or unreadable. What is missing is unknown,
            not zero.
        has_more: Whether more is waiting already: read again before judging.
        broken: Lines that could not be read.
    """

    attempts: tuple[Attempt, ...]
    cursor: str
    is_complete: bool = True
    has_more: bool = False
    broken: int = 0


class Source(Protocol):
    """Hands out attempts, each once, in order. Reading changes nothing: the caller keeps the cursor.

    The same cursor gives the same attempts again (and later ones behind them), so a reader that dies before it has
    stored what it learned loses nothing. Safe to call from one thread at a time.
    """

    def end(self) -> str:
        """Return the cursor behind everything that is there now: where evidence begins that nobody waits for.

        Raises:
            TransportError: If the source could not be read.
        """
        ...

    def read(self, cursor: str) -> Batch:
        """Return what came after a cursor.

        Args:
            cursor: "" for the beginning, else the cursor of an earlier batch.

        Raises:
            TransportError: If the source could not be read. An empty batch would be a lie.
        """
        ...
