"""Blue-green: all traffic to the new version at one moment, the old one kept warm until confident. Pure."""

from taxiway_serving.rollout.steps import Analysis, Bake, SetWeight, Step


def preset() -> tuple[Step, ...]:
    """Return the switch, a bake, and proof before the old version is let go.

    Before the switch the new version answers pinned requests only: that is its preview.
    """
    return (SetWeight(weight_pct=100), Bake(duration_s=10), Analysis(units=100, certify=True))


def pointer() -> tuple[Step, ...]:
    """Return the bare switch of an undo: it goes back to a version that has proven itself before."""
    return (SetWeight(weight_pct=100),)
