"""Code packages: one component, frozen. Makes them from a project, and turns them back into what can run.

Registering and finding them is the business of `registry/packages.py`.
"""

import dataclasses
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

from taxiway import checkout as checkouts
from taxiway import project as projects
from taxiway.errors import ArtifactChangedError, InvalidSpecError
from taxiway.packaging import bento, environment, libraries, source
from taxiway.project import Component, Project
from taxiway.settings import Settings
from taxiway.tools import digest, fresh_folder, remove

FILES, ATTEMPTS = "package", 3
ARCHIVE, LOCK, MANIFEST, DIFF = "source.tar.gz", "lock.txt", "package.json", "dirty.diff"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodePackage:
    """One component, frozen.

    Attributes:
        handle: The model's handle.
        kind: transform, training, evaluation or inference.
        digest: SHA-256 of source, lock, Python and manifest: what the package is.
        source_hash: SHA-256 of the source alone.
        lock_hash: SHA-256 of the locked requirements.
        python: Version of Python, such as `3.11`.
        commit: Git commit it was made at, or None.
        is_dirty: Whether the source differed from the commit; the digest is of what was there.
        url: Git URL without credentials, or None.
        manifest: Command or service, parameters, files, sla and options.
        version: Version in the registry, or None before it is registered.
    """

    handle: str
    kind: str
    digest: str
    source_hash: str
    lock_hash: str
    python: str
    commit: str | None = None
    is_dirty: bool = False
    url: str | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)
    version: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "CodePackage":
        """Read what `to_json` wrote."""
        return cls(**data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Materialised:
    """A code package on this host, ready to run.

    Attributes:
        source_dir: Its source; shared, so copy it before anything is written.
        python: Interpreter of its environment.
        bento_dir: Its Bento, for inference with a service.
    """

    source_dir: Path
    python: Path
    bento_dir: Path | None = None


def package(
    project: str,
    settings: Settings,
    *,
    kinds: Sequence[str] | None = None,
    beside: Path | None = None,
    revision: str | None = None,
    commit: str | None = None,
    url: str | None = None,
    log: Callable[[str], None] = print,
) -> tuple[CodePackage, ...]:
    """Package components of a model project, with their environments and the Bento made ready on this host.

    Args:
        project: A path relative to `beside`, or a Git URL.
        settings: Where packages and environments are kept; its constraints bound every lock.
        kinds: Components to package; None is every one that the project has.
        beside: What a relative path is relative to, a DAG's file or folder.
        revision: Git revision of a URL.
        commit: Git commit of a folder without a `.git`, such as a DAG bundle's; given, Git is not asked.
        url: Git URL of that folder's repository, without credentials.
        log: Called with a line of progress.

    Returns:
        One package for each kind, in the order of the project.

    Raises:
        InvalidSpecError: If the project is not there, or breaks the contract (`ProjectFaultsError`).
        ToolFailedError: If a requirement cannot be resolved or installed, or the service not be imported.
    """

    def locate() -> checkouts.Checkout:
        found = checkouts.locate(project, settings, beside=beside, revision=revision)
        return checkouts.Checkout(root=found.root, commit=commit, url=url) if commit else found

    found = locate()
    # A clone is Taxiway's own, at one commit; asked for again, its branch may have moved.
    again = (lambda: found) if checkouts.is_url(project) else locate
    # Two components at a time: resolving and installing wait for the disk, and the Bento's build keeps one core busy.
    with ThreadPoolExecutor(2) as pool:
        frozen = _at_rest(found, again, kinds, settings, pool)
        for made, _ in zip(frozen, pool.map(lambda made: materialise(made, settings), frozen), strict=True):
            log(
                f"{made.handle}.{made.kind} {made.digest[:12]} is packaged{' (dirty tree)' if made.is_dirty else ''}"
            )
    return frozen


def _at_rest(
    found: checkouts.Checkout,
    locate: Callable[[], checkouts.Checkout],
    kinds: Sequence[str] | None,
    settings: Settings,
    pool: ThreadPoolExecutor,
) -> tuple[CodePackage, ...]:
    """Freeze components of a folder that nobody writes to meanwhile, so that each is of the commit that it names.

    Raises:
        InvalidSpecError: If somebody writes to it time and again.
    """
    for _ in range(ATTEMPTS):
        read = projects.read(found)
        wanted = [read.components[kind] for kind in kinds or read.components]
        frozen = tuple(pool.map(lambda part, read=read: _freeze(read, part, settings), wanted))
        before, found = found, locate()
        is_same = (found.commit, found.is_dirty) == (before.commit, before.is_dirty)
        if is_same and all(map(_is_frozen, frozen, wanted, repeat(found.root))):
            whole = tuple(made for made in frozen if made is not None)
            for made in whole:
                _keep_difference(found.diff, home_of(made.digest, settings))
            return whole
    fault = f"somebody wrote to it each time that it was packaged, {ATTEMPTS} times; package it when that has ended"
    raise InvalidSpecError((fault,), str(found.root))


def _is_frozen(made: CodePackage | None, component: Component, root: Path) -> bool:
    """Tell whether a package holds what the folder holds still."""
    # A file that is gone or cannot be read is another content.
    with suppress(OSError):
        return made is not None and made.source_hash == source.content_hash(root, component.files)
    return False


def preview(project: Project, component: Component, settings: Settings) -> CodePackage:
    """Return what a component would be packaged as, with its files as they are now; nothing is packed or installed.

    Raises:
        ToolFailedError: If a requirement cannot be resolved.
        ArtifactChangedError: If a published library here is not the one that was published.
    """
    locked = _lock(project, component, settings)
    return _named(project, component, locked, libraries.libraries_of(locked.text, settings))


def _freeze(project: Project, component: Component, settings: Settings) -> CodePackage | None:
    """Return a component as it is now, its files kept on this host; None if it changed while they were taken."""
    locked = _lock(project, component, settings)
    used = libraries.libraries_of(locked.text, settings)
    try:
        made = _named(project, component, locked, used)
        folder = home_of(made.digest, settings)
        if not folder.exists():
            with fresh_folder(folder) as draft:
                _write(made, project, component, locked, draft / FILES)
                unpack(made, draft)
    except (ArtifactChangedError, FileNotFoundError):
        return None
    return made


def _lock(project: Project, component: Component, settings: Settings) -> environment.Lock:
    return environment.lock(component.requirements, project.requires_python, settings)


def _named(
    project: Project, component: Component, locked: environment.Lock, used: Mapping[str, Mapping[str, str]]
) -> CodePackage:
    manifest = _manifest(project, component) | ({"libraries": dict(used)} if used else {})
    source_hash = source.content_hash(project.root, component.files)
    identity = [project.handle, component.kind, source_hash, locked.hash, locked.python, manifest]
    return CodePackage(
        handle=project.handle,
        kind=component.kind,
        digest=digest(identity),
        source_hash=source_hash,
        lock_hash=locked.hash,
        python=locked.python,
        commit=project.checkout.commit,
        is_dirty=project.checkout.is_dirty,
        url=project.checkout.url,
        manifest=manifest,
    )


def _keep_difference(diff: str, folder: Path) -> None:
    """Keep how a dirty tree differs from its commit, also beside what was packaged from a clean one before."""
    if diff and not (folder / FILES / DIFF).exists():
        draft = folder / f".{DIFF}.{uuid.uuid4().hex[:8]}"
        draft.write_text(diff, encoding="utf-8", errors="surrogateescape")
        draft.replace(folder / FILES / DIFF)


def home_of(name: str, settings: Settings) -> Path:
    """Return the folder of a package on this host; the registry keeps a copy of its subfolder `FILES`."""
    return settings.home / "packages" / name


def _manifest(project: Project, component: Component) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": project.name,
        "command": component.command,
        "service": component.service,
        "params": dict(component.params),
        "source_models": list(component.source_models),
        "threads": component.threads,
        "options": dict(component.options),
    }
    # What a project does not say is no part of its packages' names.
    found |= {"resources": dict(component.resources)} if component.resources else {}
    found |= {"dockerfile": component.dockerfile} if component.dockerfile else {}
    found |= {"image": component.image} if component.image else {}
    if component.kind != "inference" and project.programs:
        found["programs"] = list(project.programs)
    if component.kind == "training":
        found["tuning"] = dict(project.tuning)
    if component.kind == "inference":
        found["sla"], found["contract"] = dataclasses.asdict(project.sla), project.contract
    if component.kind == "inference" and project.traffic:
        found["traffic"] = dict(project.traffic)
    return found


def _write(
    made: CodePackage, project: Project, component: Component, locked: environment.Lock, folder: Path
) -> None:
    folder.mkdir()
    source.pack(project.root, component.files, folder / ARCHIVE)
    (folder / LOCK).write_text(locked.text, encoding="utf-8")
    (folder / MANIFEST).write_text(json.dumps(made.to_json(), indent=2, sort_keys=True), encoding="utf-8")


def materialise(made: CodePackage, settings: Settings) -> Materialised:
    """Turn a code package whose files are on this host into source, environment and Bento. Idempotent.

    Raises:
        ArtifactChangedError: If archive or lock are not what the package says.
        ToolFailedError: If its environment or its Bento cannot be made.
    """
    source_dir, locked = verified(made, settings)
    python = environment.ensure(locked, settings)
    with environment.occupied(python):
        bento_dir = _bento(made, home_of(made.digest, settings), source_dir, python)
    return Materialised(source_dir=source_dir, python=python, bento_dir=bento_dir)


def verified(made: CodePackage, settings: Settings) -> tuple[Path, environment.Lock]:
    """Return the source of a package whose files are on this host, and its lock, both checked against the package.

    Source that somebody changed since is thrown away and unpacked again.

    Raises:
        ArtifactChangedError: If archive or lock are not what the package says.
    """
    folder = home_of(made.digest, settings)
    source_dir = folder / "source"
    if source_dir.exists() and _hash_of(source_dir) != made.source_hash:
        remove(source_dir)
    if not source_dir.exists():
        unpack(made, folder)
    return source_dir, _lock_of(made, folder)


def unpack(made: CodePackage, folder: Path) -> None:
    """Unpack the archive in a package's folder, and check source and lock against what the package says.

    Raises:
        ArtifactChangedError: If they differ; no source is left.
    """
    _lock_of(made, folder)
    with fresh_folder(folder / "source") as draft:
        source.unpack(folder / FILES / ARCHIVE, draft)
        _check(made, "source", made.source_hash, _hash_of(draft))


def _lock_of(made: CodePackage, folder: Path) -> environment.Lock:
    locked = environment.Lock(text=(folder / FILES / LOCK).read_text(encoding="utf-8"), python=made.python)
    _check(made, "lock", made.lock_hash, locked.hash)
    return locked


def _check(made: CodePackage, part: str, expected: str, got: str) -> None:
    if got != expected:
        name = f"{made.handle}.{made.kind} {made.digest[:12]}"
        again = "nothing of it was used; restore its artifacts in MLflow, or package and register it again"
        raise ArtifactChangedError(name, part, expected, got, again)


def _hash_of(folder: Path) -> str:
    return source.content_hash(folder, source.listing(folder))


def _bento(made: CodePackage, folder: Path, source_dir: Path, python: Path) -> Path | None:
    if made.manifest["service"] is None:
        return None
    return bento.build(
        folder / "bento",
        python=python,
        service=made.manifest["service"],
        # A Bento's name ends with a letter or a digit, a handle may end with an underscore.
        name=made.handle.rstrip("_"),
        version=made.digest[:12],
        source=source_dir,
        files=list(source.listing(source_dir)),
        packages=(folder / FILES / LOCK).read_text(encoding="utf-8").splitlines(),
    )
