"""Questions to Envoy's admin interface, and how its answers are read.

Only reads. Tolerant of what an answer has beside what was asked for, strict about what is missing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from taxiway_serving.errors import TransportError

CLUSTERS_STAT: Final = "cluster_manager.cds"
SCOPES_STAT: Final = "http.gateway.scoped_rds.handles"
_WARMING_STAT: Final = "cluster_manager.warming_clusters"

_FAULTS: Final = (
    "failed_active_health_check",
    "failed_outlier_check",
    "pending_active_hc",
    "pending_dynamic_removal",
    "excluded_via_immediate_hc_fail",
    "active_hc_timeout",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Which configuration an Envoy runs.

    Attributes:
        versions: Per kind (`CLUSTERS_STAT`, `SCOPES_STAT`) the revision that it took last.
        rejections: Per kind how many updates it refused since it started.
        warming: Clusters that it took but cannot use yet.
    """

    versions: Mapping[str, str]
    rejections: Mapping[str, int]
    warming: int

    def runs(self, revision: str) -> bool:
        """Tell whether everything is at this revision and in use."""
        return self.warming == 0 and all(version == revision for version in self.versions.values())


class Admin:
    """One Envoy's admin interface.

    Args:
        url: Its address, without a slash at its end.
        timeout_s: Seconds until an answer is given up.
    """

    def __init__(self, url: str, *, timeout_s: float = 2.0) -> None:
        self._url = url
        self._client = httpx.Client(base_url=url, timeout=timeout_s, trust_env=False)

    def close(self) -> None:
        """Close the connections. The interface can be used again afterwards."""
        self._client.close()

    def configuration(self) -> Configuration | None:
        """Return which configuration runs, or None if no Envoy listens there.

        Raises:
            TransportError: If one listens but does not answer.
        """
        kinds = f"({CLUSTERS_STAT}|{SCOPES_STAT})".replace(".", r"\.")
        pattern = rf"^({kinds}\.(version_text|update_rejected|update_failure)|{_WARMING_STAT})$"
        try:
            values = self._stats(pattern)
        except ConnectionRefusedError:
            return None
        return _configuration(values)

    def scope(self, handle: str) -> Mapping[str, Any] | None:
        """Return the scoped route configuration of a handle as it runs, or None if there is none.

        Raises:
            TransportError: If Envoy could not be asked.
        """
        answer = self._ask("/config_dump", resource="dynamic_scoped_route_configs")
        configs = (
            item for group in answer.get("configs", []) for item in group.get("scoped_route_configs", [])
        )
        return next((config for config in configs if config.get("name") == handle), None)

    def is_healthy(self, cluster: str) -> bool | None:
        """Tell whether a cluster has a host that may get traffic; None if there is no such cluster.

        Raises:
            TransportError: If Envoy could not be asked.
        """
        answer = self._ask("/clusters", format="json")
        found = next((c for c in answer.get("cluster_statuses", []) if c.get("name") == cluster), None)
        return None if found is None else any(_is_fit(host) for host in found.get("host_statuses", []))

    def active_requests(self, cluster: str) -> int:
        """Return how many requests are under way or waiting on a cluster; 0 if there is no such cluster.

        Raises:
            TransportError: If Envoy could not be asked.
        """
        pattern = rf"^cluster\.{cluster}\.upstream_rq_(pending_)?active$"
        try:
            return sum(int(value) for value in self._stats(pattern).values())
        except ConnectionRefusedError as exc:
            raise TransportError(self._url, "no Envoy listens there") from exc

    def _stats(self, pattern: str) -> dict[str, Any]:
        stats = self._get("/stats", format="json", filter=pattern).get("stats", [])
        return {stat["name"]: stat.get("value", 0) for stat in stats if "name" in stat}

    def _ask(self, path: str, **params: str) -> Any:
        try:
            return self._get(path, **params)
        except ConnectionRefusedError as exc:
            raise TransportError(self._url, "no Envoy listens there") from exc

    def _get(self, path: str, **params: str) -> Any:
        try:
            return self._client.get(path, params=params).raise_for_status().json()
        except httpx.ConnectError as exc:
            raise ConnectionRefusedError(str(exc)) from exc
        except (httpx.HTTPError, ValueError) as exc:
            raise TransportError(self._url + path, f"{type(exc).__name__}: {exc}") from exc


def _configuration(values: Mapping[str, Any]) -> Configuration:
    kinds = (CLUSTERS_STAT, SCOPES_STAT)
    return Configuration(
        versions={kind: str(values.get(f"{kind}.version_text", "")) for kind in kinds},
        rejections={kind: _refusals(values, kind) for kind in kinds},
        warming=int(values.get(_WARMING_STAT, 0)),
    )


def _refusals(values: Mapping[str, Any], kind: str) -> int:
    # What is well-formed but wrong counts as rejected, what cannot be parsed as a failure.
    return sum(int(values.get(f"{kind}.{name}", 0)) for name in ("update_rejected", "update_failure"))


def _is_fit(host: Mapping[str, Any]) -> bool:
    health = host.get("health_status", {})
    return health.get("eds_health_status", "HEALTHY") == "HEALTHY" and not _any_true(health, _FAULTS)


def _any_true(health: Mapping[str, Any], names: Iterable[str]) -> bool:
    return any(health.get(name) is True for name in names)
