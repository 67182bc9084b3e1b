"""The streams of a fleet: each Envoy is brought from what it has to the goal, and what it says is remembered.

Everything here runs in the thread of the gRPC server; other threads set goals, read answers, and wait.
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from taxiway_serving.errors import TransportError
from taxiway_serving.routing.ads_conversation import KINDS, Conversation, Goal, Heard, Said
from taxiway_serving.routing.ads_server import Stream
from taxiway_serving.routing.fleet import Fleet
from taxiway_serving.routing.refusals import shortened
from taxiway_serving.wire import field_bytes, fields_of

METHOD: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"

_WARM_POLL_S: Final = 0.01
_WARM_PATIENCE_S: Final = 3.0
"""A cluster is warm after its first health check, which takes two seconds at most."""

_MOST_EARLIER: Final = 3

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True, kw_only=True)
class Session:
    """One stream.

    Attributes:
        number: Which stream of this controller it is.
        node: The Envoy's name; "" until it said it.
        talk: What was said.
        serves: Whether it has had a whole table, of this controller or of one before.
        woken: Set when there may be something to say.
        warms: Set when a cluster has to get warm.
    """

    number: int
    node: str = ""
    talk: Conversation = field(default_factory=Conversation)
    serves: bool = False
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    warms: asyncio.Event = field(default_factory=asyncio.Event)


class Streams:
    """All streams that are open, and where they go.

    Attributes:
        changed: Held while anything here is read or written; notified when something was heard.
        goal: Where they go; None until the first table, and until then nobody is answered.
        earlier: Where they went before, the last one at the end, without what was refused.
        refused: Why tables were refused, by revision.
        on_join: Called with the name of an Envoy that connects, and whether it comes back with what it had.
        on_leave: Called with the name of an Envoy whose stream has ended.
    """

    def __init__(self, fleet: Fleet, *, leads: Callable[[], bool]) -> None:
        """Begin without a stream.

        Args:
            fleet: Says which clusters are warm.
            leads: Tells whether this controller may still speak.
        """
        self.changed = threading.Condition()
        self.goal: Goal | None = None
        self.earlier: list[Goal] = []
        self.refused: dict[str, str] = {}
        self._confirmed = 0
        self.on_join: Callable[[str, bool], None] = lambda _node, _had_before: None
        self.on_leave: Callable[[str], None] = lambda _node: None
        self._fleet, self._leads = fleet, leads
        self._sessions: dict[int, Session] = {}
        self._opened = 0

    def sessions(self) -> list[Session]:
        """Return the streams of Envoys that have said their names. Call it while holding `changed`."""
        return [session for session in self._sessions.values() if session.node]

    def pursue(self, goal: Goal) -> None:
        """Set the goal. Call it while holding `changed`, and wake the streams then."""
        last, self.goal = self.goal, goal
        if last is not None and last.revision not in self.refused:
            self.earlier = [*self.earlier, last][-_MOST_EARLIER:]

    def wake(self) -> None:
        """Look at the goal again in every stream."""
        for session in list(self._sessions.values()):
            session.woken.set()

    async def converse(self, requests: AsyncIterator[bytes], context: Stream) -> AsyncIterator[bytes]:
        """Speak with one Envoy until it or the controller goes."""
        self._opened += 1
        session = Session(number=self._opened)
        with self.changed:
            self._sessions[session.number] = session
        listening = asyncio.create_task(self._listen(session, requests))
        warming = asyncio.create_task(self._watch_warming(session))
        try:
            while not listening.done():
                session.woken.clear()
                for said in self._say(session):
                    yield _answer(said)
                await session.woken.wait()
            await listening
        finally:
            for task in (listening, warming):
                task.cancel()
            with self.changed:
                left = self._sessions.pop(session.number, None)
                self.changed.notify_all()
            if left is not None and left.node:
                self.on_leave(left.node)

    def _say(self, session: Session) -> list[Said]:
        with self.changed:
            return session.talk.say(self.goal) if self.goal is not None and self._leads() else []

    async def _listen(self, session: Session, requests: AsyncIterator[bytes]) -> None:
        try:
            async for content in requests:
                node, heard = _request(content)
                if heard.kind in KINDS:
                    self._hear(session, node, heard)
                    session.woken.set()
        finally:
            session.woken.set()

    def _hear(self, session: Session, node: str, heard: Heard) -> None:
        is_new = bool(node) and not session.node
        with self.changed:
            if is_new:
                session.node = node
                # A stream that Envoy has left may look open here for a while.
                for other in [each for each in self._sessions.values() if each.node == node]:
                    if other is not session:
                        self._sessions.pop(other.number)
                session.serves = bool(heard.has)
            said = session.talk.hear(heard)
            if said is not None:
                self._refuse(session, said, heard.error or "")
            elif heard.nonce:
                self._note_progress(session)
            self.changed.notify_all()
            if session.talk.warming:
                session.warms.set()
        if is_new:
            self.on_join(session.node, bool(heard.has))

    def _note_progress(self, session: Session) -> None:
        """Note who serves, and whether all who do follow the goal."""
        goal = self.goal
        if goal is None or not session.talk.is_settled(goal):
            return
        session.serves = True
        if all(each.talk.is_settled(goal) for each in self.sessions() if each.serves):
            self._confirmed = goal.number

    def _refuse(self, session: Session, said: Said, error: str) -> None:
        """Note why, and send the table before to all again: the last one that nobody refused, however late.

        What all who serve have taken stays: an Envoy that joins and wants none of it, as one of another release may,
        moves nobody.
        """
        reason = f"{session.node}: {shortened(error)}"
        others = any(each.serves for each in self.sessions() if each is not session)
        if others and (not session.serves or said.goal == self._confirmed):
            log.error("table %s is followed by the others, and not by %s", said.revision, reason)
            return
        self.refused.setdefault(said.revision, reason)
        self.earlier = [goal for goal in self.earlier if goal.revision != said.revision]
        goal = self.goal
        if goal is None or goal.number != said.goal or not self.earlier:
            return
        log.error("table %s is taken back everywhere: %s", said.revision, reason)
        self.goal = replace(self.earlier[-1], number=goal.number + 1)
        self.wake()

    async def _watch_warming(self, session: Session) -> None:
        """Let routes wait until the clusters that they need can be used."""
        while True:
            await session.warms.wait()
            session.warms.clear()
            while names := set(session.talk.warming):
                warm = await self._warm_of(session.node, names)
                with self.changed:
                    session.talk.warming -= warm
                session.woken.set()

    async def _warm_of(self, node: str, names: set[str]) -> set[str]:
        """Return some of the clusters as soon as they are warm; all of them when that must be so."""
        deadline = time.monotonic() + _WARM_PATIENCE_S
        while time.monotonic() < deadline:
            # An Envoy that does not answer now is asked again, as long as there is patience.
            with suppress(TransportError):
                warm = await asyncio.to_thread(self._active, node, names)
                if warm:
                    return warm
            await asyncio.sleep(_WARM_POLL_S)
        return names

    def _active(self, node: str, names: set[str]) -> set[str]:
        admin = self._fleet.presence().admins.get(node)
        return admin.active_clusters(names) if admin is not None else set()


def _request(content: bytes) -> tuple[str, Heard]:
    """Return who asks, if it says so, and what: a `DeltaDiscoveryRequest`; the numbers are its fields'."""
    found: dict[int, list[bytes]] = {number: [] for number in range(1, 8)}
    for number, value in fields_of(content):
        found.setdefault(number, []).append(value)
    entries = (dict(fields_of(entry)) for entry in found[5])
    heard = Heard(
        kind=_text(found[2]),
        nonce=_text(found[6]),
        error=_reason(found[7][0]) if found[7] else None,
        subscribe=tuple(name.decode() for name in found[3]),
        unsubscribe=tuple(name.decode() for name in found[4]),
        has={entry[1].decode(): entry.get(2, b"").decode() for entry in entries},
    )
    ids = [value for node in found[1] for number, value in fields_of(node) if number == 1]
    return _text(ids), heard


def _text(values: list[bytes]) -> str:
    return values[-1].decode() if values else ""


def _reason(status: bytes) -> str:
    """Return what a `google.rpc.Status` says."""
    said = dict(fields_of(status))
    return said[2].decode(errors="replace") if 2 in said else f"code {said.get(1, 0)}"


def _answer(said: Said) -> bytes:
    """Return a `DeltaDiscoveryResponse`; the numbers are its fields'."""
    kind = said.kind.encode()
    parts = [field_bytes(1, said.revision.encode())]
    for name, resource in said.resources.items():
        content = field_bytes(1, kind) + field_bytes(2, resource.body)
        named = field_bytes(3, name.encode()) + field_bytes(1, resource.version.encode())
        parts.append(field_bytes(2, named + field_bytes(2, content)))
    parts += [field_bytes(4, kind), field_bytes(5, said.nonce.encode())]
    parts += [field_bytes(6, name.encode()) for name in said.removed]
    return b"".join(parts)
