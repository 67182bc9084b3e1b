"""A/B/n: fixed shares, or segments by header or cookie, until there is enough to report. Pure."""

from collections.abc import Mapping
from typing import Any

from taxiway_serving.rollout.steps import Bake, Experiment, SetHeaderRoute, SetWeight, Step
from taxiway_serving.strategies.canary import BAKE_S
from taxiway_serving.strategies.options import Options


def preset(options: Options) -> tuple[Step, ...]:
    """Return the shares or the routes, the experiment, and its end.

    Users are divided by a hash of who they are, unless `by` names a header or a cookie: then each chooses for itself,
    and the report compares nothing. Without `promote` the stable version keeps the traffic, whoever won.

    Options are `by`, `weights`, `promote`, and the fields of `Experiment`.
    """
    by, weights = options.any("by", "hash"), options.any("weights")
    promotes = options.flag("promote", default=False)
    step: Experiment = options.step("experiment", Experiment())
    if step.metric:
        options.metric("metric", step.metric)
    options.faults += _promotion_faults(by, step) if promotes else []
    end: tuple[Step, ...] = (SetWeight(),)
    if promotes:
        end = (SetWeight(weight_pct=100), Bake(duration_s=BAKE_S))
    if by == "hash":
        return (_shares(options, weights), step, *end)
    if weights is not None:
        options.faults.append("strategy.weights: a header or a cookie decides who gets what; leave them out")
    return (_route(options, by), step, SetHeaderRoute(), *end)


def _promotion_faults(by: Any, step: Experiment) -> list[str]:
    faults = []
    if not step.metric:
        faults.append("strategy.promote: nothing is earned without a metric; name one")
    if by != "hash":
        faults.append("strategy.promote: who chose a version is compared with nobody; divide users by hash")
    return faults


def _shares(options: Options, weights: Any) -> SetWeight:
    even = SetWeight(weight_pct=round(100 * len(options.versions) / (len(options.versions) + 1), 2))
    if weights is None:
        return even
    shares: SetWeight = options.step("setWeight", even, given={"weights": weights})
    if shares.weights is not None and (
        set(shares.weights) != set(options.versions) or not all(shares.weights.values())
    ):
        options.faults.append(
            f"strategy.weights: got {weights!r}; give each of {list(options.versions)} a share above 0"
        )
    return shares


def _route(options: Options, by: Any) -> SetHeaderRoute:
    names = {"header", "cookie", "values"}
    if not isinstance(by, Mapping) or not by.keys() <= names or not isinstance(by.get("values"), Mapping):
        options.faults.append(
            f"strategy.by: got {by!r}; give hash, or an object with header or cookie and values"
        )
        return SetHeaderRoute()
    route: SetHeaderRoute = options.step("setHeaderRoute", SetHeaderRoute(), given=by)
    routed = set((route.values or {}).values())
    if route.values is not None and routed != set(options.versions):
        options.faults.append(
            f"strategy.by: routes to {sorted(routed)}; lead to each of {list(options.versions)}, and to nobody else"
        )
    return route
