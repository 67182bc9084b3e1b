"""What a rollout counts beside errors: the metrics that a caller names. Values and faults; no query is made here."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.feedback import BUILT_IN, METRIC_PATTERN, How
from taxiway_serving.rollout.typed import fitting

Kind = Literal["latency", "latency_slo", "schema", "feedback", "prometheus", "sql", "errors", "client_errors"]
KINDS: tuple[str, ...] = get_args(Kind)
QUERIES = ("prometheus", "sql")
ALWAYS = ("errors", "client_errors")
"""Kinds that are counted in any rollout: to name one of them only adds a limit to it."""
COUNTED = ("latency", "latency_slo", "schema", "feedback", *ALWAYS)
RESERVED = ("error", "errors", "client_error", "client_errors")
"""Names of what is counted in any rollout, and of its guards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric of a rollout.

    Attributes:
        name: Unique in the rollout.
        kind: `latency` (slower than the baseline's own p99), `latency_slo` (slower than `latency_ms`), `schema`
            (answers that break the contract), `feedback` (rewards by request), `prometheus` or `sql` (a query for each
            version), `errors` or `client_errors` (which are counted anyhow, here with a limit).
        direction: Which way is better: `up`, which feedback takes by default, or `down`, which queries do.
        dry_run: Whether it is scored and shown, but never acts.
        low: Feedback value that counts as 0; high, as 1: rewards are compared on that scale.
        query: Text of the query, in which `{handle}` and `{version}` stand for the candidate.
        source: Address of Prometheus, or name of the SQL connection, as the controller's settings know it.
        limit: A measurement on the wrong side of it has failed. Of a query it is the value; of feedback, the mean of
            the candidate's rewards; of all else, the share of its units that were bad, in [0, 1).
        interval_s: Seconds between two measurements of a query, >= 1.
        min_units: Units of the candidate in one measurement of anything else, >= 1.
        failure_limit: Failed measurements that are borne, >= 0; one more is harm.
        window_s: Seconds in which feedback counts for its request, > 0.
        how: How several events of one request become one value: the `first`, the largest (`max`), or all added up
            (`sum`). The last two are known, and judged by, once the window is over.
    """

    name: str
    kind: Kind
    direction: Literal["up", "down"] = "up"
    dry_run: bool = False
    low: float = 0.0
    high: float = 1.0
    query: str = ""
    source: str = ""
    limit: float | None = None
    interval_s: float = 30.0
    min_units: int = 100
    failure_limit: int = 0
    window_s: float = 60.0
    how: How = "first"

    def to_json(self) -> dict[str, Any]:
        """Return the metric as plain JSON values; `metric_from_json` is the way back."""
        return asdict(self)


def metric_from_json(item: Any) -> Metric:
    """Read one metric: its bare name, or an object.

    Raises:
        InvalidSpecError: With every fault at once.
    """
    given = {"name": item} if isinstance(item, str) else item
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        fault = f"metrics: got {item!r}; give a name, or an object with name and kind"
        raise InvalidSpecError((fault,), "metric")
    name, kind = given["name"], given.get("kind", given["name"] if given["name"] in KINDS else "feedback")
    direction = given.get("direction") or ("down" if kind in QUERIES else "up")
    values = {**given, "kind": kind, "direction": direction}
    fit, faults = fitting(Metric, values, f"metrics.{name}")
    if "kind" in fit:
        metric = Metric(**fit)
        faults += [f"metrics.{name}.{fault}" for fault in _faults(metric, given)]
        if not faults:
            return metric
    raise InvalidSpecError(tuple(faults), "metric")


def metric_name_faults(name: str, where: str) -> list[str]:
    """Return what is wrong with the name of a metric."""
    is_name = re.fullmatch(METRIC_PATTERN, name) is not None
    return [] if is_name else [f"{where}: got {name!r}; must match {METRIC_PATTERN}, such as click"]


_OF_KINDS: Mapping[str, tuple[str, ...]] = {
    "low": ("feedback",),
    "high": ("feedback",),
    "window_s": ("feedback",),
    "how": ("feedback",),
    "direction": ("feedback", *QUERIES),
    "query": QUERIES,
    "source": QUERIES,
    "interval_s": QUERIES,
    "min_units": COUNTED,
}
"""Options that only some kinds have. What is ignored without a word is found out in production."""


def _faults(metric: Metric, given: Mapping[str, Any]) -> list[str]:
    defaults = {name: item.default for name, item in Metric.__dataclass_fields__.items()}
    faults = [
        f"{name}: {metric.kind} has none; it is of {', '.join(kinds)}"
        for name, kinds in _OF_KINDS.items()
        if metric.kind not in kinds and given.get(name, defaults[name]) != defaults[name]
    ]
    if metric.name in RESERVED and metric.kind != metric.name:
        faults.append("name: is always counted; leave it out")
    elif metric.kind in ALWAYS and metric.limit is None:
        faults.append("name: is always counted; leave it out, or give it a limit of your own")
    else:
        faults += metric_name_faults(metric.name, "name")
    faults += _limit_faults(metric, given)
    if metric.name in BUILT_IN and metric.name not in (*RESERVED, metric.kind):
        faults.append(f"name: {metric.name} is of that kind alone; give this one another name")
    if not metric.low < metric.high:
        faults.append(f"low: got {metric.low:g}; must be below high, {metric.high:g}")
    if metric.min_units < 1:
        faults.append(f"min_units: got {metric.min_units}; must be at least 1")
    if metric.interval_s < 1 or metric.window_s <= 0 or metric.failure_limit < 0:
        faults.append("interval_s: must be at least 1, window_s above 0, failure_limit at least 0")
    if metric.kind in QUERIES and not (metric.query and metric.limit is not None):
        faults.append("query: a query needs its text, and a number as limit")
    return faults


def _limit_faults(metric: Metric, given: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with a user's own limit on what is counted."""
    faults = []
    is_share = metric.kind in COUNTED and metric.kind != "feedback"
    if is_share and metric.limit is not None and not 0 <= metric.limit < 1:
        faults.append(f"limit: got {metric.limit:g}; it is a share of the units, at least 0 and below 1")
    if (
        metric.kind == "feedback"
        and metric.limit is not None
        and not metric.low <= metric.limit <= metric.high
    ):
        faults.append(f"limit: got {metric.limit:g}; must lie in {metric.low:g} to {metric.high:g}")
    if metric.limit is None and metric.kind in COUNTED:
        faults += [
            f"{name}: given without a limit, which it is about"
            for name in ("failure_limit", "min_units")
            if given.get(name, Metric.__dataclass_fields__[name].default)
            != Metric.__dataclass_fields__[name].default
        ]
    return faults
