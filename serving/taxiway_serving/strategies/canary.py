"""Canary: a small share first, more as the evidence grows. Pure."""

from taxiway_serving.rollout.steps import Analysis, Bake, SetWeight, Step


def preset() -> tuple[Step, ...]:
    """Return 5 %, 25 %, 100 %: a look at few users, then proof, then a bake under the one-sample guard."""
    return (
        SetWeight(weight_pct=5),
        Analysis(units=40),
        SetWeight(weight_pct=25),
        Analysis(units=100, certify=True),
        SetWeight(weight_pct=100),
        Bake(duration_s=10),
    )


def first_deployment() -> tuple[Step, ...]:
    """Return all traffic at once: with no older version there is no share to leave behind."""
    return (SetWeight(weight_pct=100), Bake(duration_s=2))
