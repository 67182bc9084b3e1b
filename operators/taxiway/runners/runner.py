"""The Protocol of what runs a component, and its values. Nothing is started here."""

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from taxiway.component import Tracking
from taxiway.packaging.package import CodePackage
from taxiway.runners.stop import Stop
from taxiway.trace import Trace

Log = Callable[[str], None]
UNLOOKED = "nobody has looked at its environment since it ended"
_PARAMETER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Folders on this host that a component reads; each runner decides under which path the component sees them.

    Attributes:
        data_dir: The data, read-only.
        model_dir: The model under evaluation.
        source_models_dir: A subfolder for each source model.
        secrets_dir: Secret files.
    """

    data_dir: Path | None = None
    model_dir: Path | None = None
    source_models_dir: Path | None = None
    secrets_dir: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of one component.

    Attributes:
        package: What is run; its manifest holds the command, where `{name}` stands for a parameter, as in an MLproject
            file.
        folder: Working folder of this run on this host, emptied at each start; its name is the job's identity: a
            retry of the same work has the same. It holds `output/` and `log.txt` in the end.
        inputs: What it reads.
        params: Its parameters, sent as JSON.
        seed: Seed of the run, or None.
        tracking: The MLflow run that it joins, or None.
    """

    package: CodePackage
    folder: Path
    inputs: Inputs = field(default_factory=Inputs)
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    tracking: Tracking | None = None

    @property
    def name(self) -> str:
        """For people, such as `visual_recognition.training`."""
        return f"{self.package.handle}.{self.package.kind}"

    @property
    def command(self) -> str:
        """What is run, without a shell."""
        return str(self.package.manifest["command"])

    @property
    def words(self) -> list[str]:
        """The command as its program and arguments, with the parameters in their places."""
        return [_filled(word, self.params) for word in shlex.split(self.command)]

    @property
    def output_dir(self) -> Path:
        """Where the component's results are when it ended, on this host."""
        return self.folder / "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What a job that ended well left.

    Attributes:
        output_dir: Its results.
        seconds: How long it ran.
        trace: Which code ran and what it read; None if nobody watched. The list of files is beside the output.
        looked: What of its environment had been altered when it had ended, once somebody has looked; None where the
            trace says so already. Until then the trace says that nobody has. True asks to look at once.
    """

    output_dir: Path
    seconds: float
    trace: Trace | None = None
    looked: Callable[[bool], tuple[str, ...]] | None = None

    def settled(self, *, at_once: bool = True) -> "JobResult":
        """Return the result with all that can be seen of it, once that has been looked at."""
        if self.trace is None or self.looked is None:
            return self
        before = tuple(each for each in self.trace.altered if each != UNLOOKED)
        trace = replace(self.trace, altered=(*before, *self.looked(at_once)))
        return replace(self, trace=trace, looked=None)


def _filled(word: str, params: Mapping[str, Any]) -> str:
    return _PARAMETER.sub(lambda match: str(params.get(match[1], match[0])), word)


class Runner(Protocol):
    """Runs one job from an empty output folder to its end.

    No retry runs beside its predecessor: the job is found again by its identity, or ends with its caller. Where it ends
    with its caller no earlier try is known, and none is left to forget: nobody need ask which runner it is. Safe to
    call from several threads with jobs of different folders.
    """

    def prepare(self, package: CodePackage) -> None:
        """Make what a package needs ready where its jobs run, once for many of them; idempotent."""
        ...

    def is_known(self, package: CodePackage, folder: Path) -> bool:
        """Tell whether `run` would go on with what an earlier try of a job left, and not begin it anew.

        Args:
            package: What the job runs.
            folder: Its working folder.
        """
        ...

    def forget(self, package: CodePackage, folder: Path) -> None:
        """End what an earlier try of a job left running, unless somebody waits for it; nobody will try it again.

        Args:
            package: What the job runs.
            folder: Its working folder.

        Raises:
            TransportError: If the engine does not answer.
        """
        ...

    def run(self, job: Job, log: Log, stop: Stop | None = None) -> JobResult:
        """Run a job and wait for it; each line that it prints goes to `log` at once.

        Args:
            job: What to run.
            log: Called with each line.
            stop: Ends the job early when somebody asks it to: `with stop.calling(end_the_job): …`.

        Raises:
            ComponentFailedError: If its command ends with an error.
            JobStoppedError: If `stop` ended it; nothing of it runs any more. One that had ended well is a result.
        """
        ...
