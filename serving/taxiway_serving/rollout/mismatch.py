"""The judge of the split itself: do units arrive at the versions in the shares that were asked for? Pure."""

from math import log

from taxiway_serving.answers import Answer
from taxiway_serving.rollout.guard import Reading, Terms
from taxiway_serving.rollout.observation import Observation
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import RolloutState
from taxiway_serving.statistics.label import log_mean_exp
from taxiway_serving.statistics.mismatch import TILTS, mismatch_terms

SAMPLE_RATIO = "0/sample_ratio"
ALPHA = 0.001
"""A broken split is a defect of the plumbing: it shows soon at a level at which chance never pauses a rollout."""


def mismatch_update(spec: RolloutSpec, state: RolloutState, seen: Observation) -> Terms:
    """Return the evidence after the units that were seen for the first time while the split stood still."""
    before = state.guards.get(SAMPLE_RATIO, ())
    if state.stable is None or not any(seen.assigned.values()) or not 0 < state.weight_pct < 100:
        return before
    arms = (state.stable, *spec.versions, *state.added)
    units = [seen.assigned.get(version, 0) for version in arms]
    shares = [1 - state.weight_pct / 100, *(state.weights.get(version, 0.0) / 100 for version in arms[1:])]
    terms = mismatch_terms(units, shares)
    padded = (*before, *(0.0,) * (len(terms) - len(before)))
    return tuple(old + new for old, new in zip(padded, terms, strict=True))


def mismatch_reading(state: RolloutState) -> Reading:
    """Return whether the split is proven to be another than was asked for."""
    terms = state.guards.get(SAMPLE_RATIO, ())
    log_e = log_mean_exp(terms) if terms else 0.0
    threshold = -log(ALPHA)
    answer = Answer.YES if log_e >= threshold else Answer.NO if terms else Answer.UNKNOWN
    arms = len(terms) // len(TILTS)
    reason = f"new units of {arms} versions do not arrive in the shares of the split, at alpha {ALPHA:g}"
    return Reading(name="sample_ratio", answer=answer, log_e=log_e, threshold=threshold, reason=reason)


def is_unequal(state: RolloutState) -> bool:
    """Return whether that is proven."""
    terms = state.guards.get(SAMPLE_RATIO, ())
    return bool(terms) and max(terms) >= -log(ALPHA) and log_mean_exp(terms) >= -log(ALPHA)
