"""Which numbers of a run count: those that its component left in `metrics.json`, whatever else it logged to MLflow.

Their names are tags of the run, their values the run's metrics. Nothing is judged here.
"""

import json
from collections.abc import Mapping

from taxiway.registry.tracking import Run

NAMES = "taxiway.measured"
MOST_PART = 4_000
"""Longest text of a tag that is written, in characters: MLflow takes 5,000 bytes or more."""


def tags(metrics: Mapping[str, float]) -> dict[str, str]:
    """Return the tags that say which metrics of a run count; there are several where one cannot hold them."""
    text = json.dumps(sorted(metrics))
    parts = [text[at : at + MOST_PART] for at in range(0, len(text), MOST_PART)]
    return {NAMES: str(len(parts)), **{f"{NAMES}.{at}": part for at, part in enumerate(parts)}}


def of(run: Run) -> dict[str, float]:
    """Return the numbers of a run that count; all of one that was made before a run said which."""
    if NAMES not in run.tags:
        return dict(run.metrics)
    parts = [run.tags[f"{NAMES}.{at}"] for at in range(int(run.tags[NAMES]))]
    names: list[str] = json.loads("".join(parts)) if parts else []
    return {name: run.metrics[name] for name in names}
