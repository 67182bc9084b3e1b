"""Every error of the library; it extends the serving plane's tree, so that one `except TaxiwayError` catches both.

    TaxiwayError
    ├── InvalidSpecError              never worth a retry
    │   ├── ProjectFaultsError        a model project that breaks the contract
    │   ├── OutputFaultsError         a component that left no results, or wrong ones
    │   ├── ForbiddenStrategyError    a strategy that the model project rules out
    │   ├── ForbiddenDataError        data that no promoted model may be made of
    │   ├── ResourceShortageError     a component that asks for more than the host has
    │   ├── NoFeasibleTrialError      a study in which no trial keeps its constraints
    │   └── UntraceableError          a model version with a missing edge of its lineage
    ├── NotFoundError
    │   ├── PackageNotRegisteredError
    │   ├── DatasetNotFoundError
    │   └── ModelNotFoundError
    ├── ComponentFailedError          a component's command ended with an error; carries the end of its log
    │   └── OutOfMemoryError          it needed more memory than its limit
    ├── JobStoppedError               a component's run that was ended early on purpose
    ├── JobLostError                  a component whose node was lost while it ran; a retry starts clean
    ├── ToolFailedError               git, dvc or uv ended with an error; may be retried
    ├── DataChangedError              bytes on disk are not those of the dataset version
    ├── DiskFullError                 no room for what had to be written; nothing of it was left
    ├── ArtifactChangedError          a package or a model that is not what was registered
    ├── GateFailedError               an evaluation below its bars
    ├── VerificationFailedError       an endpoint that did not prove its contract or its SLA
    └── RolloutEndedError             a rollout that did not promote
        ├── RolledBackError
        └── SupersededError           a rollout that gave way to a newer one

The facts are attributes and `args`, so that an error survives pickling. No code but these classes lives here.
"""

from pathlib import Path

from taxiway_serving.errors import (
    AuthenticationError,
    InvalidNameError,
    InvalidSpecError,
    NotFoundError,
    NotReadyError,
    TaxiwayError,
    ToolFailedError,
    TransportError,
)

__all__ = [
    "ArtifactChangedError",
    "AuthenticationError",
    "ComponentFailedError",
    "DataChangedError",
    "DatasetNotFoundError",
    "DiskFullError",
    "ForbiddenDataError",
    "ForbiddenStrategyError",
    "GateFailedError",
    "InvalidNameError",
    "InvalidSpecError",
    "JobLostError",
    "JobStoppedError",
    "ModelNotFoundError",
    "NoFeasibleTrialError",
    "NotFoundError",
    "NotReadyError",
    "OutOfMemoryError",
    "OutputFaultsError",
    "PackageNotRegisteredError",
    "ProjectFaultsError",
    "ResourceShortageError",
    "RolledBackError",
    "RolloutEndedError",
    "SupersededError",
    "TaxiwayError",
    "ToolFailedError",
    "TransportError",
    "UntraceableError",
    "VerificationFailedError",
]


class ProjectFaultsError(InvalidSpecError):
    """A model project that breaks the contract, with every fault named at once."""

    def __init__(self, root: str, faults: tuple[str, ...]) -> None:
        super().__init__(faults, f"model project {root}")
        self.args = (root, faults)
        self.root = root

    def __str__(self) -> str:
        lines = "".join(f"\n  - {fault}" for fault in self.faults)
        return f"model project {self.root} breaks the contract in {len(self.faults)} place(s):{lines}"


class OutputFaultsError(InvalidSpecError):
    """A component that ended well and left no results, or wrong ones."""


class NoFeasibleTrialError(InvalidSpecError):
    """A study whose trials all ended and none of which keeps the constraints; the closest one is named."""

    def __init__(self, study: str, trials: int, closest: int, broken: tuple[str, ...]) -> None:
        super().__init__(broken, f"study {study}")
        self.args = (study, trials, closest, broken)
        self.study, self.trials, self.closest = study, trials, closest

    def __str__(self) -> str:
        return (
            f"none of the {self.trials} trials of study {self.study} keeps its constraints; trial {self.closest} is "
            f"the closest and breaks {', '.join(self.faults)}. Ask for more trials, or loosen a constraint"
        )


class ForbiddenDataError(InvalidSpecError):
    """A model made of data that the data repository's `policy.toml` keeps out of promotion; no traffic moved."""

    def __init__(self, handle: str, version: int, reasons: tuple[str, ...]) -> None:
        super().__init__(tuple(reasons), f"{handle}/{version} is never promoted")
        self.args = (handle, version, tuple(reasons))
        self.handle, self.version, self.reasons = handle, version, tuple(reasons)


class UntraceableError(InvalidSpecError):
    """A model version, or data that a transform left, that could not be traced back to code, data or parameters."""


class ForbiddenStrategyError(InvalidSpecError):
    """A strategy that a model project's `[tool.taxiway.traffic]` rules out; no traffic moved."""

    def __init__(self, handle: str, strategy: str, reason: str) -> None:
        super().__init__((strategy,), handle)
        self.args = (handle, strategy, reason)
        self.handle, self.strategy, self.reason = handle, strategy, reason

    def __str__(self) -> str:
        return (
            f"{self.handle} forbids the strategy {self.strategy}: {self.reason}; no traffic moved. "
            "Take another strategy, or change forbid in the project's [tool.taxiway.traffic]"
        )


class ResourceShortageError(InvalidSpecError):
    """A component that asks for more than its host has, with everything that is lacking; it was not started."""

    def __init__(self, component: str, host: str, lacking: tuple[str, ...]) -> None:
        super().__init__(lacking, component)
        self.args = (component, host, lacking)
        self.component, self.host, self.lacking = component, host, lacking

    def __str__(self) -> str:
        return (
            f"{self.component} asks for more than {self.host} has: {'; '.join(self.lacking)}; it was not started. "
            "Ask for less in its table of resources, or run it on a larger host"
        )


class PackageNotRegisteredError(NotFoundError):
    """A code package that nobody registered; nothing runs that is not in the registry."""

    def __init__(self, handle: str, kind: str, digest: str | None = None) -> None:
        name = f"{handle}.{kind}" + (f" with digest {digest[:12]}" if digest else "")
        super().__init__(
            "registered code package", name, f"package and register the {kind} component of {handle} first"
        )
        self.args = (handle, kind, digest)
        self.handle, self.kind, self.digest = handle, kind, digest


class DatasetNotFoundError(NotFoundError):
    """A dataset, or one of its versions, that the data repository does not hold."""

    def __init__(self, name: str, revision: str, known: tuple[str, ...]) -> None:
        super().__init__(
            "dataset version", f"{name}@{revision}", f"known: {', '.join(known) or 'none; take a snapshot'}"
        )
        self.args = (name, revision, known)
        self.dataset, self.revision, self.known = name, revision, known


class ModelNotFoundError(NotFoundError):
    """A model version or alias that the registry does not hold."""

    def __init__(self, handle: str, version: str) -> None:
        super().__init__("model version", f"{handle}/{version}", "train the handle first")
        self.args = (handle, version)
        self.handle, self.version = handle, version


class ComponentFailedError(TaxiwayError):
    """A component whose command ended with an error."""

    def __init__(self, component: str, command: str, exit_code: int, log_tail: str) -> None:
        super().__init__(component, command, exit_code, log_tail)
        self.component, self.command, self.exit_code, self.log_tail = component, command, exit_code, log_tail

    def __str__(self) -> str:
        how = (
            f"was ended by signal {-self.exit_code}" if self.exit_code < 0 else f"ended with {self.exit_code}"
        )
        return f"{self.component}: `{self.command}` {how}; the end of its log:\n{self.log_tail}"


class OutOfMemoryError(ComponentFailedError):
    """A component that the kernel ended because it needed more memory than it may use."""

    def __init__(self, component: str, command: str, limit_mb: int | None, log_tail: str) -> None:
        super().__init__(component, command, -9, log_tail)
        self.args = (component, command, limit_mb, log_tail)
        self.limit_mb = limit_mb

    def __str__(self) -> str:
        limit = "what its host has" if self.limit_mb is None else f"its limit of {self.limit_mb} MB"
        return (
            f"{self.component}: `{self.command}` was ended by the kernel: it needed more memory than {limit}; "
            f"raise memory_mb in its table of resources, or let it use less. The end of its log:\n{self.log_tail}"
        )


class JobStoppedError(TaxiwayError):
    """A component that was ended early because its caller asked for it; none of its results is used."""

    def __init__(self, component: str) -> None:
        super().__init__(component)
        self.component = component

    def __str__(self) -> str:
        return f"{self.component} was ended early, as its caller asked"


class JobLostError(TaxiwayError):
    """A component whose node of a Swarm was lost, or gave it up, while it ran; none of its results is used."""

    def __init__(self, component: str, node: str, why: str) -> None:
        super().__init__(component, node, why)
        self.component, self.node, self.why = component, node, why

    def __str__(self) -> str:
        return (
            f"{self.component} was lost with the node {self.node or 'that it was to run on'}: {self.why}; nothing of "
            "it counts, and a retry starts it clean on another node"
        )


class DataChangedError(TaxiwayError):
    """Bytes on disk that are not those of the dataset version they stand for."""

    def __init__(self, folder: Path, expected: str, got: str) -> None:
        super().__init__(folder, expected, got)
        self.folder, self.expected, self.got = folder, expected, got

    def __str__(self) -> str:
        return (
            f"{self.folder} holds {self.got}, the dataset version says {self.expected}; "
            "delete the folder to fetch it again, or snapshot the change as a new version"
        )


class DiskFullError(TaxiwayError):
    """No room for what had to be written, such as a dataset version; nothing half-written was left."""

    def __init__(self, folder: Path, needed_bytes: int | None, free_bytes: int) -> None:
        super().__init__(folder, needed_bytes, free_bytes)
        self.folder, self.needed_bytes, self.free_bytes = folder, needed_bytes, free_bytes

    def __str__(self) -> str:
        needed = (
            "a file could not be written"
            if self.needed_bytes is None
            else f"{self.needed_bytes} bytes are needed"
        )
        return (
            f"no room at {self.folder}: {needed}, {self.free_bytes} bytes are free; nothing was left there. "
            "Make room, or raise the limit of a file's size, and try again"
        )


class ArtifactChangedError(TaxiwayError):
    """A package or a model whose files are not those that were registered; none of them was used."""

    def __init__(self, what: str, part: str, expected: str, got: str, next_step: str) -> None:
        super().__init__(what, part, expected, got, next_step)
        self.what, self.part, self.expected, self.got = what, part, expected, got
        self.next_step = next_step

    def __str__(self) -> str:
        return (
            f"{self.what}: its {self.part} has the hash {self.got[:12]}, registered was {self.expected[:12]}; "
            f"{self.next_step}"
        )


class GateFailedError(TaxiwayError):
    """An evaluation below one of its bars, with every reason, and the page that shows them where there is one."""

    def __init__(self, handle: str, version: int, reasons: tuple[str, ...], report: str = "") -> None:
        super().__init__(handle, version, tuple(reasons), report)
        self.handle, self.version, self.reasons, self.report = handle, version, tuple(reasons), report

    def __str__(self) -> str:
        why = "; ".join(self.reasons)
        shown = f"; report: {self.report}" if self.report else ""
        return f"{self.handle}/{self.version} did not pass the gate: {why}; it was not deployed{shown}"


class VerificationFailedError(TaxiwayError):
    """An endpoint that did not prove its contract or its SLA, with every failed check."""

    def __init__(self, handle: str, version: int, failures: tuple[str, ...]) -> None:
        super().__init__(handle, version, tuple(failures))
        self.handle, self.version, self.failures = handle, version, tuple(failures)

    def __str__(self) -> str:
        return f"{self.handle}/{self.version} did not pass verification: {'; '.join(self.failures)}; no traffic moved"


class RolloutEndedError(TaxiwayError):
    """A rollout that ended without promoting its version."""

    def __init__(self, handle: str, version: int, outcome: str, reason: str) -> None:
        super().__init__(handle, version, outcome, reason)
        self.handle, self.version, self.outcome, self.reason = handle, version, outcome, reason

    def __str__(self) -> str:
        return f"the rollout of {self.handle}/{self.version} ended as {self.outcome}: {self.reason}"


class RolledBackError(RolloutEndedError):
    """A rollout whose evidence sent all traffic back to the stable version."""


class SupersededError(RolloutEndedError):
    """A rollout that gave way to a newer one of its handle; nothing was wrong with its version."""
