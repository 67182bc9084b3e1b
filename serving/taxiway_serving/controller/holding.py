"""Looks that are kept together: while a rollout waits and nothing speaks against its candidate, one entry says it all.

A rollout that is paused for a week would else fill the ledger with a million looks that tell nothing. What is kept is
decided on at every look as if it were new, so that nothing waits for what speaks against a candidate; only what is
written waits. It lives in memory alone: after a crash it is read again, behind the cursor that was stored.
"""

from dataclasses import dataclass, field, replace

from taxiway_serving.answers import Answer
from taxiway_serving.controller.deciding import Decided, Judged
from taxiway_serving.controller.looking import World
from taxiway_serving.evidence.source import Attempt
from taxiway_serving.ledger.store import Change
from taxiway_serving.rollout.state import Status, Verdict
from taxiway_serving.rollout.steps import Bake, Pause
from taxiway_serving.rollout.weighing import SETTLED_S

LONGEST_S = 10.0
MOST_ATTEMPTS = 20_000

_EVIDENCE = ("totals", "at_step", "guards", "compared", "cursors", "reason")
"""What of a rollout's state only grows by looking; a change of anything else is stored at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What is kept.

    Attributes:
        attempts: Those that no stored look has taken in.
        since_s: When the first of them was looked at; None while there are none.
        change: What they change, had they to be stored now.
    """

    attempts: tuple[Attempt, ...] = ()
    since_s: float | None = None
    change: Change = field(default_factory=Change)

    def joined(self, world: World) -> World:
        """Return a look with what is kept before what is new."""
        return replace(world, attempts=(*self.attempts, *world.attempts)) if self.attempts else world


NOTHING_HELD = Held()


def held_back(held: Held, decided: Decided, world: World, now_s: float) -> tuple[Change, Held]:
    """Return what of a look is stored now, and what is kept from then on.

    Args:
        held: What was kept so far.
        decided: What was decided on all of it together.
        world: All of it.
        now_s: Seconds since the epoch.
    """
    since_s = now_s if held.since_s is None else held.since_s
    is_little = now_s - since_s < LONGEST_S and len(world.attempts) <= MOST_ATTEMPTS
    if decided.looks == Change() or not (is_little and can_wait(decided, now_s)):
        return decided.whole, NOTHING_HELD
    return decided.rest, Held(attempts=world.attempts, since_s=since_s, change=decided.looks)


def can_wait(decided: Decided, now_s: float) -> bool:
    """Return whether no rollout has anything to tell that must not be lost."""
    return bool(decided.judged) and all(_is_quiet(each, now_s) for each in decided.judged)


def _is_quiet(judged: Judged, now_s: float) -> bool:
    seen, before = judged.seen, judged.before.state
    is_well = all(answer is Answer.YES for answer in (seen.applied, seen.evidence, *seen.candidates.values()))
    is_settled = now_s - before.weighed_at_s >= SETTLED_S
    has_new = judged.decision.verdict is not Verdict.HOLD or bool(seen.measured) or _has_bad(judged)
    return _rests(judged) and is_well and is_settled and not has_new and _only_evidence(judged)


def _rests(judged: Judged) -> bool:
    """Return whether a rollout waits for a person or for time. One with a cap on users counts them at every look."""
    rollout = judged.before
    if rollout.spec.max_users is not None and not rollout.state.is_open and not rollout.state.is_closed:
        return False
    is_timed = isinstance(rollout.plan[rollout.state.step], Pause | Bake)
    return rollout.state.status is Status.PAUSED or (rollout.state.status is Status.PROGRESSING and is_timed)


def _has_bad(judged: Judged) -> bool:
    counts = judged.seen.counts.values()
    return judged.seen.first_bad_at_s is not None or any(each.bad_canary for each in counts)


def _only_evidence(judged: Judged) -> bool:
    before = judged.before.state
    same = {name: getattr(before, name) for name in _EVIDENCE}
    return replace(judged.decision.state, **same) == before
