"""What a table is for a fleet: resources by kind and name. Only what changed since the table before is made again.

Which resources a route is lies in `resources.py`.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from taxiway_serving.routing import read_back, resources
from taxiway_serving.routing.ads_conversation import CLUSTERS, ROUTES, SCOPES, Goal
from taxiway_serving.routing.ads_encoding import Encoder, Resource
from taxiway_serving.routing.cluster_resources import Json
from taxiway_serving.routing.router import Revision, Route, Table
from taxiway_serving.routing.side_routes import SideRoutes
from taxiway_serving.split import Split

LINGER_S: Final = 1.0
"""Seconds that a cluster without traffic stays: Envoy's workers follow a new route a moment after Envoy says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One route of a table as Envoy gets it.

    Attributes:
        route: The route.
        clusters: By name.
        scope: Where its requests are recognised.
        routes: What is done with them.
        live: Names of the clusters that live traffic goes to.
        needs: Those, and the members of those that fail over.
        split: The split as it must read back.
        sides: What goes beside it, as it must read back.
    """

    route: Route
    clusters: Mapping[str, Resource]
    scope: Resource
    routes: Resource
    live: frozenset[str]
    needs: frozenset[str]
    split: Split | None
    sides: SideRoutes


Pieces = Mapping[str, Piece]


class Workshop:
    """Makes goals of tables, one after the other."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._encoder = clock, Encoder()
        self._leaving: dict[str, tuple[Resource, float]] = {}

    def goal(
        self, table: Table, revision: Revision, number: int, before: Pieces, *, removes: bool
    ) -> tuple[Goal, Pieces]:
        """Return the goal of a table, and its pieces.

        Args:
            table: The table.
            revision: Its own.
            number: The goal's.
            before: Pieces of the table before.
            removes: Whether what is not in the table goes.

        Raises:
            InvalidSpecError: If Envoy has no words for the table.
        """
        pieces = {route.handle: self._piece(route, before.get(route.handle)) for route in table.routes}
        clusters: dict[str, Resource] = {}
        for piece in pieces.values():
            clusters |= piece.clusters
        clusters |= self._lingering(clusters, before, pieces)
        found = {
            CLUSTERS: clusters,
            SCOPES: {handle: piece.scope for handle, piece in pieces.items()},
            ROUTES: {handle: piece.routes for handle, piece in pieces.items()},
        }
        self._encoder.keep(each.version for kind in found.values() for each in kind.values())
        needs = {handle: piece.needs for handle, piece in pieces.items()}
        goal = Goal(number=number, revision=revision, resources=found, needs=needs, removes=removes)
        return goal, pieces

    def _piece(self, route: Route, before: Piece | None) -> Piece:
        if before is not None and before.route == route:
            return before
        only = Table(routes=(route,))
        (scope,) = resources.scopes(only)
        clusters = {cluster["name"]: cluster for cluster in resources.clusters(only)}
        live = frozenset(read_back.live_clusters(scope))
        routes = {**scope["route_configuration"], "@type": ROUTES}
        recognised = {name: item for name, item in scope.items() if name != "route_configuration"}
        return Piece(
            route=route,
            clusters={name: self._encoder.resource(each) for name, each in clusters.items()},
            scope=self._encoder.resource({**recognised, "route_configuration_name": route.handle}),
            routes=self._encoder.resource(routes),
            live=live,
            needs=live | _members(live, clusters),
            split=read_back.split_of(scope),
            sides=read_back.side_routes_of(scope),
        )

    def _lingering(self, made: Mapping[str, Resource], before: Pieces, pieces: Pieces) -> dict[str, Resource]:
        """Return the clusters that live traffic has left of late."""
        now_s = self._clock()
        for handle, old in before.items():
            if pieces.get(handle) is not old:
                left = {name: (old.clusters[name], now_s) for name in old.live if name in old.clusters}
                self._leaving |= left
        self._leaving = {
            name: (each, since_s)
            for name, (each, since_s) in self._leaving.items()
            if name not in made and now_s - since_s < LINGER_S
        }
        return {name: each for name, (each, _) in self._leaving.items()}


def _members(live: frozenset[str], clusters: Mapping[str, Json]) -> frozenset[str]:
    """Return the clusters behind those that fail over."""
    kinds = (clusters[name].get("cluster_type", {}) for name in live if name in clusters)
    return frozenset(name for kind in kinds for name in kind.get("typed_config", {}).get("clusters", ()))
