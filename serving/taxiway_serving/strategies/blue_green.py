"""Blue-green: all traffic to the new version at one moment, the old one kept warm until confident. Pure."""

from collections.abc import Mapping
from typing import Any

from taxiway_serving.rollout.steps import Analysis, Bake, Pause, SetHeaderRoute, SetWeight, Step
from taxiway_serving.strategies.options import flag, number, refuse_unknown

PREVIEW_HEADER = "x-preview"


def preset(options: Mapping[str, Any]) -> tuple[Step, ...]:
    """Return the preview route, the switch, a bake, and proof before the old version is let go.

    Requests with the header `x-preview: new` reach the new version before the switch, and until the
    end. Without `auto_promote` the switch waits for a person who has looked at the preview.
    """
    refuse_unknown("blue_green", options, ("bake_s", "auto_promote", "units"))
    bake_s = number("blue_green", options, "bake_s", 10.0, 0, 86_400)
    units = number("blue_green", options, "units", 100, 0, 1e9)
    gate: tuple[Step, ...] = () if flag("blue_green", options, "auto_promote", default=True) else (Pause(),)
    return (
        SetHeaderRoute(header=PREVIEW_HEADER, value="new"),
        *gate,
        SetWeight(weight_pct=100),
        Bake(duration_s=bake_s),
        Analysis(units=round(units), certify=True),
    )


def pointer(options: Mapping[str, Any]) -> tuple[Step, ...]:
    """Return the bare switch of an undo: it goes back to a version that has proven itself before."""
    refuse_unknown("undo", options, ())
    return (SetWeight(weight_pct=100),)
