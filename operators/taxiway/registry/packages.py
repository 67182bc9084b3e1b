"""Registers code packages under one handle in MLflow, and finds them by that handle.

`visual_recognition.training` and its like are registered models whose versions hold the package's archive, lock and
manifest; the alias `current` is what a handle means today. Nothing runs that is not registered.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from taxiway import provenance as who
from taxiway.engine import Engine
from taxiway.errors import PackageNotRegisteredError
from taxiway.packaging import image as images
from taxiway.packaging.image import Image
from taxiway.packaging.package import FILES, CodePackage, Materialised, home_of, unpack, verified
from taxiway.packaging.package import materialise as _materialise
from taxiway.provenance import Provenance
from taxiway.registry import libraries, tracking
from taxiway.registry.reading import Version
from taxiway.settings import Settings
from taxiway.tools import digest, exclusive, fresh_folder

Log = Callable[[str], None]
CURRENT = "current"
MIXED = "mixed_of"
"""In the manifest of a package that is made of two others and is never registered: their digests."""


def register(
    packages: Sequence[CodePackage], settings: Settings, *, provenance: Provenance | None = None
) -> tuple[CodePackage, ...]:
    """Register packages and make them what their handle means; the same package again is the same version.

    One that was registered from an uncommitted tree, and comes again from a commit that holds the same, is of that
    commit from then on.

    Returns:
        The packages as the registry holds them, with their version.

    Raises:
        TransportError: If MLflow does not answer.
    """
    with ThreadPoolExecutor(4) as pool:
        return tuple(pool.map(lambda made: _register(made, settings, provenance), packages))


def lookup(handle: str, kind: str, settings: Settings, digest: str | None = None) -> CodePackage:
    """Return the registered package of a handle: the current one, or the one with a digest.

    Raises:
        PackageNotRegisteredError: If there is none.
        TransportError: If MLflow does not answer.
    """
    return _read(_find(handle, kind, settings, digest))


def materialise(made: CodePackage, settings: Settings) -> Materialised:
    """Return the package ready to run on this host, brought from the registry if its files are not here.

    Raises:
        PackageNotRegisteredError: If its files are not here and it is not registered.
        ArtifactChangedError: If what MLflow holds is not what was registered; nothing of it is kept.
        ToolFailedError: If its environment or Bento cannot be made.
    """
    fetch(made, settings)
    return _materialise(made, settings)


def fetch(made: CodePackage, settings: Settings) -> None:
    """Bring a package's files from the registry if they are not on this host; see `materialise`."""
    folder = home_of(made.digest, settings)
    if not folder.exists():
        found = _find(made.handle, made.kind, settings, made.digest)
        with fresh_folder(folder) as draft:
            tracking.download(found.run_id, FILES, draft, settings)
            unpack(made, draft)
        if made.manifest.get("libraries"):
            libraries.bring(settings)


def image(made: CodePackage, engine: Engine, settings: Settings, log: Log) -> Image:
    """Return the image of a package on an engine: the one that is recorded with the package, or built and recorded.

    Without a registry of images each engine builds its own, and its id is recorded for that engine; with one, the
    first builds and pushes it, and all others pull it by its digest.

    Raises:
        PackageNotRegisteredError: If the package is not registered.
        ArtifactChangedError: If the engine has another image under the package's name than the recorded one.
        ToolFailedError: If it cannot be built, pushed or pulled.
        TransportError: If MLflow or the engine does not answer.
    """
    registry = settings.containers.registry
    if MIXED in made.manifest:
        # A bisection's, which nobody is to find: no record, and cached layers make it cheap.
        return _build(made, engine, settings, log)
    key = f"taxiway.image.{digest(registry)[:12] if registry else engine.key}"
    with exclusive(settings.home / "images" / f"{made.digest[:32]}.lock"):
        found = _find(made.handle, made.kind, settings, made.digest)
        present = _present(made, found.tags.get(key), engine, log)
        if present is None:
            present = _build(made, engine, settings, log)
            if registry:
                target = f"{registry}/{images.tag_of(made)}"
                pinned = f"{registry}/{images.repository_of(made)}@{engine.push(present.name, target)}"
                present = replace(present, name=pinned)
            recorded = {key: present.name if registry else present.id}
            tracking.tag_version(f"{made.handle}.{made.kind}", found.number, recorded, settings)
    return present


def _present(made: CodePackage, recorded: str | None, engine: Engine, log: Log) -> Image | None:
    """Return the recorded image if the engine has it or can pull it; None if it must be built."""
    if recorded is None:
        return None
    if "@" in recorded:
        if engine.image_id(recorded) is None:
            log(f"pulling {recorded}")
            engine.pull(recorded)
        pulled = engine.image_id(recorded)
        return Image(name=recorded, id=pulled) if pulled else None
    found = engine.image_id(images.tag_of(made))
    if found is None:
        return None
    expected = Image(name=images.tag_of(made), id=recorded)
    images.check(made, expected, found)
    return expected


def _build(made: CodePackage, engine: Engine, settings: Settings, log: Log) -> Image:
    fetch(made, settings)
    source_dir, locked = verified(made, settings)
    bento_dir = _materialise(made, settings).bento_dir if made.kind == "inference" else None
    return images.build(made, source_dir, locked, engine, settings, log, bento_dir=bento_dir)


def _find(handle: str, kind: str, settings: Settings, digest: str | None) -> Version:
    name = f"{handle}.{kind}"
    if digest is None:
        found = tracking.version(name, CURRENT, settings)
    else:
        found = next(iter(tracking.find_versions(name, {"taxiway.digest": digest}, settings)), None)
    if found is None:
        raise PackageNotRegisteredError(handle, kind, digest)
    return found


def _register(made: CodePackage, settings: Settings, provenance: Provenance | None) -> CodePackage:
    name = f"{made.handle}.{made.kind}"
    with exclusive(settings.home / "registry" / f"{name}.lock"):
        found = tracking.find_versions(name, {"taxiway.digest": made.digest}, settings)
        version = found[0] if found else _create(name, made, settings, provenance)
        kept = _read(version)
        if _certainty(made) > _certainty(kept):
            tracking.tag_version(name, version.number, _source_tags(made) | _content_tags(made), settings)
            kept = replace(made, version=version.number)
        current = tracking.version(name, CURRENT, settings)
        if current is None or current.number != version.number:
            tracking.set_alias(name, CURRENT, version.number, settings)
    return kept


def _certainty(made: CodePackage) -> int:
    """Return how well a package's commit is known: 0 not at all, 1 but for what was not committed, 2 for certain."""
    return 0 if not made.commit else 1 if made.is_dirty else 2


def _create(name: str, made: CodePackage, settings: Settings, provenance: Provenance | None) -> Version:
    described = {"taxiway.handle": made.handle, "taxiway.kind": made.kind}
    tracking.ensure_registered_model(name, described, settings)
    experiment = tracking.ensure_experiment(made.handle, settings)
    tags = described | _source_tags(made) | dict(who.tags(provenance))
    tags |= libraries.package_tags(made.manifest.get("libraries", {}))
    as_run = {"taxiway.kind": "package", "taxiway.package.kind": made.kind, "taxiway.digest": made.digest}
    # What a registration that was killed left is finished, not left beside a second one.
    begun = tracking.find_runs(experiment, as_run, settings)
    if begun:
        run = begun[0]
        tracking.reopen(run.run_id, tags | as_run, settings)
    else:
        title = f"package {made.kind} {made.digest[:12]}"
        run = tracking.create_run(experiment, title, tags | as_run, settings)
    tracking.upload(run.run_id, home_of(made.digest, settings) / FILES, FILES, settings)
    tracking.finish(run.run_id, "FINISHED", settings)
    text = f"The {made.kind} component of {made.handle}, source {made.source_hash[:12]}, lock {made.lock_hash[:12]}"
    return tracking.create_version(name, run.run_id, FILES, tags | _content_tags(made), text, settings)


def _content_tags(made: CodePackage) -> dict[str, str]:
    unnumbered = replace(made, version=None).to_json()
    return {"taxiway.digest": made.digest, "taxiway.package": json.dumps(unnumbered, sort_keys=True)}


def _source_tags(made: CodePackage) -> dict[str, str]:
    git = {"mlflow.source.git.commit": made.commit, "mlflow.source.git.repoURL": made.url}
    known = {key: value for key, value in git.items() if value}
    known["mlflow.project.entryPoint"] = made.kind
    return known | {"mlflow.source.git.dirty": str(made.is_dirty).lower()}


def _read(found: Version) -> CodePackage:
    made = CodePackage.from_json(json.loads(found.tags["taxiway.package"]))
    return replace(made, version=found.number)
