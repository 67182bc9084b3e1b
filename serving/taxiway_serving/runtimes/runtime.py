"""The Protocol of what runs variants, and its values. No process, container or file is touched here."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Protocol, Self, get_args
from urllib.parse import urlsplit

from taxiway_serving.answers import Answer
from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.names import READY_PATH, VariantId

__all__ = ["Phase", "Runtime", "VariantId", "VariantSpec", "VariantState"]

MOST_RPS = 1e6
MOST_REPLICAS = 100
LEAST_MEMORY_BYTES = 16 * 2**20
_NOT_RUN = (
    "ready_deadline_s",
    "max_rps",
    "contract",
    "lineage",
    "forbid",
    "forbid_reason",
    "replicas",
    "most_replicas",
)
Server = Literal["bento", "mlflow"]
Phase = Literal["starting", "ready", "failed", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantSpec:
    """Everything that is needed to run one model version, or to find one that runs elsewhere.

    A process needs `python`, `model_dir` and, for a Bento, `bento_dir`; a container needs `image` and `model_dir`; what
    has a `url` needs nothing, since it is not run here. A runtime says which it takes.

    Attributes:
        handle: The handle.
        version: The MLflow model version, from 1.
        model: Label of the model for people and for the x-taxiway-model header, such as `visual_recognition/7`.
        bento_dir: Folder of the built Bento. Read-only to the variant.
        python: Interpreter of the environment that the Bento was locked for.
        model_dir: Folder of the model version's files, which the service finds as TAXIWAY_MODEL_DIR.
        image: Container image of the inference code; it holds no model.
        url: Address of a server that somebody else runs, as `http://HOST:PORT`; it is routed to and never started.
        server: What answers: the team's Bento, or MLflow's own scoring server over the model's files.
        ready_path: Path that answers 200 while it takes requests; other servers have other ones, MLflow's `/ping`.
        replicas: How many run alike, from 1, or the fewest of them where there is `most_replicas`.
        most_replicas: How many may run where load asks for more; None keeps `replicas`.
        cpus: Processor cores that each replica may use; None is no limit.
        memory_bytes: Memory that each replica may use; None is no limit.
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
    bento_dir: Path | None = None
    python: Path | None = None
    model_dir: Path | None = None
    image: str = ""
    url: str = ""
    server: Server = "bento"
    ready_path: str = READY_PATH
    replicas: int = 1
    most_replicas: int | None = None
    cpus: float | None = None
    memory_bytes: int | None = None
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
        """Return the content hash of what a replica runs: part of its identity.

        Deadline, rate, contract, lineage, what is forbidden and how many run are left out: changing them needs no new
        process.
        """
        content = {key: value for key, value in self.to_json().items() if key not in _NOT_RUN}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the specification as JSON values; paths are text. What is no copy says nothing of copies."""
        found = {
            "handle": self.handle,
            "version": self.version,
            "model": self.model,
            "environment": dict(sorted(self.environment.items())),
            "ready_deadline_s": self.ready_deadline_s,
            "max_rps": self.max_rps,
        }
        # Processes that an earlier Taxiway started are known by the hash of this, and it knew none of these.
        found |= {name: str(path) for name in _PATHS if (path := getattr(self, name)) is not None}
        found |= {name: value for name in _SELDOM if (value := getattr(self, name)) != _DEFAULTS[name]}
        found |= {"forbid": list(self.forbid), "forbid_reason": self.forbid_reason} if self.forbid else {}
        return found | ({"lineage": dict(sorted(self.lineage.items()))} if self.lineage else {})

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the specification that `to_json` wrote.

        Raises:
            InvalidSpecError: If a key is missing or unknown, or a value is out of its range.
        """
        try:
            paths = {key: Path(value[key]) for key in _PATHS if value.get(key)}
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
        replicas: Host and port of its further replicas that take requests, beside `host` and `port`.
    """

    phase: Phase
    host: str = ""
    port: int = 0
    pid: int | None = None
    since_s: float = 0.0
    restarts: int = 0
    reason: str = ""
    replicas: tuple[tuple[str, int], ...] = ()


class Runtime(Protocol):
    """Runs variants, and finds again what it left running.

    The runtime owns the processes; the caller owns the wish. All calls return quickly (`stop` within its grace) and
    may be repeated. One thread calls a runtime at a time; several runtimes may share one home one after another, as
    when a controller is killed and started again.
    """

    def ensure(self, spec: VariantSpec) -> None:
        """Make the variant run: find its replicas, or start them. A dead one is started again, with growing pauses.

        Idempotent, and asked again at every tick: what takes long, such as an image, is made beside it meanwhile. A
        running variant of another content is replaced; another number of replicas is followed.

        Raises:
            InvalidSpecError: If the specification names files that do not exist, or asks for what this runtime has not.
            TransportError: If whoever runs it does not answer.
        """
        ...

    def observe(self) -> Mapping[VariantId, VariantState]:
        """Return the state of every variant that this runtime knows, survivors of an earlier controller included.

        What cannot be looked at is as it was seen last: nothing fails because whoever runs it does not answer.
        """
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

    def close(self) -> None:
        """Close the connections; what runs runs on, and is found again by the next runtime of the home. Idempotent."""
        ...


_PATHS = ("bento_dir", "python", "model_dir", "contract")
_SELDOM = (
    "image",
    "url",
    "server",
    "ready_path",
    "replicas",
    "most_replicas",
    "cpus",
    "memory_bytes",
    "copy",
)
_DEFAULTS = {each.name: each.default for each in fields(VariantSpec)}


def _faults(spec: VariantSpec) -> tuple[str, ...]:
    VariantId(handle=spec.handle, version=spec.version, copy=spec.copy)
    faults: list[str] = []
    if not spec.model or any(not c.isprintable() or c in '"%' for c in spec.model):
        faults.append(f"model must be printable text without quotes or per cent signs, got {spec.model!r}")
    paths = {name: path for name in _PATHS if (path := getattr(spec, name)) is not None}
    faults += [
        f"{k} must be an absolute path, got {str(p)!r}" for k, p in paths.items() if not p.is_absolute()
    ]
    faults += _what_runs(spec)
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


def _what_runs(spec: VariantSpec) -> list[str]:
    """Return what is wrong with what runs, how many of it, and how much it may use."""
    faults: list[str] = []
    if spec.url:
        faults += _url_faults(spec)
    elif spec.model_dir is None:
        faults.append("model_dir is missing; only what has a url needs none")
    elif not spec.image and spec.python is None:
        faults.append("python or image is missing: the interpreter of a process, or the image of a container")
    if not spec.ready_path.startswith("/") or not spec.ready_path.isprintable() or " " in spec.ready_path:
        faults.append(f"ready_path must be a path such as {READY_PATH}, got {spec.ready_path!r}")
    if spec.server not in get_args(Server):
        faults.append(f"server must be one of {', '.join(get_args(Server))}, got {spec.server!r}")
    if not 1 <= spec.replicas <= MOST_REPLICAS:
        faults.append(f"replicas must be from 1 to {MOST_REPLICAS}, got {spec.replicas!r}")
    if spec.most_replicas is not None and not spec.replicas <= spec.most_replicas <= MOST_REPLICAS:
        limits = f"from replicas, {spec.replicas}, to {MOST_REPLICAS}"
        faults.append(f"most_replicas must be {limits}, or null, got {spec.most_replicas!r}")
    if spec.cpus is not None and not spec.cpus > 0:
        faults.append(f"cpus must be above 0, or null, got {spec.cpus!r}")
    if spec.memory_bytes is not None and spec.memory_bytes < LEAST_MEMORY_BYTES:
        faults.append(
            f"memory_bytes must be {LEAST_MEMORY_BYTES} or more, or null, got {spec.memory_bytes!r}"
        )
    return faults


def _url_faults(spec: VariantSpec) -> list[str]:
    try:
        parts = urlsplit(spec.url)
        is_address = parts.scheme == "http" and bool(parts.hostname) and parts.port is not None
    except ValueError:
        is_address = False
    # What stands before an @ is a password, and specifications are shown.
    if not is_address or "@" in spec.url or parts.path not in ("", "/") or parts.query or parts.fragment:
        return ["url must be http://HOST:PORT without path or password"]
    run_here = [name for name in ("bento_dir", "python", "image") if getattr(spec, name)]
    return (
        [f"url goes with none of {', '.join(run_here)}: what has a url is not run here"] if run_here else []
    )
