"""What one Envoy was told, has confirmed and still lacks: the bookkeeping of incremental ADS. Pure.

Clusters come before the routes that name them, and go after them; one answer of each kind is under way at a time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from taxiway_serving.routing.ads_encoding import Resource
from taxiway_serving.routing.cluster_resources import TYPE

CLUSTERS: Final = TYPE + "envoy.config.cluster.v3.Cluster"
SCOPES: Final = TYPE + "envoy.config.route.v3.ScopedRouteConfiguration"
ROUTES: Final = TYPE + "envoy.config.route.v3.RouteConfiguration"
KINDS: Final = (CLUSTERS, SCOPES, ROUTES)

_EVERYTHING: Final = "*"
_ABSENT: Final = ""
_UNSURE: Final = "?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What every Envoy should have.

    Attributes:
        number: Which goal of this controller it is, from 1.
        revision: The table's.
        resources: By kind and name.
        needs: By name of a route configuration, the clusters that its live traffic goes to.
        removes: Whether what is not in it goes. Not so where nobody knows what should be there.
    """

    number: int
    revision: str
    resources: Mapping[str, Mapping[str, Resource]]
    needs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    removes: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A request of an Envoy.

    Attributes:
        kind: The resources' type.
        nonce: Of the answer that it confirms or refuses; "" for none.
        error: Why it refuses; None if it does not.
        subscribe: Names that it wants from now on; "*" is all. Of a kind's first request, none is all.
        unsubscribe: Names that it wants no longer.
        has: Versions by name that it has from an earlier stream.
    """

    kind: str
    nonce: str = ""
    error: str | None = None
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    has: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An answer to an Envoy.

    Attributes:
        kind: The resources' type.
        nonce: Its name in this stream.
        goal: Number of the goal that it is on the way to.
        revision: The goal's.
        resources: What is new or another, by name.
        removed: Names of what is gone.
    """

    kind: str
    nonce: str
    goal: int
    revision: str
    resources: Mapping[str, Resource]
    removed: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class _Topic:
    """One kind in one stream. `open` are the names of `sent` whose confirmation still says something."""

    wants_all: bool
    wants: set[str] = field(default_factory=set)
    has: dict[str, str] = field(default_factory=dict)
    sent: Said | None = None
    open: set[str] = field(default_factory=set)
    is_answered: bool = False

    def lacks(self, wished: Mapping[str, Resource]) -> dict[str, Resource]:
        names = wished if self.wants_all else self.wants & wished.keys()
        return {name: wished[name] for name in names if self.has.get(name) != wished[name].version}

    def excess(self, wished: Mapping[str, Resource]) -> tuple[str, ...]:
        had = [name for name, version in self.has.items() if version != _ABSENT and name not in wished]
        unheard = [name for name in self.wants if name not in wished and name not in self.has]
        return (*had, *unheard)


class Conversation:
    """One stream of one Envoy, from its first request to its end."""

    def __init__(self) -> None:
        self._topics: dict[str, _Topic] = {}
        self._nonce = 0
        self._refused_goal = 0
        self.warming: set[str] = set()

    def hear(self, heard: Heard) -> Said | None:
        """Take a request in. Return the answer that it refuses, or None."""
        topic = self._topics.get(heard.kind)
        is_first = topic is None
        if topic is None:
            topic = self._topics[heard.kind] = _Topic(wants_all=not heard.subscribe, has=dict(heard.has))
        refused = self._close(topic, heard)
        self._subscribe(topic, heard, is_first=is_first)
        return refused

    def say(self, goal: Goal) -> list[Said]:
        """Return the answers to send now, on the way to a goal. Nothing more once this goal was refused."""
        if goal.number == self._refused_goal:
            return []
        said = [self._clusters(goal)]
        if self._are_clusters_there(goal):
            said += [self._scopes(goal), self._routes(goal)]
        if self._are_routes_there(goal):
            said.append(self._leftovers(goal))
        return [each for each in said if each is not None]

    def is_settled(self, goal: Goal) -> bool:
        """Tell whether this Envoy has confirmed all of a goal, and nothing else."""
        if goal.number == self._refused_goal or not self._are_routes_there(goal):
            return False
        topic, wished = self._topics[CLUSTERS], goal.resources[CLUSTERS]
        return topic.sent is None and not topic.lacks(wished) and not (goal.removes and topic.excess(wished))

    def version(self, kind: str, name: str) -> str | None:
        """Return the version of a resource that it surely has, or None if that is not known."""
        topic = self._topics.get(kind)
        if topic is None or (topic.sent is not None and name in topic.open):
            return None
        return topic.has.get(name)

    def _clusters(self, goal: Goal) -> Said | None:
        topic = self._topics.get(CLUSTERS)
        if topic is None or topic.sent is not None:
            return None
        lacking = topic.lacks(goal.resources[CLUSTERS])
        return self._send(CLUSTERS, goal, lacking) if lacking or not topic.is_answered else None

    def _are_clusters_there(self, goal: Goal) -> bool:
        topic = self._topics.get(CLUSTERS)
        if topic is None or not topic.is_answered:
            return False
        is_removal = topic.sent is None or not topic.sent.resources
        return is_removal and not topic.lacks(goal.resources[CLUSTERS])

    def _scopes(self, goal: Goal) -> Said | None:
        topic, wished = self._topics.get(SCOPES), goal.resources[SCOPES]
        if topic is None or topic.sent is not None:
            return None
        lacking, excess = topic.lacks(wished), topic.excess(wished) if goal.removes else ()
        if lacking or excess or not topic.is_answered:
            return self._send(SCOPES, goal, lacking, excess)
        return None

    def _routes(self, goal: Goal) -> Said | None:
        topic, wished = self._topics.get(ROUTES), goal.resources[ROUTES]
        if topic is None or topic.sent is not None:
            return None
        ready = {
            name: resource
            for name, resource in topic.lacks(wished).items()
            if not (goal.needs.get(name, frozenset()) & self.warming)
        }
        excess = topic.excess(wished) if goal.removes and self._is_told(SCOPES, goal) else ()
        return self._send(ROUTES, goal, ready, excess) if ready or excess else None

    def _leftovers(self, goal: Goal) -> Said | None:
        topic, wished = self._topics[CLUSTERS], goal.resources[CLUSTERS]
        if topic.sent is not None or not goal.removes or not topic.excess(wished):
            return None
        return self._send(CLUSTERS, goal, {}, topic.excess(wished))

    def _are_routes_there(self, goal: Goal) -> bool:
        """Tell whether this Envoy follows the goal's routes, and no other: from then on, clusters may go."""
        if not self._are_clusters_there(goal) or not self._is_told(SCOPES, goal):
            return False
        routes, wished = self._topics.get(ROUTES), goal.resources[ROUTES]
        if routes is None:
            return not wished
        return routes.sent is None and all(
            routes.has.get(name) == each.version for name, each in wished.items()
        )

    def _is_told(self, kind: str, goal: Goal) -> bool:
        topic, wished = self._topics.get(kind), goal.resources[kind]
        if topic is None or topic.sent is not None or not topic.is_answered or topic.lacks(wished):
            return False
        return not goal.removes or not topic.excess(wished)

    def _send(
        self, kind: str, goal: Goal, resources: Mapping[str, Resource], removed: Iterable[str] = ()
    ) -> Said:
        self._nonce += 1
        said = Said(
            kind=kind,
            nonce=str(self._nonce),
            goal=goal.number,
            revision=goal.revision,
            resources=dict(resources),
            removed=tuple(removed),
        )
        topic = self._topics[kind]
        topic.sent, topic.open, topic.is_answered = said, {*said.resources, *said.removed}, True
        return said

    def _close(self, topic: _Topic, heard: Heard) -> Said | None:
        sent = topic.sent
        if sent is None or not heard.nonce or heard.nonce != sent.nonce:
            return None
        topic.sent = None
        if heard.error is not None:
            # Envoy may have taken some of it: nobody knows which.
            topic.has |= dict.fromkeys(topic.open, _UNSURE)
            self._refused_goal = sent.goal
            return sent
        if heard.kind == CLUSTERS and SCOPES in self._topics:
            # An Envoy that starts asks for routes only once its clusters are warm.
            self.warming |= {name for name in topic.open & sent.resources.keys() if name not in topic.has}
        topic.has |= {name: sent.resources[name].version for name in topic.open & sent.resources.keys()}
        for name in topic.open.difference(sent.resources):
            topic.has.pop(name, None)
            if name in topic.wants:
                topic.has[name] = _ABSENT
        if heard.kind == CLUSTERS:
            self.warming.intersection_update(topic.has)
        return None

    @staticmethod
    def _subscribe(topic: _Topic, heard: Heard, *, is_first: bool) -> None:
        for name in heard.subscribe:
            if name == _EVERYTHING:
                topic.wants_all = True
                continue
            topic.wants.add(name)
            if not (is_first and name in heard.has):
                topic.has.pop(name, None)
                topic.open.discard(name)
        for name in heard.unsubscribe:
            topic.wants_all &= name != _EVERYTHING
            topic.wants.discard(name)
            topic.has.pop(name, None)
            topic.open.discard(name)
