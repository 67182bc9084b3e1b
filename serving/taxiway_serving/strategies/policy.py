"""What a plan comes to, whatever it is called: whether it trusts a version with all the traffic unproven. Pure."""

from collections.abc import Sequence

from taxiway_serving.rollout.guard import ALONE
from taxiway_serving.rollout.steps import Analysis, Compare, Experiment, Explore, SetWeight, Step

SWITCHES = ("blue_green", "all_at_once")
"""Strategies that switch all the traffic at one moment. Who forbids one of them forbids what comes to the same."""


def is_switch(steps: Sequence[Step], candidates: int) -> bool:
    """Return whether a candidate gets so much traffic that hardly any control is left, with nothing proven before.

    A pause or a count of units proves nothing; a certificate, a comparison, an exploration or an experiment does.

    Args:
        steps: The plan.
        candidates: How many share its weights, at least 1.
    """
    for step in steps:
        if isinstance(step, Compare | Explore | Experiment) or (isinstance(step, Analysis) and step.certify):
            return False
        if isinstance(step, SetWeight) and _most_pct(step, candidates) >= 100 * ALONE:
            return True
    return False


def _most_pct(step: SetWeight, candidates: int) -> float:
    """Return the most that one candidate gets."""
    return max(step.weights.values(), default=0.0) if step.weights else step.weight_pct / candidates
