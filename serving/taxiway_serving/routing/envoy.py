"""The router that is one Envoy on this host, told by files and read back through its admin interface.

Which resources a table is lies in `resources.py`; how Envoy starts in `bootstrap.py`.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from taxiway_serving.answers import Answer
from taxiway_serving.errors import ConflictError, TransportError
from taxiway_serving.names import VariantId, cluster_name
from taxiway_serving.routing import read_back, resources
from taxiway_serving.routing.admin import CLUSTERS_STAT, SCOPES_STAT, Admin, Configuration, NobodyThereError
from taxiway_serving.routing.cluster_resources import Json
from taxiway_serving.routing.files import ConfigFiles, read, replace
from taxiway_serving.routing.refusals import refusal_in
from taxiway_serving.routing.router import Revision, Table, always_may
from taxiway_serving.routing.side_routes import SideRoutes
from taxiway_serving.settings import ServingSettings
from taxiway_serving.split import Split

T = TypeVar("T")

_POLL_S: Final = 0.01
_REASON_WAIT_S: Final = 0.5


class EnvoyRouter:
    """Publishes tables to one Envoy. A `Router`.

    While no Envoy runs, tables are still published: it starts from them. A revision that it refuses is taken out of
    the files again, so that an Envoy that restarts finds the last good one.

    Args:
        settings: Where Envoy's files and its admin interface are.
        patience_s: Seconds that Envoy may take to use or refuse a new file. It needs about 10 ms, and up to a health
            check's timeout of 2 s for the cluster of a variant that hangs.
        may_act: Called before each file is replaced; raises if another controller leads: seconds lie between two.
    """

    def __init__(
        self,
        settings: ServingSettings,
        *,
        patience_s: float = 5.0,
        may_act: Callable[[], None] = always_may,
    ) -> None:
        self._files = ConfigFiles(settings.envoy_dir)
        self._log = settings.envoy_dir / "envoy.log"
        self._admins = [Admin(url) for url in settings.own_admin_urls]
        self._patience_s, self._may_act = patience_s, may_act
        self._refused: dict[Revision, str] = {}

    def close(self) -> None:
        """Close the connections to the admin interfaces."""
        for admin in self._admins:
            admin.close()

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
        before = self._running()
        runs_already = bool(before) and all(each.runs(revision) for each in before.values())
        if revision in self._refused or (runs_already and self._on_disk(revision)):
            return revision
        made = resources.clusters(table)
        made += resources.lingering(made, _resources(self._files.clusters), _resources(self._files.scopes))
        clusters = resources.document(made, revision)
        scopes = resources.document(resources.scopes(table), revision)
        old_clusters = read(self._files.clusters)
        if self._place(self._files.clusters, clusters, revision, CLUSTERS_STAT, before):
            is_taken = self._place(self._files.scopes, scopes, revision, SCOPES_STAT, before)
            if not is_taken and old_clusters is not None:
                self._write(self._files.clusters, old_clusters)
        return revision

    def applied(self, revision: Revision) -> Answer:
        """Answer from the versions that Envoy reports; unknown while none runs. See `Router.applied`."""
        try:
            running = self._running().values()
        except TransportError:
            return Answer.UNKNOWN
        return Answer.of(all(each.runs(revision) for each in running) if running else None)

    def rejection(self, revision: Revision) -> str | None:
        """Return the line of Envoy's log that says why, as far as there is one. See `Router.rejection`."""
        return self._refused.get(revision)

    def observed(self, handle: str) -> Split | None:
        """Return the split in Envoy's own dump of its configuration. See `Router.observed`."""
        return self._agreed(lambda admin: _split(admin.scope(handle)))

    def observed_routes(self, handle: str) -> SideRoutes:
        """Return what Envoy's own dump has beside the split. See `Router.observed_routes`."""
        return self._agreed(lambda admin: _sides(admin.scope(handle)))

    def warm(self, variant: VariantId) -> Answer:
        """Answer whether its cluster exists and its host passes the health check. See `Router.warm`."""
        name = cluster_name(variant)
        try:
            return Answer.of(all(self._ask(lambda admin: admin.is_healthy(name) is True)))
        except TransportError:
            return Answer.UNKNOWN

    def drained(self, variant: VariantId) -> Answer:
        """Answer whether nothing is under way or waiting on its cluster. See `Router.drained`."""
        try:
            return Answer.of(self.in_flight(variant) == 0)
        except TransportError:
            return Answer.UNKNOWN

    def in_flight(self, variant: VariantId) -> int:
        """Return what is under way or waiting on its cluster. See `Router.in_flight`."""
        name = cluster_name(variant)
        return sum(self._ask(lambda admin: admin.active_requests(name)))

    def _running(self) -> dict[Admin, Configuration]:
        """Return what each Envoy runs; there are two while one is replaced."""
        found = ((admin, admin.configuration()) for admin in self._admins)
        return {admin: each for admin, each in found if each is not None}

    def _ask(self, question: Callable[[Admin], T]) -> list[T]:
        """Return the answers of all Envoys that run."""
        answers: list[T] = []
        refusals: list[TransportError] = []
        for admin in self._admins:
            try:
                answers.append(question(admin))
            except NobodyThereError as error:
                refusals.append(error)
        if not answers:
            raise refusals[0]
        return answers

    def _agreed(self, question: Callable[[Admin], T]) -> T:
        first, *others = self._ask(question)
        if any(other != first for other in others):
            raise TransportError("Envoy", "one is replaced by another, and they do not route alike yet")
        return first

    def _place(
        self, path: Path, content: bytes, revision: Revision, kind: str, before: Mapping[Admin, Configuration]
    ) -> bool:
        """Replace one file and wait for Envoy's word; put the old one back and return False if it refuses."""
        old = read(path)
        log_offset = self._log.stat().st_size if self._log.exists() else 0
        self._write(path, content)
        if not before or self._taken(revision, kind, before):
            return True
        if old is not None:
            self._write(path, old)
        self._refused[revision] = _reason(self._log, log_offset)
        return False

    def _write(self, path: Path, content: bytes) -> None:
        self._may_act()
        replace(path, content)

    def _taken(self, revision: Revision, kind: str, before: Mapping[Admin, Configuration]) -> bool:
        deadline = time.monotonic() + self._patience_s
        while time.monotonic() < deadline:
            running = self._running()
            if all(now.versions[kind] == revision and now.warming == 0 for now in running.values()):
                return True
            if any(admin in before and _refuses(now, before[admin], kind) for admin, now in running.items()):
                return False
            time.sleep(_POLL_S)
        raise TransportError(kind, f"Envoy neither used nor refused {revision} within {self._patience_s:g} s")

    def _on_disk(self, revision: Revision) -> bool:
        return all(_revision_of(path) == revision for path in (self._files.clusters, self._files.scopes))


def _refuses(now: Configuration, before: Configuration, kind: str) -> bool:
    return now.rejections[kind] > before.rejections[kind]


def _split(scope: Mapping[str, Any] | None) -> Split | None:
    return None if scope is None else read_back.split_of(scope)


def _sides(scope: Mapping[str, Any] | None) -> SideRoutes:
    return SideRoutes() if scope is None else read_back.side_routes_of(scope)


def _parsed(path: Path) -> dict[str, object]:
    content = read(path)
    try:
        value = json.loads(content) if content else {}
    except ValueError:
        # Not what was written here: it holds no cluster to keep, and is replaced whole.
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
        told = refusal_in((read(log) or b"")[offset:].decode(errors="replace"))
        if told is not None:
            return told
        time.sleep(_POLL_S)
    return f"Envoy refused the configuration and did not say why; see {log}"
