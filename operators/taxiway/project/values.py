"""What a model project is once it was read: values only, nothing is read or checked here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taxiway.checkout import Checkout

KINDS = ("transform", "training", "evaluation", "inference")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sla:
    """What the endpoint promises.

    Attributes:
        p99_ms: 99th percentile of the answer time, milliseconds.
        availability: Part of requests answered well, in (0, 0.999999]: a promise without any budget for errors could
            neither be kept nor be tested.
        rate_rps: Requests per second that it must hold.
    """

    p99_ms: float
    availability: float
    rate_rps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One of the pieces that a notebook is cut into.

    Attributes:
        kind: One of `KINDS`.
        command: What is run, without a shell; None for inference.
        service: `module:Class` of the BentoML service; None for all but inference, and where a model server needs none.
        params: Defaults of the parameters it takes.
        source_models: Models that it starts from: a handle, and after `@` a version or an alias.
        files: Paths of its source, relative to the project, sorted.
        requirements: What its environment must hold.
        threads: Threads of its numeric libraries.
        resources: What it may use at most, as `resources.py` reads it.
        dockerfile: Its own Dockerfile among its files, or None for a generated one.
        image: An image that serves as it is, for inference, or None for one that is made of the Bento.
        options: Keys that only its kind knows, such as the bars of an evaluation.
    """

    kind: str
    command: str | None = None
    service: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    source_models: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    threads: int = 1
    resources: Mapping[str, Any] = field(default_factory=dict)
    dockerfile: str | None = None
    image: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A model project that keeps the contract.

    Attributes:
        checkout: Where it lies, and at which commit.
        handle: Of its models.
        name: Of the project itself.
        requires_python: Versions of Python that it runs with.
        components: Each by its kind.
        sla: What its endpoint promises.
        tuning: What a search may vary, as `[tool.taxiway.tuning]` says it.
        traffic: Strategies that it forbids, with the reason.
        contract: Path of the contract that its endpoint is verified by, or None.
        programs: Programs that its components start and of which it vouches that they read declared inputs alone.
    """

    checkout: Checkout
    handle: str
    name: str
    requires_python: str
    components: Mapping[str, Component]
    sla: Sla
    tuning: Mapping[str, Any]
    traffic: Mapping[str, Any]
    contract: str | None
    programs: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        """The folder of the project."""
        return self.checkout.root
