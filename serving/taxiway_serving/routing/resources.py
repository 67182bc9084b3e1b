"""What a table of routes is in Envoy's own words: clusters and scoped routes, as plain JSON values.

Pure: no file, clock or network. `clusters` and `scopes` are the way there; `split_of` reads a split back from what
Envoy says it routes by. Names: cluster `visual_recognition/7` is one variant; `visual_recognition/8~7` is canary 8
that fails over to stable 7; a scope and its routes are named by the handle.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from taxiway_serving.names import (
    HEADER_HANDLE,
    HEADER_MODEL,
    HEADER_REASON,
    HEADER_REQUEST_ID,
    HEADER_UNIT,
    HEADER_USER_ID,
    HEADER_VERSION,
    READY_PATH,
    UNIT_ID_LENGTH,
    USER_COOKIE,
    VariantId,
    assigned_version,
    cluster_name,
)
from taxiway_serving.routing.router import Backend, Route, Table
from taxiway_serving.split import Split

Json = dict[str, Any]

TYPE: Final = "type.googleapis.com/"
METADATA: Final = "taxiway"

# Requests of this size can still be retried on stable, because Envoy keeps a copy until the answer comes.
RETRY_BODY_BYTES: Final = 8 * 1024 * 1024

_COOKIE_MAX_AGE_S: Final = 30 * 24 * 3600
_SAFE_RETRIES: Final = "connect-failure,refused-stream,reset-before-request"
_SHIELD_RETRIES: Final = "5xx,reset"
_NEW_UID: Final = f"%REQ({HEADER_REQUEST_ID}):{UNIT_ID_LENGTH}%"


def clusters(table: Table) -> list[Json]:
    """Return the clusters of a table: one per backend, and one with failover per canary."""
    found = []
    for route in table.routes:
        found += [_cluster(route.handle, backend) for backend in route.backends]
        if route.split is not None:
            found += [_failover(route.handle, v, route.split.stable) for v in route.split.canaries]
    return found


def scopes(table: Table) -> list[Json]:
    """Return one scoped route configuration per handle, found by the first segment of the path.

    Its routes, first match wins: pinned version; unknown pinned version; then live traffic for a user, for a client
    with our cookie, and for a new client, which is given one.
    """
    return [_scope(route) for route in table.routes]


def lingering(made: Sequence[Json], clusters: Iterable[Json], scopes: Iterable[Json]) -> list[Json]:
    """Return the clusters that live traffic is sent to now and that are not made again.

    Envoy's workers follow a new route a moment after Envoy reports it. A canary's failover cluster that goes at that
    moment costs a request (503, `cluster_not_found`), so it stays until the table after.

    Args:
        made: Clusters of the table to be.
        clusters: Clusters that Envoy has.
        scopes: Routes that Envoy follows.
    """
    used = {cluster["name"] for scope in scopes for cluster in _weighted(scope)}
    gone = used - {cluster["name"] for cluster in made}
    return [cluster for cluster in clusters if cluster["name"] in gone]


def split_of(scope: Mapping[str, Any]) -> Split | None:
    """Return the split of a scope as Envoy dumps it, or None if it has no live traffic.

    Tolerant of whatever else Envoy adds to a dump; zero weights may be missing in it.
    """
    weighted = _weighted(scope)
    if not weighted:
        return None
    versions = [assigned_version(cluster["name"]) for cluster in weighted]
    parts = {v: int(c.get("weight", 0)) for v, c in zip(versions, weighted, strict=True) if v is not None}
    stable = versions[-1]
    return Split(stable=stable, parts=parts) if stable is not None else None


def _weighted(scope: Mapping[str, Any]) -> list[Json]:
    hosts = scope.get("route_configuration", scope).get("virtual_hosts", [])
    routes = [route.get("route", {}) for host in hosts for route in host.get("routes", [])]
    return next((r["weighted_clusters"]["clusters"] for r in routes if "weighted_clusters" in r), [])


def _cluster(handle: str, backend: Backend) -> Json:
    name = _name(handle, backend.version)
    metadata = {"filter_metadata": {METADATA: {"version": str(backend.version), "model": backend.model}}}
    address = {"socket_address": {"address": backend.host, "port_value": backend.port}}
    endpoint = {"endpoint": {"address": address}, "metadata": metadata}
    return {
        "@type": TYPE + "envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "0.5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "health_checks": [_health_check()],
        "outlier_detection": _outliers(),
        "circuit_breakers": _circuit_breakers(),
        "typed_extension_protocol_options": _http_options(),
    }


def _name(handle: str, version: int, stable: int | None = None) -> str:
    return cluster_name(VariantId(handle=handle, version=version), stable)


def _failover(handle: str, canary: int, stable: int) -> Json:
    members = [_name(handle, canary), _name(handle, stable)]
    config = {"@type": TYPE + "envoy.extensions.clusters.aggregate.v3.ClusterConfig", "clusters": members}
    return {
        "@type": TYPE + "envoy.config.cluster.v3.Cluster",
        "name": _name(handle, canary, stable),
        "connect_timeout": "0.5s",
        "lb_policy": "CLUSTER_PROVIDED",
        "circuit_breakers": _circuit_breakers(),
        "cluster_type": {"name": "envoy.clusters.aggregate", "typed_config": config},
    }


def _health_check() -> Json:
    # A refusal by /readyz counts at once; only silence needs three, so that a busy Python worker is not taken for dead.
    return {
        "timeout": "2s",
        "interval": "1s",
        "no_traffic_interval": "1s",
        "unhealthy_interval": "0.5s",
        "unhealthy_threshold": 3,
        "healthy_threshold": 1,
        "http_health_check": {"path": READY_PATH},
    }


def _outliers() -> Json:
    # Only failures to connect or to answer at all eject: ejecting the one host of stable for its 5xx would turn
    # some bad requests into an outage, and a canary's 5xx are the guards' business.
    return {
        "split_external_local_origin_errors": True,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "consecutive_local_origin_failure": 3,
        "interval": "1s",
        "base_ejection_time": "1s",
        "max_ejection_time": "5s",
        "max_ejection_percent": 100,
    }


def _circuit_breakers() -> Json:
    # Without a budget Envoy allows three retries at once and drops the others silently.
    budget = {"budget_percent": {"value": 50}, "min_retry_concurrency": 50}
    limits = {
        "max_connections": 1024,
        "max_pending_requests": 256,
        "max_requests": 512,
        "retry_budget": budget,
    }
    return {"thresholds": [limits]}


def _http_options() -> Json:
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        name: {
            "@type": TYPE + name,
            # Below uvicorn's keep-alive of 5 s, so that Envoy never sends on a connection that is being closed.
            "common_http_protocol_options": {"idle_timeout": "4s"},
            "explicit_http_config": {"http_protocol_options": {}},
        }
    }


def _scope(route: Route) -> Json:
    match = {"path_separated_prefix": f"/{route.handle}"}
    host: Json = {
        "name": route.handle,
        "domains": ["*"],
        "include_request_attempt_count": True,
        "include_attempt_count_in_response": True,
        "request_body_buffer_limit": RETRY_BODY_BYTES,
        "routes": [*_pinned(route, match), _unknown_pin(route, match), *_live(route, match)],
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
        "response_headers_to_add": _headers(route.handle),
        "route": {**_action(route), "cluster": _name(route.handle, backend.version)},
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


def _live(route: Route, match: Json) -> list[Json]:
    if route.split is None:
        message = f"{route.handle} has no live version yet; pin one with {HEADER_VERSION}"
        return [_reply(route, match, 503, "no_live_version", message)]
    action = {
        **_action(route),
        "hash_policy": _hash_policy(route),
        "weighted_clusters": _weights(route, route.split),
    }
    user = {"name": HEADER_USER_ID, "present_match": True}
    cookie = {"name": "cookie", "string_match": {"safe_regex": {"regex": rf"(^|.*;\s*){USER_COOKIE}=.*"}}}
    headers = _headers(route.handle)
    common = {"name": route.handle, "route": action, "response_headers_to_add": headers}
    known = _overwrite(HEADER_UNIT, f"%DYNAMIC_METADATA({METADATA}:uid)%")
    new = _overwrite(HEADER_UNIT, _NEW_UID)
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
        "retry_on": _SAFE_RETRIES,
        "num_retries": 1,
        "per_try_timeout": _seconds(route.timeout_s),
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
        "retry_priority": {"name": name, "typed_config": {"@type": TYPE + kind, "update_frequency": 1}},
    }


def _weights(route: Route, split: Split) -> Json:
    found = []
    for version, parts in split.parts.items():
        is_stable = version == split.stable
        name = _name(route.handle, version, None if is_stable else split.stable)
        found.append({"name": name, "weight": parts})
        if route.shield and not is_stable:
            # Only a canary's failure is tried again: there is nothing better to try a failure of stable on.
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
