"""What a rollout counts beside errors: the metrics that a caller names. Values and faults; no query is made here."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from taxiway_serving.errors import InvalidSpecError

KINDS = ("latency", "latency_slo", "schema", "feedback", "prometheus", "sql")
DIRECTIONS = ("up", "down")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric of a rollout.

    Attributes:
        name: Unique in the rollout.
        kind: `latency` (slower than the baseline's own p99), `latency_slo` (slower than `latency_ms`), `schema`
            (answers that break the contract), `feedback` (rewards by request), `prometheus` or `sql` (a query for each
            version).
        direction: `up` if more is better; of feedback and queries.
        dry_run: Whether it is scored and shown, but never acts.
        low: Feedback value that counts as 0; high, as 1: rewards are compared on that scale.
        query: Text of the query, in which `{handle}` and `{version}` stand for the candidate.
        source: Address of Prometheus, or name of the SQL connection, as the controller's settings know it.
        limit: A query's value on the wrong side of it is a failed measurement.
        interval_s: Seconds between two measurements of a query.
        failure_limit: Failed measurements that are borne; one more is harm.
        window_s: Seconds in which feedback counts for its request.
    """

    name: str
    kind: str
    direction: str = "up"
    dry_run: bool = False
    low: float = 0.0
    high: float = 1.0
    query: str = ""
    source: str = ""
    limit: float | None = None
    interval_s: float = 30.0
    failure_limit: int = 0
    window_s: float = 60.0

    def to_json(self) -> dict[str, Any]:
        """Return the metric as plain JSON values; `metric_from_json` is the way back."""
        return asdict(self)


def metric_from_json(item: Any) -> Metric:
    """Read one metric: its bare name, or an object.

    Raises:
        InvalidSpecError: With every fault at once.
    """
    given = {"name": item} if isinstance(item, str) else item
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str) or not given["name"]:
        raise InvalidSpecError((f"got {item!r}; give a name, or an object with name and kind",), "metric")
    name = given["name"]
    options = {"kind": name if name in KINDS else "feedback", **given}
    unknown = sorted(set(options) - set(Metric.__dataclass_fields__))
    if unknown:
        raise InvalidSpecError((f"{name} has no {', '.join(unknown)}",), "metric")
    metric = Metric(**options)
    if faults := _faults(metric):
        raise InvalidSpecError(tuple(f"{name}: {fault}" for fault in faults), "metric")
    return metric


def _faults(metric: Metric) -> list[str]:
    faults = []
    if metric.name in ("errors", "client_errors"):
        faults.append("is always counted; leave it out")
    if metric.kind not in KINDS:
        faults.append(f"kind: got {metric.kind!r}; known are {', '.join(KINDS)}")
    if metric.direction not in DIRECTIONS:
        faults.append(f"direction: got {metric.direction!r}; known are {', '.join(DIRECTIONS)}")
    numbers = ("low", "high", "interval_s", "window_s", "failure_limit")
    wrong = [name for name in numbers if not isinstance(getattr(metric, name), int | float)]
    if wrong:
        return [*faults, f"{', '.join(wrong)}: must be numbers"]
    if not metric.low < metric.high:
        faults.append(f"low {metric.low:g} must be below high {metric.high:g}")
    if metric.interval_s < 1 or metric.window_s <= 0 or metric.failure_limit < 0:
        faults.append("interval_s is at least 1, window_s above 0, failure_limit at least 0")
    if metric.kind in ("prometheus", "sql") and (
        not metric.query or not isinstance(metric.limit, int | float)
    ):
        faults.append("a query needs its text in query and a number as limit")
    return faults
