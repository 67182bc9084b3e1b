"""Blue-green: all traffic to the new version at one moment, the old one kept warm until confident. Pure."""

from taxiway_serving.rollout.steps import Bake, SetWeight, Step


def preset() -> tuple[Step, ...]:
    """Return the switch and a bake; before the switch the new version answers pinned requests only."""
    return (SetWeight(weight_pct=0), SetWeight(weight_pct=100), Bake(duration_s=20))


def pointer() -> tuple[Step, ...]:
    """Return the bare switch of an undo: it goes back to a version that has proven itself before."""
    return (SetWeight(weight_pct=100),)
