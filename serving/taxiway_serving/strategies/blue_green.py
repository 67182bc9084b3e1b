"""Blue-green: all traffic to the new version at one moment, the old one kept warm until confident. Pure."""

from taxiway_serving.rollout.steps import DAY_S, Analysis, Bake, Pause, SetHeaderRoute, SetWeight, Step
from taxiway_serving.strategies.canary import BAKE_S
from taxiway_serving.strategies.options import Options

PREVIEW_HEADER, PREVIEW_VALUE = "x-preview", "new"
MOST_UNITS = 10**9


def preset(options: Options) -> tuple[Step, ...]:
    """Return the preview route, the switch, a bake, and proof before the old version is let go.

    Requests with the header `x-preview: new` reach the new version before the switch, and until the end. With
    `preview_units`, so many who come by it are waited for, under the guard. Without `auto_promote` the switch waits
    for a person who has looked at the preview.
    """
    preview_units = options.whole("preview_units", 0, 0, MOST_UNITS)
    units = options.whole("units", 100, 0, MOST_UNITS)
    bake_s = options.number("bake_s", BAKE_S, 0, DAY_S)
    before: tuple[Step, ...] = (Analysis(units=preview_units),) if preview_units else ()
    gate: tuple[Step, ...] = () if options.flag("auto_promote", default=True) else (Pause(),)
    return (
        SetHeaderRoute(header=PREVIEW_HEADER, value=PREVIEW_VALUE),
        *before,
        *gate,
        SetWeight(weight_pct=100),
        Bake(duration_s=bake_s),
        Analysis(units=units, certify=True),
    )


def pointer(_options: Options) -> tuple[Step, ...]:
    """Return the bare switch of an undo: it goes back to a version that has proven itself before."""
    return (SetWeight(weight_pct=100),)
