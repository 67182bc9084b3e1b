"""What a table of routes is in Envoy's own words: clusters and scoped routes, as plain JSON values.

Pure: no file, clock or network. The way back, from what Envoy says it routes by, is `read_back.py`. Names: cluster
`visual_recognition/7` is one variant; `visual_recognition/8~7` is candidate 8 that fails over to stable 7; a scope and
its routes are named by the handle. Every route to a variant says in its metadata who chose the version (`via`).
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Final

from taxiway_serving.names import (
    HEADER_HANDLE,
    HEADER_MODEL,
    HEADER_REASON,
    HEADER_REQUEST_ID,
    HEADER_UNIT,
    HEADER_USER_ID,
    HEADER_VERSION,
    UNIT_ID_LENGTH,
    USER_COOKIE,
    Via,
)
from taxiway_serving.routing.cluster_resources import (
    METADATA,
    TYPE,
    Json,
    failover_cluster,
    mirror_cluster,
    mirror_name,
    name_of,
    variant_cluster,
)
from taxiway_serving.routing.layout import layout
from taxiway_serving.routing.read_back import live_clusters
from taxiway_serving.routing.router import Backend, Route, Table
from taxiway_serving.routing.side_routes import HeaderRoute, Members, Mirror
from taxiway_serving.split import Split

# Requests of this size can still be retried on stable, because Envoy keeps a copy until the answer comes.
RETRY_BODY_BYTES: Final = 8 * 1024 * 1024

_COOKIE_MAX_AGE_S: Final = 30 * 24 * 3600
_SAFE_RETRIES: Final = "connect-failure,refused-stream,reset-before-request"
_SHIELD_RETRIES: Final = "5xx,reset"
_LOST_RETRIES: Final = "reset"
_NEW_UID: Final = f"%REQ({HEADER_REQUEST_ID}):{UNIT_ID_LENGTH}%"
_KNOWN_UID: Final = f"%DYNAMIC_METADATA({METADATA}:uid)%"


def clusters(table: Table) -> list[Json]:
    """Return the clusters of a table: one per backend, one with failover per candidate, one per mirror."""
    found: dict[str, Json] = {}
    for route in table.routes:
        made = [variant_cluster(route.handle, backend) for backend in route.backends]
        if route.split is not None:
            made += [failover_cluster(route.handle, v, route.split.stable) for v in _candidates(route)]
        if route.mirror is not None:
            made.append(mirror_cluster(route.mirror))
        found |= {cluster["name"]: cluster for cluster in made}
    return list(found.values())


def scopes(table: Table) -> list[Json]:
    """Return one scoped route configuration per handle, found by the first segment of the path.

    Its routes, first match wins: pinned version; unknown pinned version; a routed header or cookie; a listed user or
    cookie; then live traffic for a user, for a client with our cookie, and for a new client, which is given one.
    """
    return [_scope(route) for route in table.routes]


def lingering(made: Sequence[Json], clusters: Iterable[Json], scopes: Iterable[Json]) -> list[Json]:
    """Return the clusters that live traffic is sent to now and that are not made again.

    Envoy's workers follow a new route a moment after Envoy reports it. A candidate's failover cluster that goes at
    that moment costs a request (503, `cluster_not_found`), so it stays until the table after.

    Args:
        made: Clusters of the table to be.
        clusters: Clusters that Envoy has.
        scopes: Routes that Envoy follows.
    """
    used = {name for scope in scopes for name in live_clusters(scope)}
    gone = used - {cluster["name"] for cluster in made}
    return [cluster for cluster in clusters if cluster["name"] in gone]


def _candidates(route: Route) -> list[int]:
    """Return the versions beside stable that live requests are sent to, whoever chose them."""
    if route.split is None:
        return []
    named = [*route.split.canaries, *(header.version for header in route.headers)]
    named += [route.members.version] if route.members else []
    return [version for version in dict.fromkeys(named) if version != route.split.stable]


def _scope(route: Route) -> Json:
    match = {"path_separated_prefix": f"/{route.handle}"}
    host: Json = {
        "name": route.handle,
        "domains": ["*"],
        "include_request_attempt_count": True,
        "include_attempt_count_in_response": True,
        "request_body_buffer_limit": RETRY_BODY_BYTES,
        "routes": [
            *_pinned(route, match),
            _unknown_pin(route, match),
            *(_by_header(route, header, match) for header in route.headers),
            *(_by_membership(route, route.members, match) if route.members else ()),
            *_live(route, match),
        ],
    }
    if route.rate_limit_rps is not None:
        host["typed_per_filter_config"] = _rate_limit(route.rate_limit_rps)
    return {
        "@type": TYPE + "envoy.config.route.v3.ScopedRouteConfiguration",
        "name": route.handle,
        "key": {"fragments": [{"string_key": route.handle}]},
        "route_configuration": {"name": route.handle, "virtual_hosts": [host]},
    }


def _pinned(route: Route, match: Json) -> list[Json]:
    return [
        _pinned_route(route, backend, match) for backend in sorted(route.backends, key=lambda b: b.version)
    ]


def _pinned_route(route: Route, backend: Backend, match: Json) -> Json:
    exact = {"name": HEADER_VERSION, "string_match": {"exact": str(backend.version)}}
    pinned = {**match, "headers": [exact]}
    if not backend.ready:
        message = f"version {backend.version} of {route.handle} is not ready"
        return _reply(route, pinned, 503, "version_not_ready", message)
    found: Json = {
        "name": route.handle,
        "match": pinned,
        "metadata": _via("pin"),
        "response_headers_to_add": _headers(route.handle),
        "route": {**_action(route), "cluster": name_of(route.handle, backend.version)},
    }
    if route.rate_limit_rps is not None:
        # Its own bucket: a tester who tries a version at three times the rate takes nothing from live clients.
        found["typed_per_filter_config"] = _rate_limit(route.rate_limit_rps)
    return found


def _unknown_pin(route: Route, match: Json) -> Json:
    known = ", ".join(str(backend.version) for backend in sorted(route.backends, key=lambda b: b.version))
    message = f"{route.handle} serves no such version; it serves {known or 'none'}"
    pinned = {**match, "headers": [{"name": HEADER_VERSION, "present_match": True}]}
    return _reply(route, pinned, 404, "unknown_version", message)


def _by_header(route: Route, wanted: HeaderRoute, match: Json) -> Json:
    exact = {"name": wanted.header or wanted.cookie, "string_match": {"exact": wanted.value}}
    return _fixed(
        route, wanted.version, "header", {**match, "headers" if wanted.header else "cookies": [exact]}
    )


def _by_membership(route: Route, members: Members, match: Json) -> list[Json]:
    users, cookies = (_names(members, kind) for kind in ("user:", "cookie:"))
    by_user = {"headers": [{"name": HEADER_USER_ID, "string_match": _one_of(users)}]}
    no_user = {"name": HEADER_USER_ID, "present_match": True, "invert_match": True}
    by_cookie = {"headers": [no_user], "cookies": [{"name": USER_COOKIE, "string_match": _one_of(cookies)}]}
    return [
        _fixed(route, members.version, "member", {**match, **chosen})
        for names, chosen in ((users, by_user), (cookies, by_cookie))
        if names
    ]


def _names(members: Members, kind: str) -> list[str]:
    return [unit.removeprefix(kind) for unit in members.units if unit.startswith(kind)]


def _one_of(names: Sequence[str]) -> Json:
    # RE2 makes one automaton of them: its cost is the length of a request's name, however many there are.
    return {"safe_regex": {"regex": "|".join(re.escape(name) for name in names)}}


def _fixed(route: Route, version: int, via: Via, match: Json) -> Json:
    """Return a route on which all requests go to one version, shielded by stable as in the split."""
    stable = route.split.stable if route.split else None
    is_shielded = route.shield and stable not in (None, version)
    action = _action(route)
    if is_shielded:
        action["retry_policy"] |= {"retry_on": f"{_SAFE_RETRIES},{_SHIELD_RETRIES}"}
    return {
        "name": route.handle,
        "match": match,
        "metadata": _via(via),
        "request_headers_to_add": [_overwrite(HEADER_UNIT, _KNOWN_UID)],
        "response_headers_to_add": _headers(route.handle),
        "route": {**action, "cluster": name_of(route.handle, version, stable)},
    }


def _live(route: Route, match: Json) -> list[Json]:
    if route.split is None:
        message = f"{route.handle} has no live version yet; pin one with {HEADER_VERSION}"
        return [_reply(route, match, 503, "no_live_version", message)]
    action = {
        **_action(route),
        "hash_policy": _hash_policy(route),
        "weighted_clusters": _weights(route, route.split),
    }
    if route.mirror is not None:
        action["request_mirror_policies"] = [_copies(route, route.mirror)]
    user = {"name": HEADER_USER_ID, "present_match": True}
    cookie = {"name": "cookie", "string_match": {"safe_regex": {"regex": rf"(^|.*;\s*){USER_COOKIE}=.*"}}}
    headers = _headers(route.handle)
    common = {
        "name": route.handle,
        "route": action,
        "metadata": _via("split"),
        "response_headers_to_add": headers,
    }
    known, new = _overwrite(HEADER_UNIT, _KNOWN_UID), _overwrite(HEADER_UNIT, _NEW_UID)
    return [
        {**common, "match": {**match, "headers": [user]}},
        {**common, "match": {**match, "headers": [cookie]}, "request_headers_to_add": [known]},
        {
            **common,
            "match": match,
            "request_headers_to_add": [new],
            "response_headers_to_add": [*headers, _new_cookie(route.handle)],
        },
    ]


def _copies(route: Route, mirror: Mirror) -> Json:
    share = {"numerator": round(mirror.sample_pct * 100), "denominator": "TEN_THOUSAND"}
    return {
        "cluster": mirror_name(mirror),
        "runtime_fraction": {"default_value": share},
        "request_headers_mutations": [{"append": _overwrite(HEADER_HANDLE, route.handle)}],
    }


def _via(via: Via) -> Json:
    return {"filter_metadata": {METADATA: {"via": via}}}


def _action(route: Route) -> Json:
    attempts = 2 if route.shield else 1
    return {
        "regex_rewrite": {"pattern": {"regex": f"^/{route.handle}/?"}, "substitution": "/"},
        "timeout": _seconds(route.timeout_s * attempts),
        "retry_policy": _retry_policy(route),
    }


def _retry_policy(route: Route) -> Json:
    name = "envoy.retry_priorities.previous_priorities"
    kind = "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
    return {
        **_elsewhere(route),
        "num_retries": 1,
        "per_try_timeout": _seconds(route.timeout_s),
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
        "retry_priority": {"name": name, "typed_config": {"@type": TYPE + kind, "update_frequency": 1}},
    }


def _elsewhere(route: Route) -> Json:
    """Return what is tried again, and where: a request that a lost replica did not answer, another replica may."""
    if not any(backend.replicas for backend in route.backends):
        return {"retry_on": _SAFE_RETRIES}
    name = "envoy.retry_host_predicates.previous_hosts"
    kind = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    return {
        "retry_on": f"{_SAFE_RETRIES},{_LOST_RETRIES}" if route.shield else _SAFE_RETRIES,
        "retry_host_predicate": [{"name": name, "typed_config": {"@type": TYPE + kind}}],
        "host_selection_retry_max_attempts": 5,
    }


def _weights(route: Route, split: Split) -> Json:
    found = []
    for run in layout(split):
        is_stable = run.version == split.stable
        found.append({"name": name_of(route.handle, run.version, split.stable), "weight": run.parts})
        if route.shield and not is_stable:
            # Only a candidate's failure is tried again: there is nothing better to try a failure of stable on.
            found[-1]["request_headers_to_add"] = [_overwrite("x-envoy-retry-on", _SHIELD_RETRIES)]
    return {"use_hash_policy": True, "clusters": found}


def _hash_policy(route: Route) -> list[Json]:
    # The salt makes a user's place independent between handles. The cookie needs none: it is random per handle, and
    # its value must hash like the part of the request id that it was made from.
    salt = {"pattern": {"regex": "^(.*)$"}, "substitution": rf"\1|{route.handle}"}
    trim = {"pattern": {"regex": f"^(.{{{UNIT_ID_LENGTH}}}).*$"}, "substitution": r"\1"}
    return [
        {"header": {"header_name": HEADER_USER_ID, "regex_rewrite": salt}, "terminal": True},
        {"cookie": {"name": USER_COOKIE}, "terminal": True},
        {"header": {"header_name": HEADER_REQUEST_ID, "regex_rewrite": trim}, "terminal": True},
    ]


def _headers(handle: str) -> list[Json]:
    # From the endpoint's metadata, not from the route: truthful after a failover too.
    return [
        _overwrite(HEADER_HANDLE, handle),
        _overwrite(HEADER_VERSION, f"%UPSTREAM_METADATA({METADATA}:version)%"),
        _overwrite(HEADER_MODEL, f"%UPSTREAM_METADATA({METADATA}:model)%"),
    ]


def _new_cookie(handle: str) -> Json:
    attributes = f"Path=/{handle}; Max-Age={_COOKIE_MAX_AGE_S}; HttpOnly; SameSite=Lax"
    return {"header": {"key": "set-cookie", "value": f"{USER_COOKIE}={_NEW_UID}; {attributes}"}}


def _overwrite(key: str, value: str) -> Json:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _reply(route: Route, match: Json, status: int, reason: str, message: str) -> Json:
    return {
        "name": route.handle,
        "match": match,
        "response_headers_to_add": [_overwrite(HEADER_REASON, reason)],
        "direct_response": {"status": status, "body": {"inline_string": message}},
    }


def _rate_limit(rps: float) -> Json:
    tokens = max(1, math.ceil(rps))
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return {
        "envoy.filters.http.local_ratelimit": {
            "@type": TYPE + "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "rate_limit",
            "status": {"code": "TooManyRequests"},
            "token_bucket": {
                "max_tokens": tokens,
                "tokens_per_fill": tokens,
                "fill_interval": _seconds(tokens / rps),
            },
            "filter_enabled": always,
            "filter_enforced": always,
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
            "response_headers_to_add": [_overwrite("retry-after", str(max(1, math.ceil(1 / rps))))],
        }
    }


def _seconds(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".") + "s"


def document(resources: Sequence[Json], revision: str) -> bytes:
    """Return the bytes of a file that Envoy watches: a discovery response of one type."""
    value = {"version_info": revision, "resources": list(resources)}
    return json.dumps(value, indent=1).encode() + b"\n"
