"""How each handle counts its metrics: as the table has it, held in memory. What events come to is in `counted.py`."""

from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from taxiway_serving.feedback import Metric, Reported
from taxiway_serving.ledger import reward_queries as queries
from taxiway_serving.ledger import reward_tables as tables


class Metrics:
    """The metrics of all handles: those that are followed, and those that were only reported.

    Whoever changes the table says so once that is committed, and locks. Any thread may read.
    """

    def __init__(self, connection: Connection) -> None:
        """Read the table."""
        defined = connection.execute(sa.select(tables.metrics)).mappings().all()
        self._known = {(row["handle"], row["name"]): tables.metric_of(row) for row in defined}
        self._followed = {(row["handle"], row["name"]) for row in defined if row["is_followed"]}

    def metric(self, handle: str, name: str) -> Metric:
        """Return how a handle counts a metric: as it was told last, else by the usual window."""
        return self._known.get((handle, name)) or Metric(name=name)

    def of(self, handle: str) -> list[Metric]:
        """Return every metric of a handle."""
        return [metric for (owner, _), metric in self._known.items() if owner == handle]

    def longest_window_s(self, handle: str) -> float:
        """Return the longest window of what a handle follows, in seconds; 0.0 if it follows nothing."""
        windows = [self._known[key].window_s for key in self._followed if key[0] == handle]
        return max(windows, default=0.0)

    def follows(self, handle: str, metrics: Sequence[Metric]) -> bool:
        """Tell whether a handle follows these and no others, as they are here."""
        followed = {name for owner, name in self._followed if owner == handle}
        is_same = all(self._known.get((handle, metric.name)) == metric for metric in metrics)
        return is_same and followed == {metric.name for metric in metrics}

    def follow(self, handle: str, metrics: Sequence[Metric]) -> None:
        """Take in what a handle follows from now on, and nothing else."""
        self.add({(handle, metric.name): metric for metric in metrics})
        others = {key for key in self._followed if key[0] != handle}
        self._followed = others | {(handle, metric.name) for metric in metrics}

    def add(self, named: dict[tuple[str, str], Metric]) -> None:
        """Take in metrics, by handle and name."""
        # Another one in its place: who reads it meanwhile reads the one or the other.
        self._known = self._known | named

    def name_unknown(
        self, connection: Connection, reported: Iterable[Reported]
    ) -> dict[tuple[str, str], Metric]:
        """Define metrics that nobody follows, so that their history can be found; return them for `add`."""
        seen = {(each.exposure.handle, each.event.metric) for each in reported}
        named = {(handle, name): Metric(name=name) for handle, name in sorted(seen - set(self._known))}
        for (handle, _), metric in named.items():
            queries.define_metric(connection, handle, metric, is_followed=False)
        return named
