"""Questions to Envoy's admin interface, and how its answers are read.

Only reads. Tolerant of what an answer has beside what was asked for, strict about what is missing.
"""

import errno
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx

from taxiway_serving.errors import TransportError

CLUSTERS_STAT: Final = "cluster_manager.cds"
SCOPES_STAT: Final = "http.gateway.scoped_rds.handles"
_WARMING_STAT: Final = "cluster_manager.warming_clusters"

_LOGGED: Final = r"^access_logs\.grpc_access_log\.logs_(written|dropped)$"

_HEALTHY: Final = ".membership_healthy"

_PAUSE_S: Final = 1.0
"""Seconds for which one that did not answer is not asked again: a look asks about each handle in turn."""
_MOST_APART_S: Final = 10.0
"""Seconds that an Envoy's clock may differ: above a slow answer, below what hides a version's first failures."""


class NobodyThereError(TransportError):
    """A connection was refused: no Envoy listens there."""


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
        token: What is shown where it is asked for; the admin interface itself never asks.
    """

    def __init__(self, url: str, *, timeout_s: float = 2.0, token: str = "") -> None:
        self._url = url
        self._healthy: Mapping[str, int] = {}
        self._fresh_until_s = 0.0
        self._silent_until_s, self._silence = 0.0, ""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(base_url=url, timeout=timeout_s, trust_env=False, headers=headers)

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

    def node(self) -> str | None:
        """Return the name of the Envoy that listens there, or None if none does.

        Raises:
            TransportError: If one listens but does not answer, or its clock is another than this host's: what it logs
                would count for other times.
        """
        try:
            answer = self._answer("/server_info")
        except ConnectionRefusedError:
            return None
        apart_s = _seconds_apart(answer)
        if apart_s > _MOST_APART_S:
            raise TransportError(
                self._url, f"its clock is {apart_s:.0f} s off this host's; keep both right (NTP)"
            )
        return str(self._parsed("/server_info", answer).get("node", {}).get("id", ""))

    def active_clusters(self, names: Iterable[str]) -> set[str]:
        """Return which of these clusters may be used now.

        Raises:
            TransportError: If Envoy could not be asked.
        """
        pattern = "^({})$".format("|".join(re.escape(name) for name in names))
        answer = self._ask("/config_dump", resource="dynamic_active_clusters", name_regex=pattern)
        return {item["cluster"]["name"] for item in answer.get("configs", []) if "cluster" in item}

    def routes(self, names: Iterable[str] | None = None) -> dict[str, Mapping[str, Any]]:
        """Return the route configurations that Envoy follows, by name.

        Args:
            names: Which ones; None is all.

        Raises:
            TransportError: If Envoy could not be asked.
        """
        wanted = {} if names is None else {"name_regex": "^({})$".format("|".join(names))}
        answer = self._ask("/config_dump", resource="dynamic_route_configs", **wanted)
        found = (item.get("route_config", {}) for item in answer.get("configs", []))
        return {config["name"]: config for config in found if "name" in config}

    def logged(self) -> int:
        """Return how many attempts Envoy has handed to its gRPC access log since it started.

        Raises:
            TransportError: If Envoy could not be asked.
        """
        counters = self._ask("/stats", format="json", type="Counters", usedonly="", filter=_LOGGED)
        return sum(int(stat.get("value", 0)) for stat in counters.get("stats", []))

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
        began_s = time.monotonic()
        if began_s > self._fresh_until_s:
            # One answer for all: a look at a thousand rollouts asks about a thousand clusters. It is believed for as
            # long as it took to get: asking fills half of the time at the most, and of few clusters nothing is stale.
            self._healthy = self._healthy_hosts()
            self._fresh_until_s = 2 * time.monotonic() - began_s
        return None if cluster not in self._healthy else self._healthy[cluster] > 0

    def active_requests(self, cluster: str) -> int:
        """Return how many requests are under way or waiting on a cluster; 0 if there is no such cluster.

        Raises:
            TransportError: If Envoy could not be asked.
        """
        pattern = rf"^cluster\.{cluster}\.upstream_rq_(pending_)?active$"
        try:
            return sum(int(value) for value in self._stats(pattern).values())
        except ConnectionRefusedError as exc:
            raise NobodyThereError(self._url, "no Envoy listens there") from exc

    def _healthy_hosts(self) -> dict[str, int]:
        try:
            found = self._stats(rf"^cluster\..+{re.escape(_HEALTHY)}$")
        except ConnectionRefusedError as exc:
            raise NobodyThereError(self._url, "no Envoy listens there") from exc
        return {
            name.removeprefix("cluster.").removesuffix(_HEALTHY): int(value) for name, value in found.items()
        }

    def _stats(self, pattern: str) -> dict[str, Any]:
        # Most statistics of a cluster were never counted; without them, asking costs Envoy a fifth.
        stats = self._get("/stats", format="json", usedonly="", filter=pattern).get("stats", [])
        return {stat["name"]: stat.get("value", 0) for stat in stats if "name" in stat}

    def _ask(self, path: str, **params: str) -> Any:
        try:
            return self._get(path, **params)
        except ConnectionRefusedError as exc:
            raise NobodyThereError(self._url, "no Envoy listens there") from exc

    def _get(self, path: str, **params: str) -> Any:
        return self._parsed(path, self._answer(path, **params))

    def _parsed(self, path: str, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError as exc:
            raise TransportError(self._url + path, f"{type(exc).__name__}: {exc}") from exc

    def _answer(self, path: str, **params: str) -> httpx.Response:
        if time.monotonic() < self._silent_until_s:
            raise TransportError(self._url + path, self._silence)
        try:
            return self._client.get(path, params=params).raise_for_status()
        except httpx.HTTPError as exc:
            if _is_refused(exc):
                self._fresh_until_s = 0.0
                raise ConnectionRefusedError(str(exc)) from exc
            reason = f"{type(exc).__name__}: {exc}"
            if isinstance(exc, (httpx.TimeoutException, httpx.ConnectError)):
                self._silent_until_s, self._silence = time.monotonic() + _PAUSE_S, reason
            raise TransportError(self._url + path, reason) from exc


def _is_refused(error: BaseException | None) -> bool:
    """Tell whether the host itself said that nobody listens. A name or a network that fails says nothing of it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
            return True
        error = error.__cause__ or error.__context__
    return False


def _seconds_apart(answer: httpx.Response) -> float:
    """Return how far the clock of who answered is from this host's; 0 where the answer does not say."""
    try:
        return abs(time.time() - parsedate_to_datetime(answer.headers["date"]).timestamp())
    except (KeyError, ValueError):
        return 0.0


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
