"""What Envoy's static configuration has for a fleet: where the controllers are, and what it asks and tells them.

The rest of it is in `bootstrap.py`.
"""

from collections.abc import Mapping
from typing import Final

from taxiway_serving.names import HEADER_CONTRACT, HEADER_REQUEST_ID, HEADER_UNIT, HEADER_USER_ID
from taxiway_serving.routing.cluster_resources import METADATA, TYPE, Json
from taxiway_serving.settings import ServingSettings

CONTROLLERS: Final = "taxiway_controllers"
LOG_NAME: Final = "taxiway_attempts"

_ADMIN: Final = "taxiway_admin"
_READ_PATHS: Final = ("/server_info", "/config_dump", "/clusters", "/stats")
_FLUSH: Final = "0.1s"

_HEADERS: Final[Mapping[str, str]] = {
    "request_id": HEADER_REQUEST_ID,
    "user": HEADER_USER_ID,
    "uid": HEADER_UNIT,
    "number": "x-envoy-attempt-count",
}
"""Fields of an attempt that a request carries itself. One that it does not carry is left out."""

_FORMATS: Final[Mapping[str, str]] = {
    "at_s": "%START_TIME(%s.%3f)%",
    "handle": "%ROUTE_NAME%",
    "via": f"%METADATA(ROUTE:{METADATA}:via)%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "version": f"%UPSTREAM_METADATA({METADATA}:version)%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "duration_ms": "%DURATION%",
    # From the last byte of the request that was sent until the first of the answer: no client can lengthen it.
    "answer_us": "%COMMON_DURATION(US_TX_END:US_RX_BEG:us)%",
    # What the service itself says of this answer; the gateway reads no body.
    "contract": f"%RESP({HEADER_CONTRACT})%",
}


def attempt_line() -> Json:
    """Return the JSON of one attempt on a variant; `evidence/access_log.py` reads it."""
    return {**_FORMATS, **{name: f"%REQ({header})%" for name, header in _HEADERS.items()}}


def told_attempts(token: str) -> Json:
    """Return the log that tells the controller every attempt, with the fields that `attempt_line` has."""
    tags: list[Json] = [{"tag": name, "value": text} for name, text in _FORMATS.items()]
    tags += [{"tag": name, "request_header": {"name": header}} for name, header in _HEADERS.items()]
    common = {
        "log_name": LOG_NAME,
        "transport_api_version": "V3",
        "grpc_service": _service(token),
        "buffer_flush_interval": _FLUSH,
        "custom_tags": tags,
    }
    kind = TYPE + "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig"
    return {
        "name": "envoy.access_loggers.http_grpc",
        "typed_config": {"@type": kind, "common_config": common},
    }


def from_controller() -> Json:
    """Return a source of configuration that is the controller. Envoy waits for it, however long it is away."""
    return {"resource_api_version": "V3", "initial_fetch_timeout": "0s", "ads": {}}


def asking(token: str) -> Json:
    """Return how Envoy asks the controller: one stream, and only what has changed."""
    return {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "grpc_services": [_service(token)],
        "set_node_on_first_message_only": True,
    }


def controllers(settings: ServingSettings, token: str) -> Json:
    """Return the cluster of all controllers. Only the one that leads listens, so only that one is healthy."""
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}
        for host, port in settings.controller_ads_addresses
    ]
    protocol = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    # A controller whose machine has gone says nothing: after this long, the stream is given up.
    http2 = {"connection_keepalive": {"interval": "2s", "timeout": "3s"}}
    return {
        "name": CONTROLLERS,
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "dns_refresh_rate": "1s",
        "connect_timeout": "0.5s",
        "load_assignment": {"cluster_name": CONTROLLERS, "endpoints": [{"lb_endpoints": endpoints}]},
        "common_lb_config": {"update_merge_window": "0s"},
        "health_checks": [
            {
                "timeout": "2s",
                "interval": "0.5s",
                "no_traffic_interval": "0.5s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                # A process that hangs still accepts connections: only an answer counts.
                "grpc_health_check": {"initial_metadata": [{"header": _shown(token)}]},
            }
        ],
        "close_connections_on_host_health_failure": True,
        "typed_extension_protocol_options": {
            protocol: {"@type": TYPE + protocol, "explicit_http_config": {"http2_protocol_options": http2}}
        },
    }


def reading_listener(settings: ServingSettings, token: str) -> Json:
    """Return the listener behind which the admin interface can be read, and nothing else, by who has the token."""
    port = settings.envoy_read_port
    if settings.envoy_admin_port == settings.envoy_spare_admin_port:
        port += 1
    manager = {
        "@type": TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "reading",
        "normalize_path": True,
        "route_config": {
            "name": "reading",
            "virtual_hosts": [{"name": "reading", "domains": ["*"], "routes": _readable(token)}],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": TYPE + "envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    return {
        "name": "reading",
        "address": {"socket_address": {"address": settings.envoy_host, "port_value": port}},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
    }


def admin_cluster(settings: ServingSettings) -> Json:
    """Return the cluster of this Envoy's own admin interface."""
    socket = {"socket_address": {"address": "127.0.0.1", "port_value": settings.envoy_admin_port}}
    return {
        "name": _ADMIN,
        "type": "STATIC",
        "connect_timeout": "0.5s",
        "load_assignment": {
            "cluster_name": _ADMIN,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket}}]}],
        },
    }


def _readable(token: str) -> list[Json]:
    shown = [
        {"name": ":method", "string_match": {"exact": "GET"}},
        {"name": "authorization", "string_match": {"exact": f"Bearer {token}"}},
    ]
    allowed = [
        {"match": {"path": path, "headers": shown}, "route": {"cluster": _ADMIN, "timeout": "10s"}}
        for path in _READ_PATHS
    ]
    return [*allowed, {"match": {"prefix": "/"}, "direct_response": {"status": 401}}]


def _service(token: str) -> Json:
    back_off = {"base_interval": "0.1s", "max_interval": "1s"}
    return {
        "envoy_grpc": {"cluster_name": CONTROLLERS, "retry_policy": {"retry_back_off": back_off}},
        "initial_metadata": [_shown(token)],
    }


def _shown(token: str) -> Json:
    """Return the header by which the controller knows this Envoy."""
    return {"key": "authorization", "value": f"Bearer {token}"}
