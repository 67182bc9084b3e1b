"""Runs a handle's registered transform: raw data, or none, to a folder of training data.

The result is kept by the recipe that made it, so that the same transform of the same data runs once on a host. It
becomes a dataset version when somebody takes a snapshot of it.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxiway import provenance as who
from taxiway.datasets import versions as datasets
from taxiway.datasets.versions import DatasetVersion
from taxiway.errors import OutputFaultsError
from taxiway.packaging import source
from taxiway.packaging.package import CodePackage
from taxiway.provenance import Provenance
from taxiway.registry import packages
from taxiway.runners import Inputs, Job, Runner, on_this_host
from taxiway.settings import Settings
from taxiway.tools import digest, exclusive, write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformResult:
    """What a transform left.

    Attributes:
        path: Folder of the data on this host.
        key: Name of the result: code, raw data and parameters.
        files: How many files.
    """

    path: Path
    key: str
    files: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self) | {"path": str(self.path)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "TransformResult":
        """Read what `to_json` wrote."""
        return cls(**{**data, "path": Path(data["path"])})


def transform(
    handle: str,
    settings: Settings,
    *,
    params: Mapping[str, Any] | None = None,
    raw: DatasetVersion | None = None,
    provenance: Provenance | None = None,
    runner: Runner | None = None,
    log: Callable[[str], None] = print,
) -> TransformResult:
    """Run the transform, or return what it left before.

    Args:
        handle: Whose registered transform package.
        settings: Where everything is.
        params: Over the package's defaults.
        raw: The raw data, seen as `TAXIWAY_DATA_DIR`; None for a transform that brings its own.
        provenance: Who asked; kept beside the result.
        runner: Where it runs; None is a process on this host.
        log: Called with each line that the component prints.

    Raises:
        PackageNotRegisteredError: If the handle has no registered transform.
        ComponentFailedError: If it fails.
        OutputFaultsError: If it leaves no file.
    """
    code = packages.lookup(handle, "transform", settings)
    merged = dict(code.manifest["params"]) | dict(params or {})
    key = digest([code.digest, raw.hash if raw else None, merged])
    folder = settings.home / "transforms" / key[:32]
    facts = folder / "result.json"
    with exclusive(folder.with_suffix(".lock")):
        if facts.exists():
            log(f"{handle}.transform already ran on this data: {folder}")
        else:
            job = _job(code, raw, merged, folder, settings)
            (runner or on_this_host(settings)).run(job, log)
            _check(job.output_dir)
            write_atomically(
                facts, json.dumps({"key": key, "code": code.digest, **who.tags(provenance)}, indent=2)
            )
    files = len(source.listing(folder / "output"))
    return TransformResult(path=folder / "output", key=key, files=files)


def _job(
    code: CodePackage, raw: DatasetVersion | None, params: Mapping[str, Any], folder: Path, settings: Settings
) -> Job:
    data_dir = datasets.fetch(raw, settings) if raw else None
    return Job(
        package=code,
        folder=folder,
        inputs=Inputs(data_dir=data_dir, secrets_dir=settings.secrets_dir),
        params=params,
    )


def _check(output_dir: Path) -> None:
    if not source.listing(output_dir):
        raise OutputFaultsError(("transform left no file in TAXIWAY_OUTPUT_DIR",), "results")
