"""The Protocol of what runs variants, and its values. No process, container or file is touched here."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from taxiway_serving.answers import Answer
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.names import VariantId

__all__ = ["Phase", "Runtime", "VariantId", "VariantSpec", "VariantState"]

MOST_RPS = 1e6
_NOT_RUN = ("ready_deadline_s", "max_rps", "contract", "lineage", "forbid", "forbid_reason")
Phase = Literal["starting", "ready", "failed", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantSpec:
    """Everything that is needed to run one model version.

    Attributes:
        handle: The handle.
        version: The MLflow model version, from 1.
        model: Label of the model for people and for the x-taxiway-model header, such as `visual_recognition/7`.
        bento_dir: Folder of the built Bento. Read-only to the variant.
        python: Interpreter of the environment that the Bento was locked for.
        model_dir: Folder of the model version's files, which the service finds as TAXIWAY_MODEL_DIR.
        environment: Extra variables for the service. No secrets: it is stored and shown.
        ready_deadline_s: Seconds that a start may take before the variant counts as failed.
        max_rps: Requests per second that the gateway lets through to the handle; None is no limit.
        copy: 0 for the variant itself; from 1 for a further copy that runs beside it, with a process of its own.
        contract: File that says what its answers look like, for the proofs while it takes traffic; None has none.
        lineage: What the version was made of, by name, for the ledger: data, code, run. Nothing is run by it.
        forbid: Strategies that may not bring it to its traffic.
        forbid_reason: Why, for whoever asks for one of them.
    """

    handle: str
    version: int
    model: str
    bento_dir: Path
    python: Path
    model_dir: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ready_deadline_s: float = 60.0
    max_rps: float | None = None
    copy: int = 0
    contract: Path | None = None
    lineage: Mapping[str, str] = field(default_factory=dict)
    forbid: tuple[str, ...] = ()
    forbid_reason: str = ""

    def __post_init__(self) -> None:
        faults = _faults(self)
        if faults:
            raise InvalidSpecError(faults, f"variant {self.handle}/{self.version}")

    @property
    def variant(self) -> VariantId:
        """The name of the variant that this specifies."""
        return VariantId(handle=self.handle, version=self.version, copy=self.copy)

    def digest(self) -> str:
        """Return the content hash of what the process runs: part of its identity.

        Deadline, rate, contract, lineage and what is forbidden are left out: changing them needs no new process.
        """
        content = {key: value for key, value in self.to_json().items() if key not in _NOT_RUN}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the specification as JSON values; paths are text. What is no copy says nothing of copies."""
        found = {
            "handle": self.handle,
            "version": self.version,
            "model": self.model,
            "bento_dir": str(self.bento_dir),
            "python": str(self.python),
            "model_dir": str(self.model_dir),
            "environment": dict(sorted(self.environment.items())),
            "ready_deadline_s": self.ready_deadline_s,
            "max_rps": self.max_rps,
        }
        # Processes that an earlier Taxiway started are known by the hash of this, and it knew none of these.
        found |= {"copy": self.copy} if self.copy else {}
        found |= {"contract": str(self.contract)} if self.contract else {}
        found |= {"forbid": list(self.forbid), "forbid_reason": self.forbid_reason} if self.forbid else {}
        return found | ({"lineage": dict(sorted(self.lineage.items()))} if self.lineage else {})

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the specification that `to_json` wrote.

        Raises:
            InvalidSpecError: If a key is missing or unknown, or a value is out of its range.
        """
        try:
            paths = {key: Path(value[key]) for key in ("bento_dir", "python", "model_dir")}
            paths |= {"contract": Path(value["contract"])} if value.get("contract") else {}
            return cls(**{**value, **paths, "forbid": tuple(value.get("forbid", ()))})
        except (KeyError, TypeError) as exc:
            raise InvalidSpecError((f"not a specification: {exc}",), "variant") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantState:
    """What a runtime sees of one variant.

    Attributes:
        phase: `starting` until the first ready answer, `ready` from then on while the process lives, `failed` when it
            missed its deadline or keeps dying, `stopped` when it was stopped and only its log is left.
        host: Address that it listens on; "" before it has one.
        port: Port that it listens on; 0 before it has one.
        pid: Its process on this host; None where there is none.
        since_s: When this phase began, in seconds since the epoch.
        restarts: How often it was started again since it was asked for.
        reason: Why, in words; "" if there is nothing to say.
    """

    phase: Phase
    host: str = ""
    port: int = 0
    pid: int | None = None
    since_s: float = 0.0
    restarts: int = 0
    reason: str = ""


class Runtime(Protocol):
    """Runs variants, and finds again what it left running.

    The runtime owns the processes; the caller owns the wish. All calls return quickly (`stop` within its grace) and
    may be repeated. One thread calls a runtime at a time; several runtimes may share one home one after another, as
    when a controller is killed and started again.
    """

    def ensure(self, spec: VariantSpec) -> None:
        """Make the variant run: find it, or start it. A dead one is started again, with growing pauses.

        Idempotent. A running variant whose content differs from the specification is replaced.

        Raises:
            InvalidSpecError: If the specification names files that do not exist.
        """
        ...

    def observe(self) -> Mapping[VariantId, VariantState]:
        """Return the state of every variant that this runtime knows, survivors of an earlier controller included."""
        ...

    def ready(self, variant: VariantId) -> Answer:
        """Answer whether it takes requests now; unknown if it could not be asked in time."""
        ...

    def logs(self, variant: VariantId, *, tail: int) -> str:
        """Return the last lines of its log.

        Args:
            variant: Which one; for an unknown one the answer is "".
            tail: Most lines to return, at least 1.
        """
        ...

    def stop(self, variant: VariantId, *, grace_s: float) -> None:
        """End the variant and every process that it started. Idempotent; unknown variants are already stopped.

        Args:
            variant: Which one. The caller has moved its traffic away and seen it drained.
            grace_s: Seconds that requests under way are given before it is killed.
        """
        ...


def _faults(spec: VariantSpec) -> tuple[str, ...]:
    VariantId(handle=spec.handle, version=spec.version, copy=spec.copy)
    faults: list[str] = []
    if not spec.model or any(not c.isprintable() or c in '"%' for c in spec.model):
        faults.append(f"model must be printable text without quotes or per cent signs, got {spec.model!r}")
    paths = {"bento_dir": spec.bento_dir, "python": spec.python, "model_dir": spec.model_dir}
    faults += [
        f"{k} must be an absolute path, got {str(p)!r}" for k, p in paths.items() if not p.is_absolute()
    ]
    for name, table in (("environment", spec.environment), ("lineage", spec.lineage)):
        texts: list[object] = [*table, *table.values()]
        if not all(isinstance(text, str) for text in texts):
            faults.append(f"{name} must map text to text, got {dict(table)!r}")
    if not all(isinstance(name, str) for name in (*spec.forbid, spec.forbid_reason)):
        faults.append(f"forbid must be names of strategies, and its reason text, got {spec.forbid!r}")
    if not spec.ready_deadline_s > 0:
        faults.append(f"ready_deadline_s must be above 0, got {spec.ready_deadline_s!r}")
    if spec.max_rps is not None and not 0 < spec.max_rps <= MOST_RPS:
        faults.append(f"max_rps must be above 0 and at most {MOST_RPS:g}, or null, got {spec.max_rps!r}")
    return tuple(faults)
