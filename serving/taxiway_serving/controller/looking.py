"""Looking at the world: what runs, what Envoy routes, what was logged since. Reads only; nothing is decided here."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from taxiway_serving.answers import Answer
from taxiway_serving.errors import TransportError
from taxiway_serving.evidence.source import Attempt, Source
from taxiway_serving.ledger.store import Fleet
from taxiway_serving.names import VariantId
from taxiway_serving.routing.router import Router
from taxiway_serving.routing.side_routes import SideRoutes
from taxiway_serving.runtimes.runtime import Runtime, VariantState
from taxiway_serving.split import Split

log = logging.getLogger(__name__)
T = TypeVar("T")

MOST_READS_PER_TICK = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What was seen at one tick.

    Attributes:
        variants: State of every variant that the runtime knows.
        splits: Split read back by handle; a handle that could not be asked is absent, which is unknown, not
            none.
        routes: What goes beside the split, read back by handle, of the handles that a rollout runs on.
        evidence: YES if the access log was read up to its end.
        attempts: New attempts since the cursor.
        cursor: Where the next read goes on.
    """

    variants: Mapping[VariantId, VariantState] = field(default_factory=dict)
    splits: Mapping[str, Split | None] = field(default_factory=dict)
    routes: Mapping[str, SideRoutes] = field(default_factory=dict)
    evidence: Answer = Answer.UNKNOWN
    attempts: tuple[Attempt, ...] = ()
    cursor: str = ""


class Trouble:
    """Logs what goes wrong when it begins and when it is over, not at every tick in between."""

    def __init__(self) -> None:
        self._told: dict[str, str] = {}

    def tell(self, what: str, error: Exception) -> None:
        """Say that something goes wrong, if that is news."""
        if self._told.get(what) != str(error):
            self._told[what] = str(error)
            log.warning("%s: %s; it is tried again at every tick", what, error)

    def clear(self, what: str) -> None:
        """Say that it is well again, if it was not."""
        if self._told.pop(what, None):
            log.info("%s: well again", what)


class Lookout:
    """Looks at runtime, router and access log. One thread calls it."""

    def __init__(self, *, runtime: Runtime, router: Router, source: Source, trouble: Trouble) -> None:
        self._runtime, self._router, self._source, self._trouble = runtime, router, source, trouble
        self._cursor: str | None = None

    def look(self, fleet: Fleet) -> World:
        """Return what is seen now, with the attempts since the last look."""
        attempts, cursor, evidence = self._read(fleet)
        splits: dict[str, Split | None] = {}
        routes: dict[str, SideRoutes] = {}
        for endpoint in fleet.endpoints:
            self._ask(f"split of {endpoint.handle}", splits, endpoint.handle, self._router.observed)
            if fleet.active(endpoint.handle):
                self._ask(
                    f"routes of {endpoint.handle}", routes, endpoint.handle, self._router.observed_routes
                )
        return World(
            variants=dict(self._runtime.observe()),
            splits=splits,
            routes=routes,
            evidence=evidence,
            attempts=tuple(attempts),
            cursor=cursor,
        )

    def seen(self, world: World) -> None:
        """Go on behind a look: what it brought is stored."""
        self._cursor = world.cursor

    def _ask(self, what: str, answers: dict[str, T], handle: str, question: Callable[[str], T]) -> None:
        try:
            answers[handle] = question(handle)
            self._trouble.clear(what)
        except TransportError as error:
            self._trouble.tell(what, error)

    def _read(self, fleet: Fleet) -> tuple[list[Attempt], str, Answer]:
        attempts: list[Attempt] = []
        cursor, evidence = self._cursor or "", Answer.YES
        try:
            cursor = self._begin(fleet) if self._cursor is None else cursor
            for _ in range(MOST_READS_PER_TICK):
                batch = self._source.read(cursor)
                attempts += batch.attempts
                cursor = batch.cursor
                evidence = evidence if batch.is_complete else Answer.UNKNOWN
                if not batch.has_more:
                    self._trouble.clear("evidence")
                    return attempts, cursor, evidence
        except TransportError as error:
            self._trouble.tell("evidence", error)
        return attempts, cursor, Answer.UNKNOWN

    def _begin(self, fleet: Fleet) -> str:
        """Return where a controller that has just started reads on; a new one does not count the past."""
        return fleet.cursor or self._source.end()
