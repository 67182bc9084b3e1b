"""What a story came to: its figures, and what the closing screen says of it. Prints and writes nothing."""

from __future__ import annotations

import json
import os
import time

from taxiway.trial import screen
from taxiway.trial.services import DAG_ID, HANDLE
from taxiway.trial.stage import Stage
from taxiway.trial.story import RATE_RPS, Met, Story
from taxiway.trial.summary import Summary, VersionSummary


def summarise(stage: Stage, story: Story, began_s: float) -> Summary:
    """Return the figures of a story that ended, or that broke.

    Args:
        stage: Where it was played.
        story: As far as it went.
        began_s: When the trial began.
    """
    counts, live = story.counts, stage.watch.live
    first = counts.first_answer_at_s
    return Summary(
        seconds_to_first_answer=None if first is None else round(first - began_s, 2),
        seconds_total=round(time.time() - began_s, 2),
        requests=counts.requests,
        failed_requests=counts.failed,
        rollback_seconds=None if story.rollback_s is None else round(story.rollback_s, 2),
        versions=tuple(
            VersionSummary(version=met.version, accuracy=met.accuracy, state=met.state(live))
            for met in _in_order(story)
        ),
        peak_memory_mb=round(stage.peak_memory_mb),
    )


def closing(
    stage: Stage, story: Story, summary: Summary, began_s: float, *, stops_itself: bool
) -> screen.Closing:
    """Return what the closing screen says of a story that was played to its end."""
    return screen.Closing(
        seconds_total=summary.seconds_total,
        seconds_to_first_answer=summary.seconds_to_first_answer,
        rows=[_row(met, stage) for met in _in_order(story)],
        splits=[(sample.at_s - began_s, sample.shares) for sample in stage.watch.samples],
        requests=summary.requests,
        failed=summary.failed_requests,
        rate_rps=RATE_RPS,
        rollback_s=summary.rollback_seconds,
        peak_memory_mb=summary.peak_memory_mb,
        curl=_curl(stage),
        links=_links(stage),
        next_step=_next_step(stage, stops_itself=stops_itself),
    )


def _in_order(story: Story) -> list[Met]:
    return [story.met[version] for version in sorted(story.met)]


def _row(met: Met, stage: Stage) -> screen.Row:
    weights = ", ".join(f"{weight:g} %" for weight in stage.watch.weights_pct(met.version))
    told = (met.role, weights, met.state(stage.watch.live))
    return screen.Row(version=met.version, accuracy=met.accuracy, story="; ".join(filter(None, told)))


def _curl(stage: Stage) -> str:
    image = stage.layout.checkout / "examples" / HANDLE / "samples" / "seven.png"
    return f"curl -i -F image=@{os.path.relpath(image)} {stage.addresses.endpoint}/predict"


def _links(stage: Stage) -> dict[str, str]:
    return {
        "Airflow": f"{stage.addresses.url('airflow')}/dags/{DAG_ID}",
        "MLflow": f"{stage.addresses.url('mlflow')}/#/models/{HANDLE}",
        "API": f"{stage.addresses.url('controller')}/docs",
    }


def _next_step(stage: Stage, *, stops_itself: bool) -> str:
    if stops_itself:
        return f"{stage.command}    (goes on from here, and keeps serving)"
    body = json.dumps({"logical_date": None, "conf": {"trials": 12}})
    url = f"{stage.addresses.url('airflow')}/api/v2/dags/{DAG_ID}/dagRuns"
    return f"curl -H 'content-type: application/json' -d '{body}' {url}    (Ctrl-C ends everything)"
