"""What the gate said of a measurement, and who asked: tags of its MLflow run, one for each verdict.

The same measurement may be held against other bars by somebody else: no verdict takes another's place. The tag
`taxiway.gate` is the newest one. Nothing is judged here.
"""

import json
from dataclasses import asdict, dataclass

from taxiway.provenance import Provenance
from taxiway.registry.tracking import Run

GATE = "taxiway.gate"
NOTEBOOK = "a notebook"
_EARLIER = f"{GATE}.earlier"
_MOST = 3_500
"""Longest text of a verdict in a tag, in characters; the whole of it is in its report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One verdict of the gate.

    Attributes:
        said: `passed`, or why it did not.
        by: Who asked; "" where nobody wrote that down.
        at: When it was last said, in UTC, as ISO 8601 writes it; "" where nobody wrote that down.
    """

    said: str
    by: str = ""
    at: str = ""

    @property
    def source(self) -> str:
        """Who asked and when, for people."""
        return f"{self.by}, {self.at}" if self.by else "nobody wrote down who asked"

    def __str__(self) -> str:
        """Return it for people."""
        return f"{self.said} ({self.source})"


def asker(provenance: Provenance | None) -> str:
    """Return who asks, as a verdict names him: a task of Airflow, or a notebook."""
    if provenance is None:
        return NOTEBOOK
    return f"airflow {provenance.dag_id}.{provenance.task_id} {provenance.run_id}"


def tags(run: Run, mark: str, verdict: Verdict) -> dict[str, str]:
    """Return the tags that add a verdict to those of a run; the same verdict again is the same tag.

    Args:
        run: As it is.
        mark: What tells this verdict from the others, 12 hexadecimal characters.
        verdict: The verdict.
    """
    own = Verdict(said=verdict.said[:_MOST], by=verdict.by, at=verdict.at)
    found = {GATE: own.said, f"{GATE}.{mark}": json.dumps(asdict(own), ensure_ascii=False)}
    if run.tags.get(GATE) and not of(run):
        found[_EARLIER] = json.dumps(asdict(Verdict(said=run.tags[GATE][:_MOST])), ensure_ascii=False)
    return found


def of(run: Run) -> tuple[Verdict, ...]:
    """Return the verdicts on a run, the newest last; none of a run that was judged before they were kept apart."""
    kept = [json.loads(text) for name, text in run.tags.items() if name.startswith(f"{GATE}.")]
    return tuple(sorted((Verdict(**each) for each in kept), key=lambda one: one.at))
