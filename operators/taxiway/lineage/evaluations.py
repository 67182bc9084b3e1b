"""Reads evaluations for the index: runs of MLflow that measured a version on data, with the gate's verdict on them.

A verdict comes after the run has ended, and may be another when other bars are set, so those of what is asked for are
read anew each time.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from taxiway.lineage.graph import Edge, EdgeKind, Node, code_id, model_id
from taxiway.registry import tracking, verdicts
from taxiway.registry.reading import tag_terms
from taxiway.settings import Settings

KIND = "evaluation"
NO_VERDICT = "none: it was measured and not judged"
AIRFLOW = "taxiway.airflow."
EDGES = ("evaluates", "measured_on", "measured_by")


def since(ended_s: float, settings: Settings) -> tuple[tracking.Run, ...]:
    """Return the evaluations that ended at a time, in seconds since the epoch, or later.

    Raises:
        TransportError: If MLflow does not answer.
    """
    terms = [*tag_terms({"taxiway.kind": KIND}), "attributes.status = 'FINISHED'"]
    return tracking.all_runs([*terms, f"attributes.end_time >= {int(ended_s * 1000)}"], settings)


def again(known: Sequence[str], settings: Settings) -> tuple[tracking.Run, ...]:
    """Return evaluations as they are now, by their ids; those that were deleted are left out.

    Raises:
        TransportError: If MLflow does not answer.
    """
    ids = ", ".join(f"'{name}'" for name in known)
    return tracking.all_runs([f"attributes.run_id IN ({ids})"], settings) if known else ()


def told(runs: Iterable[tracking.Run]) -> tuple[list[Node], list[Edge]]:
    """Return evaluations as nodes, with edges to the model, the data and the code of each."""
    nodes, edges = [], []
    for run in runs:
        tags = run.tags
        if any(not tags.get(name) for name in ("taxiway.model_version", "taxiway.dataset")):
            continue
        parents: dict[EdgeKind, str] = {
            "evaluates": model_id(tags["taxiway.handle"], tags["taxiway.model_version"]),
            "measured_on": tags["taxiway.dataset"],
            "measured_by": code_id(tags["taxiway.handle"], KIND, tags["taxiway.evaluation.digest"]),
        }
        nodes.append(Node(id=run.run_id, kind="evaluation", at_s=run.ended_at_s, facts=_facts(run, parents)))
        edges += [Edge(child=run.run_id, kind=kind, parent=parent) for kind, parent in parents.items()]
    return nodes, edges


def _facts(run: tracking.Run, parents: Mapping[EdgeKind, str]) -> dict[str, Any]:
    said = verdicts.of(run)
    return {
        "model": parents["evaluates"],
        "dataset": parents["measured_on"],
        "check": parents["measured_by"],
        "verdict": run.tags.get(verdicts.GATE) or NO_VERDICT,
        "said_by": said[-1].source if said else "",
        "earlier_verdicts": [str(each) for each in said[:-1]],
        "metrics": dict(run.metrics),
        "task": {key.removeprefix(AIRFLOW): run.tags[key] for key in run.tags if key.startswith(AIRFLOW)},
    }
