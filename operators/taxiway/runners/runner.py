"""The Protocol of what runs a component, and its values. Nothing is started here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of one component.

    Attributes:
        name: For people, such as `visual_recognition.training`.
        command: What to run, without a shell; `{name}` stands for a parameter, as in an MLproject file.
        source_dir: The package's source; it is copied, so that runs cannot change it or each other.
        python: Interpreter of the package's environment; its programs come first on the path.
        folder: Working folder of this run, emptied at each start: `source/` while it runs, `output/`, `log.txt`.
        environment: The contract variables (`component.environment`); the output folder is added by the runner.
        params: What `{name}` in the command is replaced by.
    """

    name: str
    command: str
    source_dir: Path
    python: Path
    folder: Path
    environment: Mapping[str, str]
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def output_dir(self) -> Path:
        """Where the component leaves its results."""
        return self.folder / "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What a job that ended well left.

    Attributes:
        output_dir: Its results.
        seconds: How long it ran.
    """

    output_dir: Path
    seconds: float


class Runner(Protocol):
    """Runs one job from an empty output folder to its end.

    The job ends when its caller does, so that a retry never meets its predecessor. Safe to call from several threads
    with jobs of different folders.
    """

    def run(self, job: Job, log: Log) -> JobResult:
        """Run a job and wait for it; each line that it prints goes to `log` at once.

        Raises:
            ComponentFailedError: If its command ends with an error.
        """
        ...
