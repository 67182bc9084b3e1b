"""Deciding again what a ledger says was decided: every look of every rollout, from the ledger alone. Reads only."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from taxiway_serving.ledger.chain import Entry
from taxiway_serving.ledger.sql import SqlStore
from taxiway_serving.rollout.machine import advance
from taxiway_serving.rollout.observation import observation_from_json
from taxiway_serving.rollout.plans import plan_from_json
from taxiway_serving.rollout.spec import RolloutSpec, spec_from_json
from taxiway_serving.rollout.state import RolloutState, state_from_json
from taxiway_serving.rollout.steps import Step

_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Replayed:
    """A rollout as far as the ledger was read."""

    spec: RolloutSpec
    plan: tuple[Step, ...] = ()
    state: RolloutState | None = None


def differences(url: str) -> Iterator[str]:
    """Yield, in words, each decision that does not come out again as the ledger has it, and each state at its end.

    Args:
        url: Address of the controller's database.
    """
    store = SqlStore(url)
    try:
        replayed: dict[str, _Replayed] = {}
        for entry in _entries(store):
            name = entry.body.get("rollout")
            if entry.kind == "asked" and name:
                replayed[name] = _Replayed(spec=spec_from_json(entry.body["spec"]))
            elif name in replayed:
                replayed[name], told = _next(replayed[name], entry)
                yield from told
        for name, each in replayed.items():
            stored = store.rollout(name)
            if each.state is not None and (stored is None or stored.state != each.state):
                yield f"{name}: stored {stored and stored.state}, replayed {each.state}"
    finally:
        store.close()


def _entries(store: SqlStore) -> Iterator[Entry]:
    seq = 0
    while page := store.entries(None, after=seq, limit=_PAGE):
        yield from page
        seq = page[-1].seq


def _next(before: _Replayed, entry: Entry) -> tuple[_Replayed, list[str]]:
    """Return a rollout after one more entry, and what is not as the entry has it."""
    body: Mapping[str, Any] = entry.body
    plan = plan_from_json(body["plan"]) if "plan" in body else before.plan
    if entry.kind != "decision" or before.state is None:
        state = state_from_json(body["state"]) if "state" in body else before.state
        return _Replayed(spec=before.spec, plan=plan, state=state), []
    look = observation_from_json(body["look"])
    decision = advance(before.spec, plan, before.state, look, entry.at_s)
    again = (decision.verdict.value, decision.reason, decision.state.step)
    recorded = (body["verdict"], entry.reason, body["step"])
    told = [] if again == recorded else [f"entry {entry.seq}: recorded {recorded}, replayed {again}"]
    return _Replayed(spec=before.spec, plan=plan, state=decision.state), told
