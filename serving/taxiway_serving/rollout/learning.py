"""What one look adds to what is known of a rollout: units, evidence, whether the weights have settled. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from taxiway_serving.answers import Answer
from taxiway_serving.rollout.judges import Judge, candidates_of, interval_of
from taxiway_serving.rollout.mismatch import SAMPLE_RATIO, mismatch_update
from taxiway_serving.rollout.observation import NO_COMPARISON, Compared, Observation
from taxiway_serving.rollout.spec import RolloutSpec
from taxiway_serving.rollout.state import RolloutState
from taxiway_serving.rollout.weighing import SETTLED_S
from taxiway_serving.statistics.label import NOTHING, Counts


def learned(
    spec: RolloutSpec, judges: Sequence[Judge], state: RolloutState, seen: Observation, now_s: float
) -> RolloutState:
    """Return the state with everything that a look has shown; the same state where that is nothing new."""
    versions = candidates_of(spec, state)
    changes: dict[str, Any] = {}
    if is_unread(state, seen, now_s):
        changes["weighed_at_s"] = now_s
    if any(counts != NOTHING for counts in seen.counts.values()):
        changes["totals"] = _summed_counts(state.totals, seen.counts)
    met = {version: seen.errors(version).met for version in versions}
    if any(met.values()):
        counts = {version: state.at_step.get(version, 0) + number for version, number in met.items()}
        changes["at_step"] = {**state.at_step, **counts}
    if seen.compared:
        changes["compared"] = _summed(state.compared, seen.compared)
    if state.baseline_ms is None and seen.baseline_ms is not None:
        changes["baseline_ms"] = seen.baseline_ms
    if state.first_bad_at_s is None and seen.first_bad_at_s is not None:
        changes["first_bad_at_s"] = seen.first_bad_at_s
    if seen.cursors:
        changes["cursors"] = {**state.cursors, **seen.cursors}
    first_ready = _first_ready(state, seen, versions)
    if first_ready:
        changes["restarts"] = {**state.restarts, **first_ready}
    known = replace(state, **changes) if changes else state
    guards = _judged(spec, judges, known, seen, is_settled=has_settled(known, seen, now_s))
    return replace(known, guards={**known.guards, **guards}) if guards else known


def is_unread(state: RolloutState, seen: Observation, now_s: float) -> bool:
    """Return whether the weights are not read back, so that whoever comes now may follow others.

    An answer that is unknown says so only as long as they were not read back since their last change.
    """
    is_settling = now_s - state.weighed_at_s < SETTLED_S
    return seen.applied is Answer.NO or (seen.applied is not Answer.YES and is_settling)


def has_settled(state: RolloutState, seen: Observation, now_s: float) -> bool:
    """Return whether every request of the interval followed the weights as they are."""
    began_s = now_s if seen.since_s is None else seen.since_s
    return seen.applied is not Answer.NO and began_s - state.weighed_at_s >= SETTLED_S


def _judged(
    spec: RolloutSpec, judges: Sequence[Judge], state: RolloutState, seen: Observation, *, is_settled: bool
) -> dict[str, tuple[float, ...]]:
    """Return the evidence of the judges that have learned something."""
    found = {}
    for judge in judges:
        interval = interval_of(judge, state, seen, is_settled=is_settled)
        if interval is not None:
            before = state.guards.get(judge.key) or judge.guard.start()
            after = judge.guard.update(before, interval)
            if after != state.guards.get(judge.key):
                found[judge.key] = after
    if is_settled and not state.is_closed and seen.assigned:
        ratio = mismatch_update(spec, state, seen)
        if ratio != state.guards.get(SAMPLE_RATIO, ()):
            found[SAMPLE_RATIO] = ratio
    return found


def _summed_counts(before: Mapping[str, Counts], new: Mapping[str, Counts]) -> dict[str, Counts]:
    totals = dict(before)
    for key, counts in new.items():
        if counts != NOTHING:
            totals[key] = totals[key] + counts if key in totals else counts
    return totals


def _summed(before: Mapping[int, Compared], new: Mapping[int, Compared]) -> dict[int, Compared]:
    return {**before, **{v: before.get(v, NO_COMPARISON) + seen for v, seen in new.items()}}


def _first_ready(state: RolloutState, seen: Observation, versions: Sequence[int]) -> dict[int, int]:
    """Return how often each candidate's process had restarted when it was first ready; one more is a death."""
    return {
        version: seen.restarts.get(version, 0)
        for version in versions
        if version not in state.restarts and seen.health(version) is Answer.YES
    }
