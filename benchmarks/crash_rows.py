"""The rows of the crash matrix: every strategy, and every way in which rollouts meet each other or a person."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_BAKE: Mapping[str, Any] = {"bake": {"duration_s": 0.5}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One strategy, as the matrix plays it.

    Attributes:
        name: What it is called in the figures.
        strategy: The `strategy` of a rollout's body; None is an undo.
        weights: Weights in per cent that the candidate may be seen at, in this order and no other; None where
            rewards decide.
        outcome: How it ends, with a crash and without.
        error_rate: Share of the candidate's answers that are a 500.
        options: Further fields of the rollout's body.
        verbs: What is done to the rollout once it has reached a step: step -> verb.
        on_pause: Verb that is done once it has paused by itself; "" waits for no pause.
        following: Further fields of a second rollout that is asked for while the first is at step 1; None is none.
        is_back: Whether that one brings back the version that was live, not the candidate.
        grouped: Whether a second handle is promoted together with it.
        earns: Whether answers are rewarded, the candidate's more often.
    """

    name: str
    strategy: Mapping[str, Any] | None
    weights: tuple[float, ...] | None
    outcome: str = "Promoted"
    error_rate: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)
    verbs: Mapping[int, str] = field(default_factory=dict)
    on_pause: str = ""
    following: Mapping[str, Any] | None = None
    is_back: bool = False
    grouped: bool = False
    earns: bool = False


CANARY = [{"setWeight": 5}, {"analysis": {"units": 5}}, {"setWeight": 50}, _BAKE, {"setWeight": 100}, _BAKE]
HALVES = [{"setWeight": 50}, _BAKE, {"setWeight": 100}, _BAKE]
WAITING = [{"setWeight": 20}, {"analysis": {"units": 10**6}}, {"setWeight": 100}]
HELD = [{"setWeight": 20}, {"pause": {}}, {"setWeight": 100}]
ROWS = (
    Row(name="canary", strategy={"kind": "canary", "steps": CANARY}, weights=(0, 5, 50, 100)),
    Row(
        name="canary rolled back",
        strategy={"kind": "canary", "steps": HELD},
        weights=(0, 20, 0),
        outcome="RolledBack",
        error_rate=0.5,
    ),
    Row(
        name="canary aborted",
        strategy={"kind": "canary", "steps": HELD},
        weights=(0, 20, 0),
        outcome="Aborted",
        verbs={1: "abort"},
    ),
    Row(
        name="canary promoted by hand",
        strategy={"kind": "canary", "steps": HELD},
        weights=(0, 20, 100),
        verbs={1: "promote"},
    ),
    Row(
        name="canary paused by failure",
        strategy={"kind": "canary", "steps": WAITING},
        weights=(0, 20, 0),
        outcome="Aborted",
        error_rate=0.5,
        options={"on_failure": "pause"},
        on_pause="abort",
    ),
    Row(
        name="canary with a cap",
        strategy={"kind": "canary", "steps": WAITING},
        weights=(0, 20, 0),
        outcome="Aborted",
        # Nothing that so few users do proves so small a budget kept, which would lift the cap.
        options={"max_users": 700, "availability": 0.9999},
        on_pause="abort",
    ),
    Row(
        name="canary superseded",
        strategy={"kind": "canary", "steps": HELD},
        weights=(0, 20, 0, 50, 100),
        outcome="Superseded",
        following={"on_running": "supersede", "strategy": {"kind": "canary", "steps": HALVES}},
    ),
    Row(
        name="canary with one queued",
        strategy={"kind": "canary", "steps": HALVES},
        weights=(0, 50, 100, 50, 0),
        following={"on_running": "queue", "strategy": {"kind": "canary", "steps": HALVES}},
        is_back=True,
    ),
    Row(
        name="group of two",
        strategy={"kind": "canary", "steps": HALVES},
        weights=(0, 50, 100),
        grouped=True,
    ),
    Row(name="linear", strategy={"kind": "linear", "step_pct": 50, "interval_s": 0.5}, weights=(0, 50, 100)),
    Row(name="all at once", strategy={"kind": "all_at_once", "bake_s": 0.5}, weights=(0, 100)),
    Row(
        name="blue-green",
        strategy={"kind": "blue_green", "bake_s": 0.5, "units": 20},
        weights=(0, 100),
    ),
    Row(
        name="bandit",
        strategy={
            "kind": "bandit",
            "reward": "click",
            "update_s": 0.5,
            "window_s": 1,
            "min_units": 20,
            "min_successes": 2,
            "min_s": 2,
            # A winner needs forty rewards of the version beside it too: at the usual 1 % that takes minutes.
            "floor": 0.2,
            "promote": False,
        },
        weights=None,
        outcome="Completed",
        earns=True,
    ),
    Row(
        name="shadow",
        strategy={
            "kind": "shadow",
            "sample_pct": 50,
            "samples": 20,
            "most_different_pct": 20,
            "compare": {"pointer": "/label"},
        },
        weights=(0,),
        outcome="Completed",
    ),
    Row(name="ab", strategy={"kind": "ab", "units": 100}, weights=(0, 50, 0), outcome="Completed"),
    Row(name="undo", strategy=None, weights=(0, 100)),
)
