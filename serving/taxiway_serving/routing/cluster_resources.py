"""Clusters in Envoy's own words: one variant, a candidate with failover to stable, and who gets mirrored copies.

Pure. Which of them a table needs is decided in `resources.py`.
"""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Final

from taxiway_serving.names import VariantId, cluster_name
from taxiway_serving.routing.router import Backend
from taxiway_serving.routing.side_routes import Mirror

Json = dict[str, Any]

TYPE: Final = "type.googleapis.com/"
METADATA: Final = "taxiway"

_MIRROR: Final = "mirror~"
_MIRRORED_AT_ONCE: Final = 64
LOST_S: Final = 3.0
"""Seconds without an acknowledgement after which a request to a replica that has others beside it is lost."""
_IPPROTO_TCP: Final = 6
_TCP_USER_TIMEOUT: Final = 18


def name_of(handle: str, version: int, stable: int | None = None) -> str:
    """Return the name of the cluster of a version, failing over to stable if that is given and another one."""
    return cluster_name(VariantId(handle=handle, version=version), None if stable == version else stable)


def mirror_name(mirror: Mirror) -> str:
    """Return the name of the cluster that copies go to: it holds the address, so that it can be read back."""
    return f"{_MIRROR}{mirror.host}:{mirror.port}"


def mirror_address(name: str) -> tuple[str, int] | None:
    """Return host and port from the name of a cluster, or None if no copies go to it."""
    host, _, port = name.removeprefix(_MIRROR).rpartition(":")
    return (host, int(port)) if name.startswith(_MIRROR) and port.isdecimal() else None


def variant_cluster(handle: str, backend: Backend) -> Json:
    """Return the cluster of one variant."""
    metadata = {"filter_metadata": {METADATA: {"version": str(backend.version), "model": backend.model}}}
    return {
        **_static(name_of(handle, backend.version), backend.addresses, metadata),
        # Envoy hands what it learns of a host to its workers up to this much later. Traffic that moves meanwhile would
        # be answered by stable, and held against the version.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"},
        "health_checks": [_health_check(backend.ready_path)],
        "outlier_detection": _outliers(),
        "circuit_breakers": _circuit_breakers(),
        "typed_extension_protocol_options": _http_options(),
        **(_gives_up_lost() if backend.replicas else {}),
    }


def failover_cluster(handle: str, candidate: int, stable: int) -> Json:
    """Return the cluster of a candidate whose failures are tried once more on stable."""
    members = [name_of(handle, candidate), name_of(handle, stable)]
    config = {"@type": TYPE + "envoy.extensions.clusters.aggregate.v3.ClusterConfig", "clusters": members}
    return {
        "@type": TYPE + "envoy.config.cluster.v3.Cluster",
        "name": name_of(handle, candidate, stable),
        "connect_timeout": "0.5s",
        "lb_policy": "CLUSTER_PROVIDED",
        "circuit_breakers": _circuit_breakers(),
        "cluster_type": {"name": "envoy.clusters.aggregate", "typed_config": config},
    }


def mirror_cluster(mirror: Mirror) -> Json:
    """Return the cluster that copies go to. Few at once: what hangs there must not fill Envoy's memory."""
    limits = {
        "max_connections": _MIRRORED_AT_ONCE,
        "max_pending_requests": _MIRRORED_AT_ONCE,
        "max_requests": _MIRRORED_AT_ONCE,
    }
    return {
        **_static(mirror_name(mirror), ((mirror.host, mirror.port),), {}),
        "circuit_breakers": {"thresholds": [limits]},
        "typed_extension_protocol_options": _http_options(),
    }


def _static(name: str, addresses: Sequence[tuple[str, int]], metadata: Json) -> Json:
    sockets = ({"socket_address": {"address": host, "port_value": port}} for host, port in addresses)
    endpoints = [{"endpoint": {"address": socket}, "metadata": metadata} for socket in sockets]
    return {
        "@type": TYPE + "envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC" if all(_is_number(host) for host, _ in addresses) else "STRICT_DNS",
        "connect_timeout": "0.5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }


def _is_number(host: str) -> bool:
    """Tell whether a host is an address itself; any other is a name, which Envoy asks for again and again."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _health_check(path: str) -> Json:
    # A refusal counts at once; only silence needs three, so that a busy Python worker is not taken for dead.
    return {
        "timeout": "2s",
        "interval": "1s",
        "no_traffic_interval": "1s",
        "unhealthy_interval": "0.5s",
        "unhealthy_threshold": 3,
        "healthy_threshold": 1,
        "http_health_check": {"path": path},
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


def _gives_up_lost() -> Json:
    """Close a connection whose other end does not even acknowledge: its node is gone, and another replica may answer.

    However busy a replica is, its kernel acknowledges at once.
    """
    ms = round(1e3 * LOST_S)
    option = {"level": _IPPROTO_TCP, "name": _TCP_USER_TIMEOUT, "int_value": ms, "state": "STATE_PREBIND"}
    return {"upstream_bind_config": {"socket_options": [option]}}


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
