"""Publishes improvements as wheels under a name and a version in MLflow, finds them by task, brings them to a host.

`library.<name>` is a registered model whose versions each hold one wheel; a version that was published never changes.
Wheels are kept under `home/libraries`, where packaging finds what a project requires.
"""

import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from taxiway import provenance as who
from taxiway.errors import ArtifactChangedError, InvalidSpecError, TransportError
from taxiway.packaging.libraries import folder, hash_of, published_hash
from taxiway.packaging.wheel import Metadata
from taxiway.provenance import Provenance
from taxiway.registry import tracking
from taxiway.registry.reading import Version
from taxiway.settings import Settings
from taxiway.tools import digest, exclusive, fresh_folder, write_atomically

KIND, ARTIFACT = "library", "library"
EXPERIMENT = "taxiway.libraries"
_TAG = "taxiway.library."
_IDENTITY = ("name", "version", "hash")


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """One version of a published library.

    Attributes:
        name: What a project requires it by, `name==version`.
        version: Its version.
        hash: SHA-256 of its wheel.
        task: What it is for, such as `visual recognition`.
        summary: One line for people.
        commit: Git commit it was made at, or None.
        url: Its page in MLflow's UI.
    """

    name: str
    version: str
    hash: str
    task: str = ""
    summary: str = ""
    commit: str | None = None
    url: str = ""

    @property
    def requirement(self) -> str:
        """What a project writes into its dependencies."""
        return f"{self.name}=={self.version}"


def publish(
    metadata: Metadata,
    wheel: bytes,
    settings: Settings,
    *,
    task: str = "",
    commit: str | None = None,
    is_dirty: bool = False,
    provenance: Provenance | None = None,
) -> Library:
    """Register a wheel, once: the same bytes again are the same version.

    Args:
        metadata: What the wheel says of itself.
        wheel: Its bytes.
        settings: Which MLflow.
        task: What it is for.
        commit: Git commit it was made at, or None.
        is_dirty: Whether its files differed from that commit.
        provenance: Who asked; None for a notebook.

    Raises:
        ArtifactChangedError: If this version was published with other bytes.
    """
    taken = hashlib.sha256(wheel).hexdigest()
    name = f"{KIND}.{metadata.name}"
    with exclusive(settings.home / "registry" / f"{name}.lock"):
        found = tracking.find_versions(name, {f"{_TAG}version": metadata.version}, settings)
        if not found:
            tags = {
                "taxiway.kind": KIND,
                f"{_TAG}name": metadata.name,
                f"{_TAG}version": metadata.version,
                f"{_TAG}hash": taken,
                f"{_TAG}file": metadata.filename,
                f"{_TAG}task": task,
                f"{_TAG}summary": metadata.summary,
                "mlflow.source.git.dirty": str(is_dirty).lower(),
                **({"mlflow.source.git.commit": commit} if commit else {}),
                **who.tags(provenance),
            }
            found = (_create(name, metadata, wheel, tags, settings),)
        library = _read(found[-1], settings)
    if library.hash != taken:
        again = "publish it under a new version: what others require never changes"
        raise ArtifactChangedError(library.requirement, "wheel", library.hash, taken, again)
    _keep(metadata.filename, wheel, settings)
    return library


def find(settings: Settings, *, task: str = "", text: str = "") -> tuple[Library, ...]:
    """Return published libraries, the newest first.

    Args:
        settings: Which MLflow.
        task: What they are for, in any case; an empty text is any task.
        text: Words that must all be in name, task or summary, in any case.
    """
    versions = tracking.find_tagged({"taxiway.kind": KIND}, settings)
    words = text.casefold().split()
    return tuple(
        library
        for library in (_read(version, settings) for version in versions)
        if (not task or library.task.casefold() == task.casefold())
        and all(word in f"{library.name} {library.task} {library.summary}".casefold() for word in words)
    )


def bring(settings: Settings) -> tuple[Path, ...]:
    """Bring every published wheel that is not on this host, or is another there, and return where they all are.

    Raises:
        ArtifactChangedError: If what MLflow holds is not what was published; nothing of it is kept.
        TransportError: If MLflow does not answer.
    """
    versions = tracking.find_tagged({"taxiway.kind": KIND}, settings)
    return tuple(_bring(version, settings) for version in versions)


def bring_if_reached(settings: Settings, log: Callable[[str], None]) -> None:
    """Bring every published wheel; where MLflow does not answer, those that are here must do, which is logged.

    Raises:
        ArtifactChangedError: As `bring` does.
    """
    try:
        bring(settings)
    except TransportError as exc:
        log(f"published libraries are taken as they are on this host: {exc}")


def users_of(name: str, version: str, settings: Settings) -> tuple[str, ...]:
    """Return which code packages were made with a library, such as `visual_recognition.training`, sorted."""
    found = tracking.find_tagged({package_tag(name): version}, settings)
    return tuple(sorted({f"{each.name} version {each.number}" for each in found}))


def package_tag(name: str) -> str:
    """Return the tag by which a code package says that it was made with a library."""
    return f"taxiway.uses.{name}"


def package_tags(libraries: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the tags of a code package whose manifest names these libraries."""
    return {package_tag(name): each["version"] for name, each in libraries.items()}


def _create(
    name: str, metadata: Metadata, wheel: bytes, tags: Mapping[str, str], settings: Settings
) -> Version:
    tracking.ensure_registered_model(name, {"taxiway.kind": KIND}, settings)
    experiment = tracking.ensure_experiment(EXPERIMENT, settings)
    # What a call that was killed left is finished, not left beside a second run.
    begun = tracking.find_runs(
        experiment, {f"{_TAG}{key}": tags[f"{_TAG}{key}"] for key in _IDENTITY}, settings
    )
    if begun:
        run = begun[0]
        tracking.reopen(run.run_id, tags, settings)
    else:
        run = tracking.create_run(experiment, f"publish {metadata.name} {metadata.version}", tags, settings)
    with fresh_folder(settings.home / "published" / digest([metadata.filename, tags])[:16]) as draft:
        (draft / metadata.filename).write_bytes(wheel)
        tracking.upload(run.run_id, draft, ARTIFACT, settings)
    tracking.finish(run.run_id, "FINISHED", settings)
    return tracking.create_version(name, run.run_id, ARTIFACT, tags, metadata.summary, settings)


def _bring(version: Version, settings: Settings) -> Path:
    wheel, expected = folder(settings) / Path(version.tags[f"{_TAG}file"]).name, version.tags[f"{_TAG}hash"]
    if not wheel.exists() or hash_of(wheel) != expected or not published_hash(wheel).exists():
        with fresh_folder(settings.home / "published" / version.run_id) as draft:
            found = tracking.download(version.run_id, ARTIFACT, draft, settings)
            content = (found / wheel.name).read_bytes()
        got = hashlib.sha256(content).hexdigest()
        if got != expected:
            raise ArtifactChangedError(
                version.name, "wheel", expected, got, "restore its artifact in MLflow; nothing of it was kept"
            )
        _keep(wheel.name, content, settings)
    return wheel


def _keep(filename: str, wheel: bytes, settings: Settings) -> None:
    """Put a wheel where packaging finds it, in one step, beside the hash that packaging holds it against."""
    place = folder(settings) / filename
    write_atomically(published_hash(place), hashlib.sha256(wheel).hexdigest())
    draft = place.with_name(f".{filename}.{uuid.uuid4().hex[:8]}")
    draft.write_bytes(wheel)
    draft.replace(place)


def _read(found: Version, settings: Settings) -> Library:
    tags = found.tags
    missing = [name for name in _IDENTITY if f"{_TAG}{name}" not in tags]
    if missing:
        raise InvalidSpecError(tuple(f"the tag {_TAG}{name} is missing" for name in missing), found.name)
    return Library(
        name=tags[f"{_TAG}name"],
        version=tags[f"{_TAG}version"],
        hash=tags[f"{_TAG}hash"],
        task=tags.get(f"{_TAG}task", ""),
        summary=tags.get(f"{_TAG}summary", ""),
        commit=tags.get("mlflow.source.git.commit"),
        url=tracking.version_url(found.name, found.number, settings),
    )
