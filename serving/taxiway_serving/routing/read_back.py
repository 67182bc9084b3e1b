"""What Envoy says it routes by, back in Taxiway's own values. The way there is `resources.py`.

Pure. Tolerant of whatever else Envoy adds to a dump; zeros and empty lists may be missing in it.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from taxiway_serving.names import assigned_version
from taxiway_serving.routing.cluster_resources import METADATA, Json, mirror_address
from taxiway_serving.routing.side_routes import HeaderRoute, Members, Mirror, SideRoutes
from taxiway_serving.split import Split

_ESCAPED: Final = re.compile(r"\\(.)")
_ALTERNATIVE: Final = re.compile(r"(?:\\.|[^|\\])+")


def split_of(scope: Mapping[str, Any]) -> Split | None:
    """Return the split of a scope, or None if it has no live traffic."""
    parts: Counter[int] = Counter()
    stable = None
    for cluster in _weighted(scope):
        version = assigned_version(cluster["name"])
        if version is not None:
            parts[version] += int(cluster.get("weight", 0))
            stable = stable if "~" in cluster["name"] else version
    return None if stable is None else Split(stable=stable, parts=parts)


def side_routes_of(scope: Mapping[str, Any]) -> SideRoutes:
    """Return what a scope routes beside its split."""
    routes = _routes(scope)
    return SideRoutes(
        headers=tuple(_header_route(route) for route in routes if _via(route) == "header"),
        mirror=_mirror(routes),
        members=_members([route for route in routes if _via(route) == "member"]),
    )


def live_clusters(scope: Mapping[str, Any]) -> set[str]:
    """Return the names of the clusters that a scope sends live requests and copies to; a tester's pins do not count."""
    actions = [route["route"] for route in _routes(scope) if "route" in route and _via(route) != "pin"]
    copies = [copy["cluster"] for action in actions for copy in action.get("request_mirror_policies", [])]
    fixed = [action["cluster"] for action in actions if "cluster" in action]
    return {*copies, *fixed, *(cluster["name"] for cluster in _weighted(scope))}


def _routes(scope: Mapping[str, Any]) -> list[Json]:
    hosts = scope.get("route_configuration", scope).get("virtual_hosts", [])
    return [route for host in hosts for route in host.get("routes", [])]


def _via(route: Json) -> object:
    return route.get("metadata", {}).get("filter_metadata", {}).get(METADATA, {}).get("via")


def _weighted(scope: Mapping[str, Any]) -> list[Json]:
    actions = (route.get("route", {}) for route in _routes(scope))
    return next((a["weighted_clusters"]["clusters"] for a in actions if "weighted_clusters" in a), [])


def _version(route: Json) -> int:
    return assigned_version(route["route"]["cluster"]) or 0


def _header_route(route: Json) -> HeaderRoute:
    match, version = route["match"], _version(route)
    kind = "headers" if match.get("headers") else "cookies"
    (wanted,) = match[kind]
    value = wanted["string_match"]["exact"]
    if kind == "headers":
        return HeaderRoute(header=wanted["name"], value=value, version=version)
    return HeaderRoute(cookie=wanted["name"], value=value, version=version)


def _mirror(routes: list[Json]) -> Mirror | None:
    copies = [copy for r in routes for copy in r.get("route", {}).get("request_mirror_policies", [])]
    address = mirror_address(copies[0]["cluster"]) if copies else None
    if address is None:
        return None
    share = int(copies[0]["runtime_fraction"]["default_value"]["numerator"])
    return Mirror(host=address[0], port=address[1], sample_pct=share / 100)


def _members(routes: list[Json]) -> Members | None:
    if not routes:
        return None
    units = [unit for route in routes for unit in _units(route["match"])]
    return Members(version=_version(routes[0]), units=tuple(units))


def _units(match: Json) -> list[str]:
    cookies = match.get("cookies", [])
    kind, (wanted, *_) = ("cookie", cookies) if cookies else ("user", match["headers"])
    return [f"{kind}:{name}" for name in _alternatives(wanted["string_match"]["safe_regex"]["regex"])]


def _alternatives(regex: str) -> list[str]:
    """Return the names that a regex of escaped alternatives stands for."""
    return [_ESCAPED.sub(r"\1", name) for name in _ALTERNATIVE.findall(regex)]
