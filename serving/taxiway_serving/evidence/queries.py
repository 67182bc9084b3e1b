"""Asking Prometheus and SQL databases for a metric of one version. A query that takes long holds up nobody.

Where the sources are is read from a file of the controller's host; a caller only names one, so nobody can make the
controller call an address, or read a password, that its owner did not write down.
"""

import json
import logging
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any, Final

import httpx
import sqlalchemy as sa

from taxiway_serving.errors import InvalidSpecError, TransportError

log = logging.getLogger(__name__)

KINDS: Final = ("prometheus", "sql")
LARGEST: Final = sys.float_info.max
_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One question about one version, asked by one metric of one rollout.

    Attributes:
        rollout: Id of the rollout: what was asked for another is no news to it.
        metric: Name of the metric.
        kind: `prometheus` or `sql`.
        source: Name of the source; "" where there is only one of the kind.
        text: In PromQL `{handle}` and `{version}` stand for the version; in SQL `:handle` and `:version` are bound.
        handle: Endpoint.
        version: The version that is asked about.
    """

    rollout: str
    metric: str
    kind: str
    source: str
    text: str
    handle: str
    version: int


class Sources:
    """The addresses of metric sources, by kind and name.

    Args:
        addresses: By kind, address by name.
    """

    def __init__(self, addresses: Mapping[str, Mapping[str, str]]) -> None:
        self._addresses = addresses

    @classmethod
    def from_file(cls, path: Path | None) -> "Sources":
        """Read `{"prometheus": {"main": "http://…"}, "sql": {"warehouse": "postgresql://…"}}`; no file has none.

        Raises:
            InvalidSpecError: If the file is not of that form.
        """
        if path is None or not path.exists():
            return cls({})
        try:
            read = json.loads(path.read_text())
            return cls({kind: {str(k): str(v) for k, v in read.get(kind, {}).items()} for kind in KINDS})
        except (ValueError, AttributeError) as error:
            fault = f"{path}: {error}; write an object with {' and '.join(KINDS)}, each of address by name"
            raise InvalidSpecError((fault,), "metric sources") from error

    def address(self, kind: str, name: str) -> str:
        """Return the address of a source.

        Raises:
            InvalidSpecError: If there is none of that name.
        """
        known = self._addresses.get(kind, {})
        if not name and len(known) == 1:
            return next(iter(known.values()))
        if name not in known:
            told = ", ".join(known) or "none"
            fault = f"source: got {name!r}; known of {kind} are {told}: the controller's owner adds more"
            raise InvalidSpecError((fault,), "metric")
        return known[name]


def ask(query: Query, sources: Sources) -> float | None:
    """Return the value of a query; None where there is none yet.

    A value that is no number is none: 0 of 0 requests are no failure rate. One without bound is the largest there is.

    Raises:
        InvalidSpecError: If there is no such source.
        TransportError: If it did not answer, or not with one number.
    """
    address = sources.address(query.kind, query.source)
    value = _prometheus(query, address) if query.kind == "prometheus" else _sql(query, address)
    return None if value is None or isnan(value) else min(max(value, -LARGEST), LARGEST)


def _prometheus(query: Query, address: str) -> float | None:
    text = query.text.replace("{handle}", query.handle).replace("{version}", str(query.version))
    try:
        answer = httpx.get(
            f"{address.rstrip('/')}/api/v1/query", params={"query": text}, timeout=_TIMEOUT_S, trust_env=False
        )
        answer.raise_for_status()
        found: list[Any] = answer.json()["data"]["result"]
        return float(found[0]["value"][1]) if found else None
    except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError) as error:
        raise TransportError(f"Prometheus {query.source}", f"{type(error).__name__}: {error}") from error


def _sql(query: Query, address: str) -> float | None:
    engine = sa.create_engine(address, poolclass=sa.NullPool)
    names = {"handle": query.handle, "version": query.version}
    statement = sa.text(query.text)
    bound = {name: value for name, value in names.items() if f":{name}" in query.text}
    try:
        with engine.connect() as connection:
            value = connection.execute(statement, bound).scalar()
            return None if value is None else float(value)
    except (sa.exc.SQLAlchemyError, TypeError, ValueError) as error:
        # The driver's own message may show the address with its password.
        raise TransportError(f"SQL source {query.source}", type(error).__name__) from error
    finally:
        engine.dispose()


class Queries:
    """Asks in the background, each query at its interval. Used by one thread.

    Args:
        sources: Where to ask.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="query")
        self._asked: dict[Query, tuple[float, Future[float | None]]] = {}

    def close(self) -> None:
        """Ask no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def keep(self, rollouts: Collection[str]) -> None:
        """Forget what was asked for other rollouts than these."""
        self._asked = {query: asked for query, asked in self._asked.items() if query.rollout in rollouts}

    def news(self, query: Query, *, interval_s: float, now_s: float) -> float | None:
        """Return a value that has not been returned before, and ask again when it is time; None if there is none."""
        asked = self._asked.get(query)
        value: float | None = None
        if asked is not None and asked[1].done():
            value = self._answer(query, asked[1])
        if asked is None or (asked[1].done() and now_s - asked[0] >= interval_s):
            self._asked[query] = (now_s, self._pool.submit(ask, query, self._sources))
        elif asked[1].done():
            self._asked[query] = (asked[0], _NOTHING)
        return value

    def _answer(self, query: Query, asked: Future[float | None]) -> float | None:
        """A query that fails is no measurement: it neither harms nor helps, and is said in the log."""
        try:
            return asked.result()
        except (TransportError, InvalidSpecError) as error:
            log.warning("metric of %s/%s: %s; it is asked again", query.handle, query.version, error)
            return None


_NOTHING: Final[Future[float | None]] = Future()
_NOTHING.set_result(None)
