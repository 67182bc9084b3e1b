"""Runs a handle's registered transform: raw data, or none, to a folder of training data.

The result is kept by the recipe that made it, so that the same transform of the same data runs once on a host. One that
brings its own data runs for each task, since nobody else can know whether they are the same. A result becomes a dataset
version when somebody takes a snapshot of it.
"""

import dataclasses
import json
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxiway import provenance as who
from taxiway.arguments import typed
from taxiway.datasets import versions as datasets
from taxiway.datasets.facts import UNTRACEABLE, Origin
from taxiway.datasets.store import Listing, files_in
from taxiway.datasets.versions import DatasetVersion
from taxiway.errors import OutputFaultsError, UntraceableError
from taxiway.lineage import given
from taxiway.packaging import source
from taxiway.packaging.package import CodePackage
from taxiway.provenance import Provenance
from taxiway.registry import doubts, packages
from taxiway.runners import Inputs, Job, JobResult, Runner, on_this_host
from taxiway.settings import Settings
from taxiway.tools import digest, exclusive, in_turn, remove, write_atomically

KEPT_S = 14 * 86_400.0
FACTS = "result.json"
"""What is kept beside a result: its origin, and who asked for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformResult:
    """What a transform left.

    Attributes:
        path: Folder of the data on this host.
        key: Name of the result: code, raw data and parameters.
        files: How many files.
        origin: What it was made of, for the snapshot of it.
    """

    path: Path
    key: str
    files: int
    origin: Origin

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self) | {"path": str(self.path)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "TransformResult":
        """Read what `to_json` wrote."""
        return cls(**{**data, "path": Path(data["path"]), "origin": Origin.from_json(data["origin"])})


@typed
def transform(
    handle: str,
    settings: Settings,
    *,
    params: Mapping[str, Any] | None = None,
    raw: DatasetVersion | None = None,
    digests: Mapping[str, str] | None = None,
    provenance: Provenance | None = None,
    runner: Runner | None = None,
    log: Callable[[str], None] = print,
) -> TransformResult:
    """Run the transform, or return what it left before: of the same raw data, or for the same task.

    Args:
        handle: Whose registered transform package.
        settings: Where everything is.
        params: Over the package's defaults.
        raw: The raw data, seen as `TAXIWAY_DATA_DIR`; None for a transform that brings its own.
        digests: Digest of a registered package by its kind, where not the newest one is meant.
        provenance: Who asked; kept beside the result. A retry of a task finds what the try before it left.
        runner: Where it runs; None is a process on this host.
        log: Called with each line that the component prints.

    Raises:
        PackageNotRegisteredError: If the handle has no registered transform.
        ComponentFailedError: If it fails.
        OutputFaultsError: If it leaves no file.
        DataChangedError: If somebody changed the raw data on this host.
        UntraceableError: If its code is in no commit, it read files that are none of its inputs, or nobody saw what it
            read; where the settings allow it, its result is marked, and so is each model that is trained on it.
    """
    code = packages.lookup(handle, "transform", settings, (digests or {}).get("transform"))
    merged = dict(code.manifest["params"]) | dict(params or {})
    # Equal bytes under another name have other words said of them: they are other raw data.
    key = digest([code.digest, [raw.tag, raw.hash] if raw else _occasion(provenance), merged])
    folder = settings.home / "transforms" / key[:32]
    _sweep(folder.parent)
    with in_turn(folder.with_suffix(".lock"), log, "another task on this host transforms the same data"):
        origin = origin_of(folder / "output")
        if origin is not None and _is_kept(origin, folder / "output", settings):
            log(f"{handle}.transform already ran on this data: {folder}")
        else:
            job = _job(code, raw, merged, folder, settings, log)
            origin = _run(job, raw, settings, runner or on_this_host(settings), log)
            said: dict[str, Any] = {"key": key, "code": code.digest, "raw": raw.tag if raw else None}
            said |= {"origin": origin.to_json(), **who.tags(provenance)}
            write_atomically(folder / FACTS, json.dumps(said, indent=2))
    files = len(source.listing(folder / "output"))
    return TransformResult(path=folder / "output", key=key, files=files, origin=origin)


def _run(
    job: Job, raw: DatasetVersion | None, settings: Settings, runner: Runner, log: Callable[[str], None]
) -> Origin:
    """Run a transform, and return what its output was made of."""
    result = runner.run(job, log)
    _check(job.output_dir)
    result = given.checked(result, settings, dataset=raw)
    return _origin(job, raw, _marks(job, result, settings, log))


def _occasion(provenance: Provenance | None) -> dict[str, str]:
    """Return what names a run that brings its own data: its task, whatever the try, or nothing that comes again."""
    return dict(who.identity(provenance)) or {"call": secrets.token_hex(16)}


def _sweep(results: Path) -> None:
    """Remove what nobody will ask for and nobody works on.

    That is what transforms left long ago that brought their own data, and what others left long ago that failed.
    """
    for folder in results.glob("[!.]*/"):
        if _is_old(folder):
            # Whoever works on it, and every tool of theirs, holds its lock until the end: there is no waiting for it.
            with suppress(BlockingIOError), exclusive(folder.with_suffix(".lock"), waits=False):
                if _is_old(folder) and not _is_shared(folder):
                    remove(folder)


def _is_old(folder: Path) -> bool:
    """Tell whether a result is old, or what a failed transform left of one."""
    for path in (folder / FACTS, folder):
        with suppress(FileNotFoundError):
            return path.stat().st_mtime < time.time() - KEPT_S
    return False


def _is_shared(folder: Path) -> bool:
    """Tell whether a folder holds a result that other tasks may ask for: that of raw data which they can name."""
    facts = folder / FACTS
    return facts.exists() and json.loads(facts.read_text(encoding="utf-8")).get("raw") is not None


def origin_of(path: Path) -> Origin | None:
    """Return what a transform's output was made of; None for a folder that is none.

    Args:
        path: A result's `path`.
    """
    facts = path.parent / FACTS
    try:
        said = json.loads(facts.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        # A folder of somebody's, with a file of that name beside it or none; ours is written whole.
        return None
    is_ours = isinstance(said, dict) and {"key", "origin"} <= said.keys()
    return Origin.from_json(said["origin"]) if is_ours else None


def _is_kept(origin: Origin, output: Path, settings: Settings) -> bool:
    """Tell whether a result is still there, and is one that may be used: what made it doubtful may be gone by now."""
    is_allowed = settings.allow_untraceable or not origin.details.get(UNTRACEABLE)
    return is_allowed and origin.output == Listing.of(files_in(output)).hash


def _marks(job: Job, result: JobResult, settings: Settings, log: Callable[[str], None]) -> tuple[str, ...]:
    """Return why nobody could walk back what a transform left; where that is not allowed, refuse."""
    found = (*doubts.of_code(job.package), *doubts.of_run(job.package, result.trace))
    for reason in found:
        log(f"{job.name}: {reason}")
    if found and not settings.allow_untraceable:
        raise UntraceableError(found, f"what {job.name} left")
    return found


def _job(
    code: CodePackage,
    raw: DatasetVersion | None,
    params: Mapping[str, Any],
    folder: Path,
    settings: Settings,
    log: Callable[[str], None],
) -> Job:
    data_dir = datasets.fetch(raw, settings, log=log) if raw else None
    return Job(
        package=code,
        folder=folder,
        inputs=Inputs(data_dir=data_dir, secrets_dir=settings.secrets_dir),
        params=params,
    )


def _origin(job: Job, raw: DatasetVersion | None, marks: tuple[str, ...]) -> Origin:
    own: dict[str, Any] = {UNTRACEABLE: list(marks)} if marks else {}
    return Origin(
        kind="transform",
        parents={raw.tag: raw.hash} if raw else {},
        details={"handle": job.package.handle, "code": job.package.digest, "params": dict(job.params)} | own,
        output=Listing.of(files_in(job.output_dir)).hash,
    )


def _check(output_dir: Path) -> None:
    if not source.listing(output_dir):
        raise OutputFaultsError(("transform left no file in TAXIWAY_OUTPUT_DIR",), "results")
