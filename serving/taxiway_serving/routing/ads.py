"""The router of a fleet: any number of Envoys ask the controller for clusters and routes, and confirm what they took.

Which resources a table is lies in `ads_resources.py`, what an Envoy still lacks in `ads_conversation.py`.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from taxiway_serving.answers import Answer
from taxiway_serving.errors import ConflictError, InvalidSpecError, NotLeaderError, TransportError
from taxiway_serving.names import VariantId, cluster_name
from taxiway_serving.routing import read_back
from taxiway_serving.routing.admin import Admin
from taxiway_serving.routing.ads_conversation import ROUTES, Goal
from taxiway_serving.routing.ads_resources import Pieces, Workshop
from taxiway_serving.routing.ads_server import AdsServer, Receive
from taxiway_serving.routing.ads_streams import METHOD, Session, Streams
from taxiway_serving.routing.fleet import Fleet
from taxiway_serving.routing.router import Revision, Table, always_may
from taxiway_serving.routing.side_routes import SideRoutes
from taxiway_serving.settings import ServingSettings
from taxiway_serving.split import Split
from taxiway_serving.tokens import ensure_token

T = TypeVar("T")
Seen = tuple[Split | None, SideRoutes]

_NOTHING: Final[Seen] = (None, SideRoutes())
_ALL_AT_ONCE: Final = 200
"""From so many handles on, all are read at once."""
_NEWS_S: Final = 0.1

log = logging.getLogger(__name__)


class AdsRouter:
    """Publishes tables to a fleet of Envoys. A `Router`.

    Nobody is answered before the first table, so a controller that starts takes nothing away. A table that one Envoy
    refuses is taken back from all. What an Envoy routes is read from its admin interface, once for each version of it.

    Args:
        settings: Where the port is, what it asks for, and where the admin interfaces are.
        patience_s: Seconds that Envoys may take to use or refuse a table. Who took longer for the one before is not
            waited for.
        may_act: Called before Envoys are told anything; raises if another controller leads. They are let go then.
    """

    def __init__(
        self,
        settings: ServingSettings,
        *,
        patience_s: float = 5.0,
        may_act: Callable[[], None] = always_may,
    ) -> None:
        self._settings, self._patience_s, self._may_act = settings, patience_s, may_act
        self._token = ensure_token(settings.gateway_token_file)
        self._fleet = Fleet(settings.fleet_admin_urls, token=self._token)
        self._streams = Streams(self._fleet, leads=self._leads)
        self._workshop = Workshop()
        self._pieces: dict[Revision, Pieces] = {}
        self._server: AdsServer | None = None
        self._read: dict[int, dict[str, tuple[str, Seen]]] = {}

    @property
    def fleet(self) -> Fleet:
        """The admin interfaces of the Envoys."""
        return self._fleet

    @property
    def streams(self) -> Streams:
        """Who is connected."""
        return self._streams

    @contextmanager
    def serving(self, receivers: Mapping[str, Receive] | None = None) -> Iterator[None]:
        """Let Envoys connect while the context lasts: only the controller that leads does.

        Args:
            receivers: What else Envoys may send here, by the method's full name.

        Raises:
            TransportError: If the port cannot be listened on.
        """
        self._server = AdsServer(
            host=self._settings.ads_host,
            port=self._settings.ads_port,
            token=self._token,
            conversations={METHOD: self._streams.converse},
            receivers=receivers or {},
            leads=self._leads,
        )
        self._server.open()
        try:
            yield
        finally:
            self._server.close()
            self._server = None

    def close(self) -> None:
        """Close the connections to the admin interfaces."""
        self._fleet.close()

    def publish(self, table: Table, *, allow_empty: bool = False) -> Revision:
        """Set the goal of all streams, and wait for those that keep up.

        See `Router.publish`. A revision that was refused before is not tried again. With no table published yet, an
        empty one takes nothing away: it lets Envoys begin that have nothing.
        """
        revision, goal = table.revision(), self._streams.goal
        pieces = {} if goal is None else self._pieces[goal.revision]
        removes = bool(table.routes) or allow_empty
        if revision in self._streams.refused or _is_on_its_way(goal, revision, removes=removes):
            return revision
        if pieces and not removes:
            raise ConflictError(
                "an empty table",
                "would take every endpoint away",
                "publish the endpoints, or pass allow_empty=True",
            )
        number = 1 if goal is None else goal.number + 1
        try:
            made, pieces = self._workshop.goal(table, revision, number, pieces, removes=removes)
        except InvalidSpecError as error:
            self._streams.refused[revision] = str(error)
            return revision
        self._pieces[revision] = pieces
        self._pursue(made)
        return revision

    def applied(self, revision: Revision) -> Answer:
        """Answer YES once every Envoy has confirmed all of it and reads back so. See `Router.applied`.

        An Envoy that is connected and cannot be asked, or answers and is not connected, makes it UNKNOWN.
        """
        with self._streams.changed:
            goal = self._streams.goal
            if goal is None or goal.revision != revision or revision in self._streams.refused:
                return Answer.NO
            sessions = self._streams.sessions()
            if not sessions or not all(session.talk.is_settled(goal) for session in sessions):
                return Answer.UNKNOWN
        try:
            return Answer.YES if self._reads_back(goal, sessions) else Answer.UNKNOWN
        except TransportError:
            # An Envoy that cannot be asked may have another table; the next tick asks again.
            return Answer.UNKNOWN

    def rejection(self, revision: Revision) -> str | None:
        """Return what the Envoy said that refused it. See `Router.rejection`."""
        return self._streams.refused.get(revision)

    def observed(self, handle: str) -> Split | None:
        """Return the split that every Envoy says it follows. See `Router.observed`."""
        return self._agreed(handle)[0]

    def observed_routes(self, handle: str) -> SideRoutes:
        """Return what every Envoy says it routes beside the split. See `Router.observed_routes`."""
        return self._agreed(handle)[1]

    def warm(self, variant: VariantId) -> Answer:
        """Answer whether every Envoy finds it healthy. See `Router.warm`."""
        name = cluster_name(variant)
        return self._all(lambda _, admin: admin.is_healthy(name) is True)

    def drained(self, variant: VariantId) -> Answer:
        """Answer whether nothing is under way on it, in any Envoy. See `Router.drained`."""
        name = cluster_name(variant)
        return self._all(lambda _, admin: admin.active_requests(name) == 0)

    def in_flight(self, variant: VariantId) -> int:
        """Return how many requests are under way on it, over all Envoys. See `Router.in_flight`."""
        name = cluster_name(variant)
        return sum(self._ask(lambda _, admin: admin.active_requests(name)).values())

    def logged(self) -> dict[str, int]:
        """Return how many attempts each Envoy has logged since it started, by its name.

        Raises:
            TransportError: If one of them cannot be asked.
        """
        return self._ask(lambda _, admin: admin.logged())

    def _leads(self) -> bool:
        try:
            self._may_act()
        except NotLeaderError:
            return False
        return True

    def _pursue(self, made: Goal) -> None:
        """Set a goal, and wait until those who keep up are there or one of them refuses."""
        streams = self._streams
        self._may_act()
        with streams.changed:
            last = streams.goal
            waited = [each for each in streams.sessions() if last is None or each.talk.is_settled(last)]
            streams.pursue(made)
            kept = {goal.revision for goal in (made, last, *streams.earlier) if goal is not None}
            self._pieces = {name: each for name, each in self._pieces.items() if name in kept}
        if self._server is not None:
            self._server.soon(streams.wake)
        deadline = time.monotonic() + self._patience_s
        with streams.changed:
            while made is streams.goal and not _are_settled(waited, made, streams.sessions()):
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not streams.changed.wait(left_s):
                    log.warning(
                        "table %s is not confirmed by every Envoy after %g s", made.revision, self._patience_s
                    )
                    return

    def _reads_back(self, goal: Goal, sessions: list[Session]) -> bool:
        """Tell whether what each Envoy routes is what it was told."""
        nodes = self._connected(sessions)
        pieces = self._pieces[goal.revision]
        wanted = {handle: (piece.split, piece.sides) for handle, piece in pieces.items()}
        self._look_up(nodes, list(wanted))
        return all(
            self._read[session.number].get(handle, ("", _NOTHING))[1] == seen
            for session in sessions
            for handle, seen in wanted.items()
        )

    def _agreed(self, handle: str) -> Seen:
        with self._streams.changed:
            sessions = self._streams.sessions()
        nodes = self._connected(sessions)
        self._look_up(nodes, [handle])
        seen = [self._read[session.number].get(handle, ("", _NOTHING))[1] for session in sessions]
        if any(each != seen[0] for each in seen):
            raise TransportError("the fleet", f"its Envoys do not route {handle} alike yet")
        return seen[0]

    def _connected(self, sessions: list[Session]) -> dict[str, Session]:
        """Return the streams by their Envoys' names, if those are all the Envoys that are there.

        Raises:
            TransportError: If none is connected, it is not known who is there, or one answers that is not connected.
        """
        nodes = {session.node: session for session in sessions}
        presence = self._fleet.presence()
        # Who is silent is found out beside: to wait for it again at each question would take minutes.
        if nodes.keys() != presence.admins.keys() and not presence.faults:
            presence = self._fleet.presence(fresh_s=_NEWS_S)
        if not nodes:
            raise TransportError("the fleet", "no Envoy is connected")
        presence.check()
        strangers = sorted(presence.admins.keys() - nodes.keys())
        if strangers:
            raise TransportError(", ".join(strangers), "is there and not connected")
        return nodes

    def _look_up(self, nodes: Mapping[str, Session], handles: list[str]) -> None:
        """Read what Envoys route for these handles, where it is not known for the version that they have now."""
        numbers = {session.number for session in nodes.values()}
        self._read = {number: read for number, read in self._read.items() if number in numbers}
        stale = {node: new for node, session in nodes.items() if (new := self._stale(session, handles))}
        found = self._fleet.ask(stale, lambda node, admin: _routes_of(admin, list(stale[node])))
        for node, configs in found.items():
            known = self._read[nodes[node].number]
            for handle, version in stale[node].items():
                config = configs.get(handle)
                seen = (read_back.split_of(config), read_back.side_routes_of(config)) if config else _NOTHING
                known[handle] = (version, seen)

    def _stale(self, session: Session, handles: Iterable[str]) -> dict[str, str]:
        """Return the versions that an Envoy has now of those handles whose routes were not read for that version."""
        known = self._read.setdefault(session.number, {})
        found = self._unread(session, known, handles)
        if any(found.values()) and self._streams.goal is not None:
            # Who asks for one that has changed asks for the others next: they come in the same answer.
            others = self._unread(session, known, self._pieces[self._streams.goal.revision])
            found |= {handle: version for handle, version in others.items() if version}
        return found

    def _unread(
        self, session: Session, known: Mapping[str, tuple[str, Seen]], handles: Iterable[str]
    ) -> dict[str, str]:
        with self._streams.changed:
            versions = {handle: session.talk.version(ROUTES, handle) or "" for handle in handles}
        return {h: v for h, v in versions.items() if not v or known.get(h, ("",))[0] != v}

    def _all(self, question: Callable[[str, Admin], bool]) -> Answer:
        try:
            return Answer.of(all(self._ask(question).values()))
        except TransportError:
            # One that cannot be asked may be the one that differs.
            return Answer.UNKNOWN

    def _ask(self, question: Callable[[str, Admin], T]) -> dict[str, T]:
        with self._streams.changed:
            sessions = self._streams.sessions()
        return self._fleet.ask(self._connected(sessions), question)


def _is_on_its_way(goal: Goal | None, revision: Revision, *, removes: bool) -> bool:
    return goal is not None and goal.revision == revision and goal.removes >= removes


def _are_settled(waited: list[Session], goal: Goal, there: list[Session]) -> bool:
    return all(each.talk.is_settled(goal) for each in waited if each in there)


def _routes_of(admin: Admin, handles: list[str]) -> Mapping[str, Mapping[str, Any]]:
    return admin.routes(handles if len(handles) < _ALL_AT_ONCE else None)
