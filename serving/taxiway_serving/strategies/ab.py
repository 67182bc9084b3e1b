"""A/B/n: fixed shares, or segments by header or cookie, until there is enough to report. Pure."""

from collections.abc import Mapping
from typing import Any

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.rollout.steps import Bake, SetHeaderRoute, SetWeight, Step, read_step
from taxiway_serving.strategies.options import flag

APART = ("by", "weights", "promote")


def preset(options: Mapping[str, Any], versions: tuple[int, ...]) -> tuple[Step, ...]:
    """Return the shares or the routes, the experiment, and its end.

    Users are divided by a hash of who they are, unless `by` names a header or a cookie: then each chooses for itself,
    and the report says so. Without `promote` the stable version keeps the traffic, whoever won.

    Args:
        options: `by`, `weights`, `promote`, and the fields of `Experiment`.
        versions: The candidates.
    """
    step = read_step("experiment", {key: value for key, value in options.items() if key not in APART})
    end: tuple[Step, ...] = (SetWeight(),)
    if flag("ab", options, "promote", default=False):
        end = (SetWeight(weight_pct=100), Bake(duration_s=10))
    by = options.get("by", "hash")
    if by == "hash":
        return (_shares(options, versions), step, *end)
    route = _route(by, versions)
    return (route, step, SetHeaderRoute(), *end)


def _shares(options: Mapping[str, Any], versions: tuple[int, ...]) -> SetWeight:
    if "weights" not in options:
        return SetWeight(weight_pct=round(100 * len(versions) / (len(versions) + 1), 2))
    shares: SetWeight = read_step("setWeight", {"weights": options["weights"]})
    if set(shares.weights or {}) != set(versions):
        fault = f"strategy.weights: got {options['weights']!r}; name each candidate once: {list(versions)}"
        raise InvalidSpecError((fault,), "rollout")
    return shares


def _route(by: Any, versions: tuple[int, ...]) -> SetHeaderRoute:
    names = {"header", "cookie", "values"}
    if not isinstance(by, Mapping) or not by.keys() <= names or not isinstance(by.get("values"), Mapping):
        fault = f"strategy.by: got {by!r}; give hash, or an object with header or cookie and values"
        raise InvalidSpecError((fault,), "rollout")
    route: SetHeaderRoute = read_step("setHeaderRoute", by)
    strangers = sorted(set((route.values or {}).values()) - set(versions))
    if strangers or not (route.header or route.cookie):
        fault = (
            f"strategy.by: routes to {strangers}, candidates are {list(versions)}; name a header or a cookie"
        )
        raise InvalidSpecError((fault,), "rollout")
    return route
