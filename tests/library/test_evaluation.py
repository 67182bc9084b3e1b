"""The gate: pure judgement of numbers, and its whole walk on a registered version."""

from pathlib import Path
from typing import Any

import pytest

from taxiway.datasets import DatasetVersion
from taxiway.errors import GateFailedError, InvalidSpecError, ModelNotFoundError
from taxiway.evaluation import Bars, Measured, evaluate, gate, judge
from taxiway.packaging import package
from taxiway.registry import models, packages, tracking
from taxiway.settings import Settings
from taxiway.training import train


@pytest.mark.parametrize(
    ("metrics", "champion", "parts"),
    [
        ({"a": 0.9, "b": 0.5}, None, []),
        ({"a": 0.9, "b": 0.5}, {"a": 0.91}, ["champion's 0.91 has no interval"]),
        ({"a": 0.9, "b": 0.5}, {"a": 0.95}, ["champion's 0.95 by more than 0.02"]),
        ({"a": 0.7, "b": 0.4}, {"a": 0.95}, ["a 0.7 is below its minimum 0.8", "b 0.4", "champion's"]),
        ({}, {"a": 0.9}, ["a was not measured, its minimum", "b was not measured", "cannot be compared"]),
        ({"a": 0.9, "b": 0.5}, {}, ["of the champion was not measured"]),
    ],
    ids=[
        "first-version",
        "within-tolerance",
        "worse",
        "every-reason",
        "nothing-measured",
        "champion-unmeasured",
    ],
)
def test_judge_names_every_bar_that_is_not_reached(
    metrics: dict[str, float], champion: dict[str, float] | None, parts: list[str]
) -> None:
    bars = Bars(minimum={"a": 0.8, "b": 0.5}, compare="a", tolerance=0.02)
    theirs = None if champion is None else Measured(metrics=champion)
    reasons = gate.refusals(judge(Measured(metrics=metrics), theirs, bars), bars)
    assert len(reasons) == len(parts)
    for reason, part in zip(reasons, parts, strict=True):
        assert part in reason


@pytest.mark.slow
def test_gate_opens_and_closes_with_every_reason(
    handled: Path, handle: str, dataset: DatasetVersion, live: Settings
) -> None:
    packages.register(package(str(handled), live), live)
    good = train(handle, dataset, live, params={"c": 0.3})
    passed = evaluate(handle, good.version, dataset, live)
    assert passed.metrics == {"score": 1.0, "per_class.a": 1.0}
    assert (passed.champion, passed.reasons) == (None, ())
    assert evaluate(handle, good.version, dataset, live) == passed
    assert passed.notes == evaluate(handle, good.version, dataset, live).notes

    # With another version there, which may be live, and nobody to ask, it is no first version any more.
    bad = train(handle, dataset, live, params={"c": 1.0})
    (untold,) = set(evaluate(handle, good.version, dataset, live).notes) - set(passed.notes)
    assert untold.startswith("inconclusive, let pass: score was not compared: the controller did not answer")
    models.set_alias(handle, models.CHAMPION, good.version, live)
    with pytest.raises(GateFailedError) as caught:
        evaluate(handle, bad.version, dataset, live)
    assert len(caught.value.reasons) == 2
    assert "below its minimum 0.9" in str(caught.value)
    assert "champion's 1" in str(caught.value)
    opened = evaluate(handle, bad.version, dataset, live, minimum={}, tolerance=0.6)
    assert (opened.champion, opened.champion_metrics) == (1, passed.metrics)
    assert opened.notes[0].startswith(
        "inconclusive, let pass: score 0.51 against the champion's 1 has no interval"
    )

    experiment = tracking.ensure_experiment(handle, live)
    measured = tracking.find_runs(experiment, {"taxiway.kind": "evaluation"}, live)
    assert len(measured) == 2
    assert not list((live.home / "runs").glob("*/output"))
    with pytest.raises(ModelNotFoundError):
        evaluate(handle, 9, dataset, live)


@pytest.mark.slow
@pytest.mark.parametrize("bars", [{"minimum": {"score": float("nan")}}, {"tolerance": float("inf")}])
def test_bar_that_nothing_can_miss_is_refused(
    handled: Path, handle: str, dataset: DatasetVersion, live: Settings, bars: dict[str, Any]
) -> None:
    packages.register(package(str(handled), live, kinds=["evaluation"]), live)
    with pytest.raises(InvalidSpecError, match="finite"):
        evaluate(handle, 1, dataset, live, **bars)
