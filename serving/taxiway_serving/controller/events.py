"""What is told to others: of a rollout, read off its states before and after a change, and of a failure. Pure."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from taxiway_serving.answers import Answer
from taxiway_serving.ledger.outbox import Delivery
from taxiway_serving.ledger.store import Rollout, Variant
from taxiway_serving.rollout.cap import CAP
from taxiway_serving.rollout.mismatch import SAMPLE_RATIO
from taxiway_serving.rollout.observation import Observation
from taxiway_serving.rollout.state import Outcome, RolloutState, Status, Verdict


class Event(StrEnum):
    """What can happen to a rollout that somebody may want to know."""

    BEGUN = "begun"
    ADVANCED = "advanced"
    PAUSED = "paused"
    INCONCLUSIVE = "inconclusive"
    SAMPLE_RATIO_MISMATCH = "sample_ratio_mismatch"
    CAP_REACHED = "cap_reached"
    FROZEN = "frozen"
    CANDIDATE_DROPPED = "candidate_dropped"
    ROLLING_BACK = "rolling_back"
    ROLLBACK_FAILED = "rollback_failed"
    ROLLED_BACK = "rolled_back"
    NEVER_READY = "never_ready"
    LIVE_FAILED = "live_failed"
    PROMOTED = "promoted"
    COMPLETED = "completed"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"


_ENDS: Mapping[Outcome, Event] = {
    Outcome.PROMOTED: Event.PROMOTED,
    Outcome.FAST_PROMOTED: Event.PROMOTED,
    Outcome.COMPLETED: Event.COMPLETED,
    Outcome.ABORTED: Event.ABORTED,
    Outcome.SUPERSEDED: Event.SUPERSEDED,
    Outcome.ROLLED_BACK: Event.ROLLED_BACK,
}

_WORDS: Mapping[Event, str] = {
    Event.BEGUN: "a rollout has begun",
    Event.ADVANCED: "now has {weight_pct:g} % of the traffic",
    Event.PAUSED: "is paused",
    Event.INCONCLUSIVE: "is paused as inconclusive and needs a person",
    Event.SAMPLE_RATIO_MISMATCH: "is paused: the split is not what was asked for",
    Event.CAP_REACHED: "is paused: the cap on users is reached",
    Event.FROZEN: "the split is frozen: rewards have fallen silent",
    Event.CANDIDATE_DROPPED: "a candidate is out, the others go on",
    Event.ROLLING_BACK: "is being taken back",
    Event.ROLLBACK_FAILED: "COULD NOT BE TAKEN BACK YET: 0 % is not read back from the gateway",
    Event.ROLLED_BACK: "ROLLED BACK",
    Event.NEVER_READY: "never became ready; no traffic moved",
    Event.LIVE_FAILED: "IS LIVE AND HAS FAILED",
    Event.PROMOTED: "is live",
    Event.COMPLETED: "the experiment is complete",
    Event.ABORTED: "was aborted",
    Event.SUPERSEDED: "was superseded",
}


def deliveries_of(
    before: Rollout,
    after: Rollout,
    now_s: float,
    *,
    verdict: Verdict | None = None,
    seen: Observation | None = None,
) -> tuple[Delivery, ...]:
    """Return what is to be told of a rollout's new state.

    Args:
        before: As it stood.
        after: As it stands.
        now_s: Seconds since the epoch.
        verdict: What a look decided; None where a person did.
        seen: What that look saw; None where a person acted.
    """
    events = _events(before.state, after.state, verdict, seen)
    return tuple(_delivery(event, _text(event, after), _body(after), now_s) for event in events)


def failure_of(variant: Variant, reason: str, now_s: float, *, is_live: bool) -> Delivery:
    """Return what is told of a variant that failed: one that was only deployed and never ready, or the live one.

    Args:
        variant: Which one.
        reason: Why, in the runtime's words.
        now_s: Seconds since the epoch.
        is_live: Whether it has the traffic.
    """
    event = Event.LIVE_FAILED if is_live else Event.NEVER_READY
    text = f"{variant.handle} version {variant.version} {_WORDS[event]}: {reason}"
    body = {
        "handle": variant.handle,
        "rollout": None,
        "version": variant.version,
        "reason": reason,
    }
    return _delivery(event, text, body, now_s)


def _events(
    before: RolloutState, after: RolloutState, verdict: Verdict | None, seen: Observation | None
) -> Iterator[Event]:
    if before.status is Status.QUEUED and after.status not in (Status.QUEUED, Status.ENDED):
        yield Event.BEGUN
    if after.status is Status.ENDED:
        if before.status is not Status.ENDED:
            yield Event.NEVER_READY if _was_never_ready(before, after, seen) else _end(after)
    elif after.status is Status.ROLLING_BACK:
        yield from _events_back(before, after)
    else:
        yield from _events_ahead(before, after, verdict, seen)


def _events_back(before: RolloutState, after: RolloutState) -> Iterator[Event]:
    if before.status is not Status.ROLLING_BACK:
        yield Event.ROLLING_BACK
    if after.is_stuck and not before.is_stuck:
        yield Event.ROLLBACK_FAILED


def _events_ahead(
    before: RolloutState, after: RolloutState, verdict: Verdict | None, seen: Observation | None
) -> Iterator[Event]:
    has_entered = after.step != before.step or before.status is Status.PREPARING
    if has_entered and after.weights != before.weights:
        yield Event.ADVANCED
    if seen is not None and after.dropped.keys() - before.dropped.keys():
        yield Event.CANDIDATE_DROPPED
    if after.is_frozen and not before.is_frozen:
        yield Event.FROZEN
    if CAP in after.failed and CAP not in before.failed:
        yield Event.CAP_REACHED
    elif after.status is Status.PAUSED and (before.status is not Status.PAUSED or _has_failed(before, after)):
        yield _pause(before, after, verdict)


def _has_failed(before: RolloutState, after: RolloutState) -> bool:
    """Return whether a judge found something while the rollout was paused for another reason, such as a gate."""
    return bool(set(after.failed) - set(before.failed))


def _end(after: RolloutState) -> Event:
    return _ENDS[after.outcome] if after.outcome else Event.ABORTED


def _was_never_ready(before: RolloutState, after: RolloutState, seen: Observation | None) -> bool:
    """Tell a candidate that did not start from one that a person, its group or its contract has stopped."""
    if seen is None or before.status is not Status.PREPARING:
        return False
    is_failure = after.outcome in (Outcome.ABORTED, Outcome.ROLLED_BACK)
    is_of_group = seen.group is not None and bool(seen.group.failed)
    return is_failure and not is_of_group and Answer.NO not in seen.verified.values()


def _pause(before: RolloutState, after: RolloutState, verdict: Verdict | None) -> Event:
    if SAMPLE_RATIO in after.failed and SAMPLE_RATIO not in before.failed:
        return Event.SAMPLE_RATIO_MISMATCH
    return Event.INCONCLUSIVE if verdict is Verdict.INCONCLUSIVE else Event.PAUSED


def _text(event: Event, rollout: Rollout) -> str:
    spec, state = rollout.spec, rollout.state
    words = _WORDS[event].format(weight_pct=state.weight_pct)
    return f"{spec.handle} version {spec.version} {words}: {state.reason} (rollout {spec.id})"


def _body(rollout: Rollout) -> dict[str, Any]:
    spec, state = rollout.spec, rollout.state
    return {
        "handle": spec.handle,
        "rollout": spec.id,
        "version": spec.version,
        "rivals": [*spec.rivals, *state.added],
        "stable": state.stable,
        "strategy": spec.strategy,
        "status": state.status.value,
        "outcome": state.outcome.value if state.outcome else None,
        "step": state.step,
        "weight_pct": state.weight_pct,
        "weights": {str(version): pct for version, pct in state.weights.items()},
        "winner": state.winner,
        "reason": state.reason,
        "actor": spec.actor,
    }


def _delivery(event: Event, text: str, facts: Mapping[str, Any], now_s: float) -> Delivery:
    body = {"event": event.value, "at_s": now_s, "text": text, **facts}
    content = json.dumps(body, sort_keys=True, separators=(",", ":"))
    # The same change gives the same id: whoever computes it again tells nothing twice.
    name = hashlib.sha256(content.encode()).hexdigest()[:32]
    return Delivery(id=name, event=event.value, at_s=now_s, body=body)
