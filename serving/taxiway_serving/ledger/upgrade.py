"""What an earlier Taxiway wrote, brought to today's form when it is read. Pure: plain JSON values in and out."""

from collections.abc import Mapping
from typing import Any

_GONE = ("weight_pct", "total", "at_step")


def rollout_from_first_schema(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored rollout of schema 1, which knew one candidate, in the form of schema 2.

    Its evidence by guard is not carried over: a rollout that was under way learns anew, at the same weights.
    """
    spec, state = data["spec"], data["state"]
    if "weight_pct" not in state:
        return dict(data)
    version = spec["version"]
    kept = {name: value for name, value in state.items() if name not in (*_GONE, "guards", "restarts")}
    weights = {str(version): state["weight_pct"]} if state["weight_pct"] else {}
    empty: dict[str, Any] = {
        name: {}
        for name in ("before", "dropped", "guards", "at_step", "arms", "rewards", "compared", "cursors")
    }
    new = {
        **empty,
        "weights": weights,
        "weighed_at_s": state["entered_at_s"],
        "totals": {f"{version}/errors": state["total"]},
        "restarts": {} if state["restarts"] is None else {str(version): state["restarts"]},
        "header": None,
        "added": [],
        "failed": [],
    }
    return {**data, "state": {**kept, **new}}
