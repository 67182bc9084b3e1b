"""What a search found. Values only."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taxiway.tuning.verdict import Better


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneResult:
    """What a search found.

    Attributes:
        params: Every parameter of the trial that is taken, defaults included; the defaults alone without a trial.
        value: What it measured in the first objective, or None.
        values: What it measured in each objective.
        study: Name of the study.
        trials: Trials that finished, over all calls; those that were ended early are among them.
        pruned: Trials that were ended early.
        failed: Trials that failed, each try counted.
        reason: Why this trial is taken.
        front: Trials that no other beats: `{number, params, values}`; the one alone for one objective.
        stopped_by: `trials`, `patience`, `timeout`, or "" where workers ended before the search did.
        better: Whether its parameters are better than those of `rival`: yes, no or inconclusive; None if it was not
            asked.
        verdict: Why, as a sentence.
        rival: The live version, or the defaults.
        difference: Mean improvement over the rival, on items that the search did not see; above 0 is better.
        low: Lower end of its 95 % interval.
        high: Upper end.
        run_id: MLflow run that the trials are nested in, or None.
        url: Its page.
    """

    params: Mapping[str, Any]
    value: float | None = None
    values: Mapping[str, float] = dataclasses.field(default_factory=dict)
    study: str = ""
    trials: int = 0
    pruned: int = 0
    failed: int = 0
    reason: str = ""
    front: Sequence[Mapping[str, Any]] = ()
    stopped_by: str = ""
    better: Better | None = None
    verdict: str = ""
    rival: str = ""
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    run_id: str | None = None
    url: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self) | {"front": [dict(each) for each in self.front]}
