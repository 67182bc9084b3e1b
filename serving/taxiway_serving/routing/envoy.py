"""The router that is one Envoy on this host, told by files and read back through its admin interface.

Which resources a table is lies in `resources.py`; how Envoy starts in `bootstrap.py`.
"""

import json
import re
import time
from pathlib import Path
from typing import Final

from taxiway_serving.answers import Answer
from taxiway_serving.errors import ConflictError, TransportError
from taxiway_serving.names import VariantId, cluster_name
from taxiway_serving.routing import read_back, resources
from taxiway_serving.routing.admin import CLUSTERS_STAT, SCOPES_STAT, Admin, Configuration
from taxiway_serving.routing.cluster_resources import Json
from taxiway_serving.routing.files import ConfigFiles, read, replace
from taxiway_serving.routing.router import Revision, Table
from taxiway_serving.routing.side_routes import SideRoutes
from taxiway_serving.settings import ServingSettings
from taxiway_serving.split import Split

_POLL_S: Final = 0.01
_REASON_WAIT_S: Final = 0.5
_REASON_LENGTH: Final = 1000
_REFUSAL: Final = re.compile(r"reject|failure|error", re.IGNORECASE)


class EnvoyRouter:
    """Publishes tables to one Envoy. A `Router`.

    While no Envoy runs, tables are still published: it starts from them. A revision that it refuses is taken out of
    the files again, so that an Envoy that restarts finds the last good one.

    Args:
        settings: Where Envoy's files and its admin interface are.
        patience_s: Seconds that Envoy may take to use or refuse a new file. It needs about 10 ms, and up to a health
            check's timeout of 2 s for the cluster of a variant that hangs.
    """

    def __init__(self, settings: ServingSettings, *, patience_s: float = 5.0) -> None:
        self._files = ConfigFiles(settings.envoy_dir)
        self._log = settings.envoy_dir / "envoy.log"
        self._admin = Admin(settings.envoy_admin_url)
        self._patience_s = patience_s
        self._refused: dict[Revision, str] = {}

    def close(self) -> None:
        """Close the connections to the admin interface."""
        self._admin.close()

    def publish(self, table: Table, *, allow_empty: bool = False) -> Revision:
        """Replace the clusters, wait until Envoy uses them, then replace the routes.

        Clusters that live traffic leaves with this table stay until the next one.

        See `Router.publish`. A revision that was refused before is not tried again.
        """
        if not table.routes and not allow_empty and _resources(self._files.scopes):
            raise ConflictError(
                "an empty table",
                "would take every endpoint away",
                "publish the endpoints, or pass allow_empty=True",
            )
        revision = table.revision()
        before = self._admin.configuration()
        if revision in self._refused or (
            before is not None and before.runs(revision) and self._on_disk(revision)
        ):
            return revision
        made = resources.clusters(table)
        made += resources.lingering(made, _resources(self._files.clusters), _resources(self._files.scopes))
        clusters = resources.document(made, revision)
        scopes = resources.document(resources.scopes(table), revision)
        old_clusters = read(self._files.clusters)
        if self._place(self._files.clusters, clusters, revision, CLUSTERS_STAT, before):
            is_taken = self._place(self._files.scopes, scopes, revision, SCOPES_STAT, before)
            if not is_taken and old_clusters is not None:
                replace(self._files.clusters, old_clusters)
        return revision

    def applied(self, revision: Revision) -> Answer:
        """Answer from the versions that Envoy reports; unknown while none runs. See `Router.applied`."""
        try:
            configuration = self._admin.configuration()
        except TransportError:
            return Answer.UNKNOWN
        return Answer.of(None if configuration is None else configuration.runs(revision))

    def rejection(self, revision: Revision) -> str | None:
        """Return the line of Envoy's log that says why, as far as there is one. See `Router.rejection`."""
        return self._refused.get(revision)

    def observed(self, handle: str) -> Split | None:
        """Return the split in Envoy's own dump of its configuration. See `Router.observed`."""
        scope = self._admin.scope(handle)
        return None if scope is None else read_back.split_of(scope)

    def observed_routes(self, handle: str) -> SideRoutes:
        """Return what Envoy's own dump has beside the split. See `Router.observed_routes`."""
        scope = self._admin.scope(handle)
        return SideRoutes() if scope is None else read_back.side_routes_of(scope)

    def warm(self, variant: VariantId) -> Answer:
        """Answer whether its cluster exists and its host passes the health check. See `Router.warm`."""
        try:
            return Answer.of(self._admin.is_healthy(cluster_name(variant)) is True)
        except TransportError:
            return Answer.UNKNOWN

    def drained(self, variant: VariantId) -> Answer:
        """Answer whether nothing is under way or waiting on its cluster. See `Router.drained`."""
        try:
            return Answer.of(self._admin.active_requests(cluster_name(variant)) == 0)
        except TransportError:
            return Answer.UNKNOWN

    def _place(
        self, path: Path, content: bytes, revision: Revision, kind: str, before: Configuration | None
    ) -> bool:
        """Replace one file and wait for Envoy's word; put the old one back and return False if it refuses."""
        old = read(path)
        log_offset = self._log.stat().st_size if self._log.exists() else 0
        replace(path, content)
        if before is None or self._taken(revision, kind, before.rejections[kind]):
            return True
        if old is not None:
            replace(path, old)
        self._refused[revision] = _reason(self._log, log_offset)
        return False

    def _taken(self, revision: Revision, kind: str, rejections: int) -> bool:
        deadline = time.monotonic() + self._patience_s
        while time.monotonic() < deadline:
            now = self._admin.configuration()
            if now is None or (now.versions[kind] == revision and now.warming == 0):
                return True
            if now.rejections[kind] > rejections:
                return False
            time.sleep(_POLL_S)
        raise TransportError(kind, f"Envoy neither used nor refused {revision} within {self._patience_s:g} s")

    def _on_disk(self, revision: Revision) -> bool:
        return all(_revision_of(path) == revision for path in (self._files.clusters, self._files.scopes))


def _parsed(path: Path) -> dict[str, object]:
    content = read(path)
    try:
        value = json.loads(content) if content else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _revision_of(path: Path) -> object:
    return _parsed(path).get("version_info")


def _resources(path: Path) -> list[Json]:
    found = _parsed(path).get("resources")
    return found if isinstance(found, list) else []


def _reason(log: Path, offset: int) -> str:
    """Return what Envoy wrote about a refusal. It writes its log with a delay, so look for a moment."""
    deadline = time.monotonic() + _REASON_WAIT_S
    while time.monotonic() < deadline:
        lines = (read(log) or b"")[offset:].decode(errors="replace").splitlines()
        told = [line for line in lines if _REFUSAL.search(line)]
        if told:
            return told[0][:_REASON_LENGTH]
        time.sleep(_POLL_S)
    return f"Envoy refused the configuration and did not say why; see {log}"
