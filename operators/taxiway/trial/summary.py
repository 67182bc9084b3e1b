"""What a trial measured, as `summary.json`. The fields are a contract: a script reads them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from taxiway.tools import write_atomically

MIN_REQUESTS = 3_000
MAX_ROLLBACK_S: Final = 30
MAX_MEMORY_MB: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSummary:
    """One model version of the story.

    Attributes:
        version: Its number in MLflow.
        accuracy: Of its evaluation, 0 to 1; None when it was not evaluated.
        state: `live`, `replaced` or `rolled back`; `deployed` before it had traffic.
    """

    version: int
    accuracy: float | None
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of one trial.

    Attributes:
        seconds_to_first_answer: From the start of the trial, at the end of installation, to the first good answer
            that a client got; None when there was none.
        seconds_total: From the same start to the end of the story.
        requests: That clients sent, answered or not.
        failed_requests: Of these, without an answer or with another than 2xx.
        rollback_seconds: From version 3's first bad answer to the moment when 0 % was read back from Envoy; None
            when nothing was rolled back.
        versions: Every model version that the story met.
        peak_memory_mb: Of all processes together, at its highest.
    """

    seconds_to_first_answer: float | None
    seconds_total: float
    requests: int
    failed_requests: int
    rollback_seconds: float | None
    versions: tuple[VersionSummary, ...] = field(default=())
    peak_memory_mb: float

    def faults(self) -> tuple[str, ...]:
        """Return what the figures say against the trial; an empty tuple when nothing."""
        faults = []
        if self.failed_requests:
            faults.append(f"{self.failed_requests} of {self.requests} requests failed; 0 may")
        if self.requests < MIN_REQUESTS:
            faults.append(f"{self.requests} requests were sent; at least {MIN_REQUESTS} must be")
        if self.seconds_to_first_answer is None:
            faults.append("the endpoint gave no answer")
        if self.rollback_seconds is None:
            faults.append("no rollback was measured")
        elif self.rollback_seconds > MAX_ROLLBACK_S:
            faults.append(f"the rollback took {self.rollback_seconds:.0f} s; at most {MAX_ROLLBACK_S} s may")
        if self.peak_memory_mb > MAX_MEMORY_MB:
            faults.append(f"{self.peak_memory_mb:.0f} MB were used; at most {MAX_MEMORY_MB} MB may be")
        return tuple(faults)

    def write(self, path: Path) -> None:
        write_atomically(path, json.dumps(asdict(self), indent=2) + "\n")


def earlier_accuracies(path: Path) -> dict[int, float | None]:
    """Return the accuracy of the versions that an earlier trial met; nothing where there was none."""
    try:
        return {entry["version"]: entry["accuracy"] for entry in json.loads(path.read_text())["versions"]}
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
        return {}
