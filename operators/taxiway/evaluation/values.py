"""What a gate holds and what it found: values only, nothing is measured or decided here."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from taxiway.evaluation.predictions import Predictions

Answer = Literal["yes", "no", "unknown"]
Direction = Literal["maximize", "minimize"]
LEAST_ITEMS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """What a version must reach.

    Attributes:
        minimum: Lowest value of each metric, as it was measured.
        maximum: Highest value of each metric, as it was measured.
        compare: Metric that must not be worse than the champion's, or None.
        direction: Which way that metric is better.
        tolerance: How much worse than the champion's is still as good, in the metric's own unit.
        slices: Columns of the predictions whose every value is a slice of the report.
        slice_minimum: Lowest accuracy by column (each of its values) or by `column=value` (that one alone).
        class_minimum: Lowest accuracy by label; `*` stands for every label that is not named.
        least_items: Items below which nothing is said of a slice, a class or a comparison.
        calibration_at_most: Highest calibration error, or None.
        inconclusive: What an answer that the items cannot give does to the gate.
        sla_unmeasured: What a promised answer time that the evaluation does not measure does to the gate.
        checks: The team's own checks that must have passed, as the project names them.
    """

    minimum: Mapping[str, float] = field(default_factory=dict)
    maximum: Mapping[str, float] = field(default_factory=dict)
    compare: str | None = None
    direction: Direction = "maximize"
    tolerance: float = 0.0
    slices: tuple[str, ...] = ()
    slice_minimum: Mapping[str, float] = field(default_factory=dict)
    class_minimum: Mapping[str, float] = field(default_factory=dict)
    least_items: int = LEAST_ITEMS
    calibration_at_most: float | None = None
    inconclusive: Literal["fail", "pass"] = "fail"
    sla_unmeasured: Literal["fail", "pass"] = "pass"
    checks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What a team's own check said."""

    name: str
    passed: bool
    reason: str = ""
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What an evaluation component left of one version.

    Attributes:
        metrics: Numbers by name.
        predictions: One row for each held-out item, or None where it left none.
        checks: What the team's own checks said.
        content: What the model is, byte for byte; two versions of one model measure the same.
    """

    metrics: Mapping[str, float]
    predictions: Predictions | None = None
    checks: tuple[Check, ...] = ()
    content: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """How one bar came out.

    Attributes:
        kind: minimum, maximum, champion, slice, class, calibration, sla or check.
        name: The metric, slice, class or check.
        answer: Whether the bar is reached; `unknown` where the items are too few to say.
        reason: The answer as a sentence.
        value: What was measured; for the champion, how much better this version is.
        bar: What it was held against.
        low: Lower end of the value's 95 % interval, or None without one.
        high: Its upper end.
        items: Held-out items behind it, or None.
    """

    kind: str
    name: str
    answer: Answer
    reason: str
    value: float | None = None
    bar: float | None = None
    low: float | None = None
    high: float | None = None
    items: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured, and whether it was enough.

    Attributes:
        handle: The handle.
        version: The version that was measured.
        metrics: What it measured.
        champion: The version it was compared with, or None where there is none.
        champion_metrics: What that one measured on the same data.
        passed: Whether every bar was reached.
        reasons: Why not, one for each bar; empty if it passed.
        notes: What a reader of a passed gate should know, such as a comparison without an interval.
        findings: How each bar came out.
        url: Page of the measurement in MLflow's UI.
        report_url: The report in MLflow's UI.
    """

    handle: str
    version: int
    metrics: Mapping[str, float]
    champion: int | None = None
    champion_metrics: Mapping[str, float] | None = None
    passed: bool
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    url: str = ""
    report_url: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        lists = {
            "reasons": list(self.reasons),
            "notes": list(self.notes),
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }
        return dataclasses.asdict(self) | lists
